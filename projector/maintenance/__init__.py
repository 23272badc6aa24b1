"""Keeps the database small and fast: retention, and compaction of counters.

maintain.py         every step in a safe order, one maintainer at a time
retention_horizon.py  raises the age from which records are ignored
open_divergences.py  says what holds retention up
event_retention.py  deletes silent executions, each whole; their counts stay
silent_executions.py  finds the executions that may be deleted, and what leaves with them
archive.py          writes events into files before they are deleted
retention.py        deletes old refused records, gaps and job runs; their counts stay
merged_records.py   deletes merged records whose events are deleted
housekeeping.py     compacts shards, drops old minutes and hours
"""
