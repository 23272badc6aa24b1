"""Jobs over history: the same rules and the same store as the service, run by hand.

engine/            what every job shares: its id, its run, its positions, its throttle, its progress
sources/           where records of history come from: files, topics, tables
dry_run/           what a job would change, without writing

backfill           reads a source, normalizes it and stores it, until the source ends
renormalize        runs every stored row of older rules through the rules of today
renormalize_row    one stored row under the rules of today
redact             takes secrets that older rules let through out of every table
redact_statements  every SQL text of redact, but for events
redrive            runs quarantined records through the rules once more
export             writes stored events as canonical lines
forget             erases one execution and keeps its counts
forget_statements  every SQL text of forget
"""
