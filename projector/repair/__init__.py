"""Makes projections agree with the events again while writers and readers continue.

repair.py            rebuilds executions and calls, and corrects counters
repair_progress.py   reports on standard error what a repair is doing
"""
