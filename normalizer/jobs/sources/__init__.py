"""Sources of history: each gives parts, and pages of records of a part.

source             what every source gives
row_pages          rows of a statement, as many as fit in memory
field_defaults     fields for rows that lack them
file_source        lines of files and folders
topic_source       offset ranges of a topic
table_source       rows of a PostgreSQL table or query
"""
