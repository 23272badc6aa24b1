"""Keeps the database small and fast: retention, compaction of counters, statistics.

maintain.py         every step in a safe order, one maintainer at a time
retention_horizon.py  raises the age from which records are ignored
open_divergences.py  says what holds retention up
event_retention.py  deletes old events; their counts stay
retention.py        deletes old executions, refused records, gaps and job runs; their counts stay
archive.py          writes events into files before they are deleted
merged_records.py   deletes merged records whose events are deleted
housekeeping.py     compacts shards, drops old minutes and hours, refreshes statistics
"""
