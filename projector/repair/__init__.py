"""Corrects projections that differ from the events, while writers and readers continue.

repair           rebuilds executions and calls, and corrects counters.
repair_progress  prints on standard error what a repair is doing.
"""
