"""Writes batches to PostgreSQL: rows, quarantine and positions in one transaction.

retry               writes a batch until it succeeds: backs off, halves it
store               `Store`: claims partitions, writes batches; start here
session             transactions on one connection; translates the database's errors
patient_session     runs transactions again until the database takes them
reconnecting_connection  a connection that is opened again after an outage
sqlstate            decides from an error whose fault it is
connect_error       says why no connection could be opened, and what to do
claims              who may write a partition, and from which position on
protocol            refuses a database that other rules write to
source_positions    locks, checks and moves positions with their running totals
write_transaction   the steps of the transaction that writes a batch
sorted_outcomes     a batch's outcomes by kind: events, refusals, ignored
batch_plan          what a batch writes, and whether it must merge rows first
rows                reads, inserts and updates rows of the table `events`
row_isolation       finds the rows that the database refuses
quarantine_writer   stores refused records in the transaction of their batch
store_statements    every SQL text of the store
position_changes    moves or retires a position for an operator
quarantine_reader   shows refused records to an operator
read_only           a short connection that only reads
migrate             applies the migrations, and reads their state
migration_files     the files, and what state each can be in
migration_script    prints the migrations as one script for psql
"""
