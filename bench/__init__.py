"""Benchmarks on the embedded stack; each prints ratios measured in one run."""
