"""Files in, the records in them out, for jobs and for want of a broker.

unpack  bytes, unpacked if they are gzip or zstd
record_lines  lines, and the record that a line holds
dumps   rows of an API dump
"""
