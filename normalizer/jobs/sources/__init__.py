"""Sources of history. Each has parts, and yields the records of a part in pages.

source             the interface of every source
row_pages          fetches pages of rows that fit in memory
field_defaults     adds fields that rows lack
file_source        reads lines of files and folders
file_list          finds the files, also those in folders
topic_source       reads offset ranges of a topic
table_source       reads rows of a PostgreSQL table or query
"""
