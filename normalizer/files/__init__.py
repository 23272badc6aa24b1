"""Reads records and rows from files, for jobs and for a run without a broker.

A file may be plain, gzip, or zstd. It may be larger than memory, and it may be truncated. Each
module reads one layer of it, piece by piece.

unpack        reads the bytes of a file, and decompresses gzip and zstd.
record_lines  reads the lines of a stream, and the record in each line.
dumps         reads the rows of an API dump, which is a single JSON document.
"""
