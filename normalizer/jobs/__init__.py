"""Jobs over history: run by hand, with the rules and the store of the service.

engine/            what every job shares: its id, its run, its positions, its throttle, its progress
sources/           where records of history come from: files, topics, tables
dry_run/           what a job would change, without writing

backfill           reads a source, normalizes it and stores it, until the source ends
renormalize        updates every stored row of older rules to today's rules
rewrite_rows       rewrites rows in memory: which ones, and how
renormalize_row    renormalizes one stored row
redact             takes secrets that older rules missed out of every table
redact_statements  the SQL statements of redact, except for events
redrive            runs quarantined records through the rules again
export             writes stored events as canonical lines
event_relay        sends stored events to Kafka
event_relay_monitor  its /metrics, /livez and /readyz
event_pages        reads them for it, in an order that no late commit can slip under
relay_statements   its SQL statements
forget             erases one execution and keeps its counts
forget_statements  the SQL statements of forget
"""
