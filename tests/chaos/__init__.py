"""Processes die, servers go away; every test prints its seed."""
