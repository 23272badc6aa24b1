"""Reads records and rows from files, for jobs and for a run without a broker.

unpack        the bytes of a file, unpacked if it is gzip or zstd
record_lines  lines of a stream, and the record that a line holds
dumps         rows of an API dump
"""
