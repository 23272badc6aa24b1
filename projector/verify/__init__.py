"""Compares projections with the events that they're computed from.

ranges          splits a scope into ranges that fit one short snapshot, or draws a sample.
queries/        has two queries for each projection, which must return the same rows.
row_comparison  compares the rows of one range in one statement, and tests itself.
verdict         has the verdict on one projection.
divergences     stores verdicts and open divergences.
verify          compares range by range, and gives a verdict on each projection.
"""
