"""Tests: unit (no I/O), property (laws), rules (house style), integration, chaos (real stack)."""
