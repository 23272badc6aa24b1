"""Reads records and rows from files, for jobs and for a run without a broker.

A file may be plain, gzip, or zstd. It may be larger than memory, so every module reads it piece by
piece. It may also be truncated, and then the part before the cut is still read.

decompressed_file  reads the bytes of a file, and decompresses gzip and zstd.
record_lines       reads the lines of a stream, and the record in each line.
api_dumps          reads the rows of an API dump, which is a single JSON document.
"""
