"""Dry runs: find out what a job would change, without writing.

The option --dry-run of a job's command leads here. A dry run uses the job's own rules and reads the
real rows, but writes only to memory and to a temporary file.

backfill_dry_run   finds out what a backfill of a source would change.
rewrite_dry_run    finds out what renormalizing or redacting would change in stored rows.
overlay            keeps the rows that a dry run would have written.
diff               collects the changes: counts, old and new values, and examples.
"""
