"""Keeps the database small and fast: retention, compaction of counters, statistics.

maintain.py         every step in a safe order, one maintainer at a time
retention.py        deletes old events, executions and refused records; their counts stay
archive.py          writes events into files before they are deleted
merged_records.py   deletes notes on merged records whose event is gone
bookkeeping.py      deletes old gaps and runs of jobs
housekeeping.py     compacts shards, drops old minutes and hours, refreshes statistics
"""
