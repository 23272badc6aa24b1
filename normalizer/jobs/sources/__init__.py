"""The sources that a backfill reads: files, topics, and tables.

Each source has one or more parts, such as a file or a partition, and yields the records of a part
in pages. A page says which offsets it covers, so that a later run can continue after it. To add a
source, implement the protocol in `source`.

job_source      has the interface of every source.
row_pages       fetches pages of rows that fit in memory.
field_defaults  adds fields that records lack.
file_source     finds files, including those in folders, and reads their lines.
topic_source    reads ranges of offsets of a topic.
table_source    reads the rows of a PostgreSQL table or query.
"""
