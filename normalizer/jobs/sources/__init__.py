"""Sources of history: each has parts, and yields pages of records of a part.

source             the interface of every source
row_pages          pages of rows that fit in memory
field_defaults     fields for rows that lack them
file_source        lines of files and folders
file_list          finds the files, also those in folders
topic_source       offset ranges of a topic
table_source       rows of a PostgreSQL table or query
"""
