"""Compares projections with the events they are made from.

ranges.py          splits a scope into ranges that fit one short snapshot, or draws a sample
queries/           for each projection, two queries that must return the same rows
row_comparison.py  compares the rows of one range in one statement; self-tests
verdict.py         the verdict on one projection
divergences.py     stores verdicts and open divergences
verify.py          compares range by range and gives a verdict on each projection
"""
