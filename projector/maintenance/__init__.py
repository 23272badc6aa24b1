"""Keeps the database small and fast: deletes old rows and compacts counters.

maintain.py           runs every step in a safe order, one process at a time
retention_horizon.py  raises the time before which records are ignored as expired
open_divergences.py   tells why no execution may be deleted yet
event_retention.py    deletes executions without recent events, but keeps their counts
silent_executions.py  finds these executions, and those that must be deleted with them
archive.py            writes events to files before they're deleted
retention.py          deletes old quarantine entries, raw records, gaps, and job runs
merged_records.py     deletes entries about merged records whose events are deleted
housekeeping.py       adds up counter shards, and deletes old counts by minute and hour
"""
