"""Jobs over history, started by hand, with the rules and the store of the service.

engine/            the parts that all jobs share: id, run, positions, throttle, and progress
sources/           the sources of history: files, topics, and tables
dry_run/           finds out what a job would change, without writing

backfill           reads a source to its end, normalizes it, and stores it
renormalize        updates every stored row of older rules to today's rules
rewrite_rows       chooses rows and rewrites them in memory
renormalize_row    renormalizes one stored row
redact             redacts secrets that older rules missed, in every table
redact_statements  the SQL statements of redact for every table but events
redrive            runs quarantined records through the rules again
export             writes stored events as canonical lines
forget             erases one execution and keeps its counts
forget_statements  the SQL statements of forget
"""
