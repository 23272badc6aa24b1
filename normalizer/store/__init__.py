"""Writes batches to PostgreSQL, with rows, quarantine, and positions in one transaction.

retry               retries a batch until it succeeds: backs off, halves it
store               `Store`, which claims partitions and writes batches (start here)
session             runs transactions on one connection, and translates the database's errors
patient_session     retries transactions until the database accepts them
reconnecting_connection  a connection that reopens after an outage
sqlstate            decides whose fault an error is
connect_error       says why no connection could be opened, and what to do
claims              claims partitions: who may write one, and from which position on
protocol            rejects a database with another protocol
source_positions    locks, checks, and moves positions with their running totals
write_transaction   the steps of a batch's transaction
sorted_outcomes     sorts a batch's outcomes by kind
batch_plan          plans what a batch writes, and whether it must merge rows first
rows                reads, inserts, and updates rows of the table `events`
row_isolation       finds the rows that the database rejects
quarantine_writer   stores rejected records in their batch's transaction
position_changes    moves or retires a position for an operator
quarantine_reader   shows rejected records to an operator
read_only           opens short connections that only read
migrate             applies the migrations, and reads their state
migration_files     the migration files, and the state of each
migration_script    prints the migrations as one script for psql
"""
