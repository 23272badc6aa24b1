"""Watches a running consumer, and serves /metrics, /livez, and /readyz for it.

monitor         decides what /metrics, /livez, and /readyz return
probes          the HTTP server for these, on its own threads
gauges          present values, read at each scrape
heartbeat       writes this process's partitions, and the ends of their logs, to source_heartbeats
lag             polls Kafka and PostgreSQL at each scrape
lag_statements  its SQL statements
partition_lag   computes how far one position is behind its log
"""
