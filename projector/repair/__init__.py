"""Corrects projections that differ from the events, while writers and readers continue.

repair.py            rebuilds executions and calls, and corrects counters
repair_progress.py   prints on standard error what a repair is doing
"""
