"""Reads records and rows from files, for jobs and for a run without a broker.

unpack        reads the bytes of a file, and decompresses gzip and zstd
record_lines  reads the lines of a stream, and the record in each line
dumps         reads the rows of an API dump
"""
