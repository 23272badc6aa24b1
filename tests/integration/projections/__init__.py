"""Projections against the fold of their events. Views, verify, and repair have own folders."""
