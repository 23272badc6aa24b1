"""Jobs over history: backfill, renormalize, redact, and redrive, and also export and forget.

An operator starts a job with a command. Jobs use the service's rules and its store, so they store
the same events as the service would. A job can be killed at any time, and the same command resumes
it. While the service has lag, jobs pause.

engine/            has the parts that jobs share: id, run, positions, throttle, and progress.
sources/           has the sources of history: files, topics, and tables.
dry_run/           finds out what a job would change, without writing.
backfill           reads a source to its end, normalizes its records, and stores the events.
renormalize        updates stored rows of older rules to the result of today's rules.
rewritten_page     reads pages of stored rows and rewrites them in memory.
renormalize_row    renormalizes one stored row.
redact             redacts secrets that older rules missed, in every table.
redrive            applies the rules to quarantined records again.
export             writes stored events as canonical lines.
forget             erases one execution and keeps its counts.
"""
