"""Watches a running consumer, and serves /metrics, /livez, and /readyz for it.

It runs on its own threads, so that a probe gets a response even while the consumer's event loop
hangs.

monitoring_server  decides what /metrics, /livez, and /readyz return, and stores drift findings.
probes             is the HTTP server for these.
gauges             reads the values that are measured at each scrape, such as the lag.
source_heartbeat   writes to source_heartbeats which partitions this process has, and log ends.
lag                polls Kafka and PostgreSQL at each scrape.
partition_lag      computes how far one position is behind its log.
"""
