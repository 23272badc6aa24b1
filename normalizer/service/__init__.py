"""The service, which reads records of a consumer group and writes canonical events to a store.

service          the loop: fetch, normalize, store, advance
critical_tasks   tasks that must run as long as the service does
membership       joins the group, and keeps its partitions claimed
watchdog         finds partitions that have records and make no progress
ownership        decides which partitions this process owns, by claims in PostgreSQL
record_store     the interface of a store, as the service needs it
suspects         finds the record that kills its process
unreachable      keeps track of partitions whose leader doesn't answer
group_offsets    commits positions to the group, for lag tools
turns            fetches from suspects and healthy partitions in turn
batch_filler     fetches until a batch is full or due
intake           normalizes records into a batch
slow_records     lets only its own partition wait for a slow record
set_aside        writes parts that wait for a lock separately from other partitions

Tracing, if OpenTelemetry's variables turn it on:

tracing          turns it on or off
batch_spans      makes the spans of a batch, from its fetch to its commit
producer_spans   finds the spans that produced its records, for links
span_attributes  names and attributes by the semantic conventions

Monitoring:

waits            asks the server what a slow batch is waiting for
metric_catalog   every metric, with its meaning and what to do about it
service_metrics  counters of the service
commit_metrics   counts the rows of a committed transaction
heartbeat        writes what this process owns, and its logs' ends, to source_heartbeats
lag              polls Kafka and PostgreSQL at each scrape
lag_statements   its SQL statements
partition_lag    computes how far one position is behind its log
gauges           present values, read at each scrape
monitor          /metrics, /livez, /readyz
probes           the HTTP server for these, on its own threads
"""
