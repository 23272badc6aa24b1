"""Makes projections agree with the events again while writers and readers go on.

repair.py            rebuilds executions and calls, corrects counters
repair_progress.py   tells on standard error what a repair does now
"""
