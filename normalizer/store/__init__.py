"""One batch, one transaction: batches in, rows, quarantine and positions in PostgreSQL out.

retry         tries again, halves, waits
store         the only place that writes events
session       a transaction; the database's errors die there
sqlstate      whose fault an error is
source_positions  locked, checked, moved with their running totals
position_changes   moved by an operator's hand
protocol      whether this code may write there
grid          ids to partitions of the table
rows          the table `events` changed, or which rows it refuses
quarantine_writer  quarantine rows, in the transaction of their batch
store_statements  every SQL text of the store
quarantine_reader  what an operator may see of refused records
read_only     a short connection that only reads
migrate       a database at the newest version
"""
