"""Processes die and servers become unreachable. Every test prints its seed."""
