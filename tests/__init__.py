"""Tests: unit (no I/O), property (laws), rules (house style), integration and chaos (real stack)."""
