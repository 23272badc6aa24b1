"""Watches a running consumer and answers for it: /metrics, /livez, /readyz.

monitor         /metrics, /livez, /readyz
probes          the HTTP server for these, on its own threads
gauges          present values, read at each scrape
heartbeat       writes what this process owns, and its logs' ends, to source_heartbeats
lag             polls Kafka and PostgreSQL at each scrape
lag_statements  its SQL statements
partition_lag   computes how far one position is behind its log
"""
