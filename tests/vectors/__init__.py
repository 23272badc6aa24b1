"""The rules of the wire as data: what a record must become, written by hand from the spec.

corpus.py    the vectors: read, made into records, sent through the core
expect.py    what a vector says beside what the core gave
freeze.py    the second layer: every line and row in full, written once by a command
"""
