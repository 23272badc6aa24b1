"""Reads records and rows from files, for jobs and for a run without a broker.

unpack        reads the bytes of a file, uncompressed if it's gzip or zstd
record_lines  reads lines of a stream, and the record in a line
dumps         reads the rows of an API dump
"""
