"""The service: reads records of a consumer group, writes canonical events to a store.

service          the loop: fetch, normalize, store, advance
critical_tasks   tasks that must run as long as the service does
membership       joins the group, and keeps its partitions claimed
watchdog         finds partitions that have records and make no progress
ownership        which partitions this process owns, by claims in PostgreSQL
record_store     what the service needs of a store
suspects         partitions whose last owner was killed
unreachable      partitions whose leader does not answer
group_offsets    commits positions to the group, for lag tools
turns            fetches from suspects and healthy partitions in turns
batch_filler     fetches until a batch is full or due
intake           normalizes records into a batch
slow_records     lets records that take long wait apart, with their partitions alone
set_aside        writes parts that wait, apart from the batches of other partitions

Tracing, where OpenTelemetry's variables turn it on:

tracing          turns it on or off
batch_spans      the spans of a batch, from its fetch to its commit
producer_spans   the spans that produced its records, for links
span_attributes  names and attributes, by the semantic conventions

Monitoring:

waits            asks the server what a batch waits for that takes long
metric_catalog   every metric, with its meaning and what to do about it
service_metrics  counters of the service
commit_metrics   counts what a committed transaction wrote
heartbeat        writes what this process owns, and its logs' ends, to source_heartbeats
lag              polls Kafka and PostgreSQL at each scrape
lag_statements   its SQL statements
partition_lag    how far one position is behind its log
gauges           present values, read at each scrape
monitor          /metrics, /livez, /readyz
probes           the HTTP server for them, on its own threads
"""
