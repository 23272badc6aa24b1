"""Benchmarks on the embedded stack. Each prints ratios measured in one run."""
