"""Dry runs: what a job would change, without writing.

backfill_dry_run   reads a source and finds out what a backfill of it would change
rewrite_dry_run    what renormalizing or redacting would change in stored rows
overlay            rows that a dry run would have written
diff               counts, values and examples of what would change
"""
