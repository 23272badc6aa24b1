"""Projections of the canonical events, grouped by attempts and status."""
