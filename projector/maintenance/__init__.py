"""Keeps the database small and fast: deletes old rows and compacts counters.

maintain            runs every step in a safe order, one process at a time.
event_retention     deletes executions without recent events, but keeps their counts.
expired_executions  finds these executions, and those that must be deleted with them.
archive             writes events to files before they're deleted.
retention           deletes old quarantine entries, raw records, gaps, and job runs.
merged_records      deletes entries about merged records whose events are deleted.
counter_retention   adds up counter shards, and deletes old counts by minute and hour.
"""
