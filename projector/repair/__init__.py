"""Corrects projections that differ from the events, while writers and readers continue.

repair  rebuilds executions and calls, and corrects counters.
"""
