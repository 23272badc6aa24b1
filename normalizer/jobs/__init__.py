"""Jobs over history. An operator starts them, and they use the rules and the store of the service.

engine/            the parts that all jobs share: id, run, positions, throttle, and progress
sources/           the sources of history: files, topics, and tables
dry_run/           finds out what a job would change, without writing
backfill           reads a source to its end, normalizes its records, and stores the events
renormalize        updates stored rows of older rules to the result of today's rules
rewrite_rows       reads pages of stored rows and rewrites them in memory
renormalize_row    renormalizes one stored row
redact             redacts secrets that older rules missed, in every table
redact_statements  the SQL statements of redact for every table except events
redrive            applies the rules to quarantined records again
export             writes stored events as canonical lines
forget             erases one execution and keeps its counts
forget_statements  the SQL statements of forget
"""
