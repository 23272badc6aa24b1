"""Keeps the database small and fast, by retention and compaction of counters.

maintain.py         runs every step in a safe order, one maintainer at a time
retention_horizon.py  raises the age from which records are ignored
open_divergences.py  says what blocks retention
event_retention.py  deletes silent executions completely, but keeps their counts
silent_executions.py  finds the executions that may be deleted, and those tied to them
archive.py          writes events into files before they are deleted
retention.py        deletes old rejected records, gaps, and job runs
merged_records.py   deletes merged records whose events are deleted
housekeeping.py     compacts shards, and drops old minutes and hours
"""
