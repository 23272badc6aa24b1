"""Writes batches to PostgreSQL. Rows, quarantine, and positions change in one transaction.

write_retry         retries a batch until it's written: backs off, and halves it.
store               has `Store`, which claims partitions and writes batches (start reading here).
session             runs transactions on one connection, and translates the database's errors.
retrying_session    retries transactions until the database accepts them.
reconnecting_connection  reopens a connection after an outage.
sqlstate            decides whether a record, an outage, or our code caused an error.
connect_error       says why no connection could be opened, and what to do.
claims              claims partitions, i.e. decides which process may write one from where, and
                    records what an owner is working on, in case it's killed.
claim                has `Claim`, which says what a process may write, and from where.
claim_checks         checks cluster, group, table of shapes, and protocol before a claim.
source_positions     locks, checks, and moves positions with their running totals.
dedup_horizon        locks the offsets below which records may have been written before.
write_transaction    has the steps of the transaction that writes a batch.
committed_batch      has `CommittedBatch`, what a transaction has committed.
event_exclusions     reads which events a batch must ignore.
outcomes_by_kind     groups a batch's outcomes by kind.
batch_plan           plans what a batch writes, in one transaction or two.
stored_rows          reads and locks rows of the table `events`.
event_rows           inserts and updates them.
rejected_row_finder  finds the rows that the database rejects.
quarantine_writer    stores rejected records in their batch's transaction.
position_changes     moves or retires a position for an operator.
quarantine_reader    shows rejected records to an operator.
read_only            opens short connections that only read.
migrate              applies the migrations, and reads their state.
migration_files      reads the migration files, and the state of each.
psql_script          builds one script for psql from all migrations.
"""
