"""Sources of history. Each has one or more parts, and yields the records of a part in pages.

source             the interface of every source
row_pages          fetches pages of rows that fit in memory
field_defaults     adds fields that records lack
file_source        reads the lines of files and folders
file_list          finds the files, including those in folders
topic_source       reads ranges of offsets of a topic
table_source       reads the rows of a PostgreSQL table or query
"""
