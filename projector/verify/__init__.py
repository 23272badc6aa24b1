"""Compares projections with the events they are made from.

ranges.py    cuts a scope into ranges that fit one short snapshot
queries/     for each projection two queries that must give the same rows
verify.py    compares range by range and gives a verdict on each projection
"""
