"""Dry runs: find out what a job would change, without writing.

backfill_dry_run   what a backfill of a source would change
rewrite_dry_run    what renormalizing or redacting would change in stored rows
overlay            the rows that a dry run would have written
diff               counts, values, and examples of the changes
"""
