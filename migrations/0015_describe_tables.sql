-- Comments for the columns of all tables.
--
-- Columns that need an explanation are described where their table is created, and all others here.
-- A name means the same in every table, unless a line names the table.

do $$
declare
    described record;
begin
    for described in
        with meaning (table_name, column_name, meaning) as (
            values
                -- Coordinates: which record an event or an entry came from.
                ('', 'source_topic',
                 'Coordinates of the record: the Kafka topic, or the name of a job''s source.'),
                ('', 'source_incarnation',
                 'Coordinates of the record: how often the topic was deleted and created '
                 'again.'),
                ('', 'source_partition', 'Coordinates of the record: the partition.'),
                ('', 'source_offset', 'Coordinates of the record: its offset.'),
                ('', 'source_index', 'Coordinates of the event: its index in the record, from 0.'),
                ('', 'topic', 'Kafka topic, or the name of a file or table that a job reads.'),
                ('', 'incarnation', 'How often the topic was deleted and created again, from 0.'),
                ('', 'partition', 'Partition of the topic.'),

                -- The canonical event. Source: docs/spec/envelope.md.
                ('', 'event_id', 'Id of the event.'),
                ('', 'execution_id', 'Id of the execution.'),
                ('', 'event_type', 'Type of the event, in the producer''s spelling.'),
                ('', 'step', 'Name of the step; empty if there is none.'),
                ('', 'status', 'Canonical status, in capitals.'),
                ('', 'attempts', 'Number of attempts before this one; 0 is the first attempt.'),
                ('', 'max_attempts',
                 'Number of attempts that are allowed in all; null if not declared.'),
                ('', 'created_at', 'When the event happened, by the producer''s clock.'),
                ('', 'worker_id', 'Id of the worker.'),
                ('', 'command_id', 'Id of the command; null if the event names none.'),
                ('call_facts', 'command_id', 'Id of the command.'),
                ('', 'iteration', 'Index in a loop, from 0; null outside of loops.'),
                ('', 'node_type', 'Kind of step, in the producer''s words.'),
                ('', 'catalog_id', 'Id of the playbook in the catalog.'),
                ('', 'parent_event_id', 'Id of the event that caused this one.'),
                ('', 'parent_execution_id', 'Id of the execution that started this one.'),
                ('', 'duration', 'Seconds that the call took, as the producer measured them.'),
                ('', 'error', 'Error text; null if there is none.'),
                ('', 'context', 'The producer''s context, as JSON.'),
                ('', 'result', 'The producer''s result, as JSON.'),
                ('', 'meta', 'The producer''s meta object, with the canonical attempts in it.'),
                ('', 'extra', 'What the producer sent beyond the envelope.'),
                ('', 'coercions',
                 'Values whose meaning was changed or guessed, with the original.'),
                ('', 'evidence',
                 'Three digits: where attempts, status and created_at came from (see '
                 'normalizer.events).'),
                ('', 'shape', 'Wire shape of the record that brought it.'),
                ('', 'normalizer_version', 'Version of the rules that made the row.'),
                ('redrive_attempts', 'normalizer_version', 'Version of the rules of the try.'),
                ('', 'headers', 'Headers of the record, redacted.'),
                ('quarantine_raw', 'headers', 'Headers of the record; values are base64.'),
                ('', 'trace_id', 'Trace that the record belongs to, from its traceparent header.'),
                ('', 'recorded_at',
                 'Time of the record in Kafka: the producer''s clock under CreateTime, the '
                 'broker''s under LogAppendTime; null without one.'),
                ('', 'merge_flags',
                 'Bits that say how reports were merged (see normalizer.events).'),
                ('', 'batch_id', 'Number of the transaction that wrote the row.'),
                ('', 'ingested_at', 'When the row was stored.'),

                -- Singletons and positions.
                ('', 'one_row', 'Always true: the table has one row.'),
                ('', 'expired_before',
                 'Events whose record has an earlier time in Kafka are ignored.'),
                ('', 'cluster_id',
                 'Id of the Kafka cluster.'),
                ('source_positions', 'owner', 'Process that claimed the partition.'),
                ('jobs', 'owner', 'Process that runs the job.'),
                ('', 'epoch', 'Number of the claim; a writer with a lower epoch is fenced.'),
                ('', 'start_offset', 'Offset of the first record to read.'),
                ('', 'next_offset', 'Offset of the next record to read.'),
                ('dedup_horizon', 'next_offset',
                 'An upper bound: no writer has written a record from this offset on. Jobs '
                 'announce 65,536 offsets ahead of what they write.'),
                ('job_parts', 'end_offset', 'Offset to stop before; null if the end is not known.'),
                ('', 'records', 'Number of records that were read.'),
                ('', 'holes', 'Number of offsets without a record.'),
                ('', 'outcomes', 'Number of outcomes, the sum of the columns that follow.'),
                ('', 'stored', 'Number of events that became rows.'),
                ('', 'duplicate', 'Number of events that were stored already and added nothing.'),
                ('', 'merged', 'Number of events that were stored already and changed the row.'),
                ('', 'quarantined', 'Number of rejected records and events.'),
                ('', 'ignored',
                 'Number of records and events that need no row: tombstones, empty batches, '
                 'expired events.'),
                ('', 'last_offset', 'Offset of the last record that was read.'),
                ('', 'last_recorded_ms', 'Kafka time of that record, milliseconds since 1970.'),
                ('', 'last_crc',
                 'CRC-32 of that record, to recognize a topic that was created again.'),
                ('', 'log_end', 'Offset after the last committed record.'),
                ('', 'mark_at', 'When mark_offset was the end of the log.'),
                ('', 'heartbeat_at', 'When the owner last wrote this row.'),

                -- Records of what operators and retention did.
                ('', 'change_id', 'Number of the change.'),
                ('', 'at', 'When it was done.'),
                ('', 'who', 'Who did it.'),
                ('', 'why', 'The reason that was given.'),
                ('', 'action', 'skip, rewind or retire.'),
                ('', 'from_offset', 'next_offset before the change.'),
                ('', 'to_offset', 'next_offset after the change.'),
                ('gaps', 'reason', 'hole, expired or skipped.'),
                ('gaps', 'block', 'First missing offset / 1,024: neighbours share a row.'),
                ('', 'found_at', 'When it was found.'),
                ('archived_rows', 'events', 'Number of events that retention deleted.'),
                ('archived_rows', 'quarantined',
                 'Number of quarantine entries that retention deleted.'),
                ('archived_rows', 'holes', 'Number of offsets in the gaps that retention deleted.'),
                ('archived_rows', 'job_id', 'Job that wrote the rows; empty if the service did.'),
                ('archived_rows', 'run', 'Run of that job; 0 if the service wrote the rows.'),
                ('drift_findings', 'field', 'Top-level key of the record.'),
                ('drift_findings', 'type',
                 'JSON type of the value: object, list, text, number or bool.'),
                ('drift_findings', 'kind', 'unknown_key or changed_type.'),
                ('drift_findings', 'example', 'A value of the field, redacted and shortened.'),

                -- Quarantine.
                ('', 'quarantine_id', 'Number of the entry.'),
                ('quarantine', 'reason', 'Reason, one of a fixed list.'),
                ('quarantine', 'detail',
                 'The reason in a sentence, with the path inside the record.'),
                ('quarantine', 'sqlstate', 'SQLSTATE, if PostgreSQL refused the row.'),
                ('', 'value_bytes', 'Size of the record''s value in bytes.'),
                ('quarantine', 'quarantined_at', 'When the record was refused.'),
                ('quarantine_raw', 'key', 'Key of the record, as received.'),
                ('quarantine_raw', 'value', 'Value of the record, as received.'),
                ('quarantine_raw', 'value_sha256', 'SHA-256 of the whole value.'),
                ('quarantine_raw', 'whole',
                 'True if value holds all bytes, false if only the first 64 KiB.'),
                ('quarantine_raw', 'kept_at', 'When the bytes were stored.'),
                ('merged_records', 'offset_block',
                 'Offset / 4,096: the block that all offsets of the row are in.'),
                ('merged_records', 'source_offsets',
                 'Offsets of the records, one element for each event.'),
                ('merged_records', 'source_indexes',
                 'Indexes in those records, in the same order.'),
                ('merged_records', 'event_ids',
                 'Ids of the rows that they were merged into, in the same order.'),

                -- Jobs.
                ('', 'job_id', 'Id of the job, made from its kind and its options.'),
                ('', 'run', 'Number of the run, from 1.'),
                ('jobs', 'kind', 'backfill, renormalize, redrive or redact.'),
                ('jobs', 'spec', 'Options of the job, as JSON.'),
                ('jobs', 'state', 'running, or how the run ended.'),
                ('jobs', 'reason', 'Why the run ended; empty if there is nothing to add.'),
                ('jobs', 'records_per_s', 'Speed, in records per second.'),
                ('jobs', 'throttled_by_lag_s',
                 'Seconds that the run paused because the service lagged.'),
                ('jobs', 'throttled_by_rate_s',
                 'Seconds that the run paused to keep to its rate limit.'),
                ('jobs', 'started_at', 'When the run started.'),
                ('jobs', 'updated_at', 'When the runner last wrote this row.'),
                ('jobs', 'ended_at', 'When the run ended; null while it runs.'),
                ('job_parts', 'changed', 'Number of stored rows that the job changed.'),
                ('job_parts', 'unchanged', 'Number of stored rows that the job left as they were.'),
                ('job_parts', 'refused', 'Number of stored rows that today''s rules would refuse.'),
                ('job_refusals', 'reason',
                 'A reason of normalizer.quarantine, or not_one_event, key_changes or '
                 'merged_row.'),
                ('job_refusals', 'detail', 'The reason in a sentence.'),
                ('redrive_attempts', 'tried_at', 'When it was tried.'),
                ('redrive_attempts', 'tried_by', 'Who started the redrive.'),
                ('redrive_attempts', 'outcome',
                 'redriven, refused or gone: retention or an erasure took it.'),
                ('redrive_attempts', 'detail', 'The outcome in a sentence.'),

                -- Projections.
                ('event_kinds', 'event_class', 'The one type that all its spellings stand for.'),
                ('event_kinds', 'subject', 'What the event is about: execution or call.'),
                ('event_kinds', 'role',
                 'An execution begins or ends. Of a call: its command was issued, claimed, '
                 'started or ended; done: the call itself reported its end.'),
                ('event_kinds', 'outcome', 'Outcome that the type alone implies; empty if none.'),
                ('', 'shard',
                 'Counter shard; -1 is the archived part. Only sums over all shards mean '
                 'anything.'),
                ('shards', 'shard', 'Number of the shard.'),
                ('maintenance_state', 'subject',
                 'What the row is about: minutes, hours or merged_records.'),
                ('maintenance_state', 'kept_from',
                 'Rows of earlier times are deleted, or will be.'),
                ('maintenance_state', 'compacted_to', 'Shards of earlier times were added up.'),
                ('maintenance_state', 'full_scan_at',
                 'When all times were last searched for shards to add up.'),
                ('', 'minute', 'Start of the minute, UTC.'),
                ('', 'hour', 'Start of the hour, UTC.'),
                ('quarantine_hours', 'hour', 'Start of the hour of quarantined_at, UTC.'),
                ('coercion_hours', 'hour',
                 'Start of the hour of recorded_at, or of created_at without it, UTC.'),
                ('arrival_hours', 'hour',
                 'Start of the hour of recorded_at, or of created_at without it, UTC.'),
                ('arrival_hours', 'worker_id', 'Id of the worker; empty if the event names none.'),
                ('', 'attempts_defaulted',
                 'Number of them that do not say which attempt they are of.'),
                ('arrival_hours', 'status_from_name',
                 'Number of them whose status was derived from their type.'),
                ('arrival_hours', 'time_from_log',
                 'Number of them whose time is Kafka''s, because the producer gave none.'),
                ('', 'events', 'Number of events.'),
                ('forgotten_executions', 'events', 'How many of its events were deleted.'),
                ('coercion_hours', 'coercions', 'Number of coercions.'),
                ('coercion_hours', 'rule', 'Name of the rule that changed or guessed the value.'),
                ('quarantine_hours', 'refused', 'Number of refusals.'),
                ('quarantine_hours', 'reason', 'Reason, as in normalizer.quarantine.'),
                ('', 'playbook', 'Path of the playbook; empty while it is not known.'),
                ('execution_hours', 'outcome', 'BEGUN, or how the executions ended.'),
                ('execution_hours', 'executions', 'Number of executions.'),
                ('', 'first_at', 'created_at of the first event.'),
                ('', 'begin_at', 'created_at of the first event that begins the execution.'),
                ('', 'last_at', 'created_at of the last event.'),
                ('', 'last_event_ranked', 'The last event (see projector.execution_facts).'),
                ('', 'active_at',
                 'created_at of the last event that is no end (see projector.execution_facts).'),
                ('', 'highest_attempts', 'Highest attempts of its events.'),
                ('', 'playbook_ranked', 'The playbook (see projector.execution_facts).'),
                ('', 'completed', 'Number of events that end it as COMPLETED.'),
                ('', 'completed_at', 'created_at of the first event that ends it as COMPLETED.'),
                ('', 'failed', 'Number of events that end it as FAILED.'),
                ('', 'failed_at', 'created_at of the first event that ends it as FAILED.'),
                ('', 'cancelled', 'Number of events that end it as CANCELLED.'),
                ('', 'cancelled_at', 'created_at of the first event that ends it as CANCELLED.'),
                ('', 'counted_begun', 'Hour of its begin that roll-ups count it under.'),
                ('', 'counted_outcome',
                 'Outcome that roll-ups count it under; empty while it runs.'),
                ('', 'counted_ended', 'Hour of its end that roll-ups count it under.'),
                ('call_facts', 'begun_at', 'created_at of the first event of the attempt.'),
                ('call_facts', 'issued_at', 'When the command was issued.'),
                ('call_facts', 'claimed_at', 'When a worker claimed the command.'),
                ('call_facts', 'started_at', 'When the worker started.'),
                ('call_facts', 'finished_at', 'When the attempt ended; null while it runs.'),
                ('call_facts', 'duration_ranked',
                 'Who reported it (0 the call, 1 its command), when (projector.encode_time), then '
                 'the duration in microseconds (projector.encode_bigint). The least wins; '
                 'projector.call_duration_us reads it.'),
                ('call_facts', 'error_ranked',
                 'The rank of a failing end, as outcome_ranked, then its error text, at most '
                 '1,000 characters. The least wins; projector.call_error reads it.'),
                ('call_facts', 'step_ranked',
                 'Ranked value (projector.encode_time: 17 characters that sort by time, then the '
                 'value; the least wins): name of the step.'),
                ('call_facts', 'worker_ranked', 'Ranked value, as step_ranked: id of the worker.'),
                ('call_facts', 'max_attempts_ranked',
                 'Ranked value, as step_ranked: allowed attempts (projector.encode_bigint).'),
                ('', 'duration_us', 'Sum of the known durations, in microseconds.'),
                ('', 'calls', 'Number of finished attempts (rows of projector.calls).'),
                ('', 'timed', 'Number of attempts with a known duration.'),
                ('', 'exhausted', 'Number of failed attempts that were the last allowed one.'),
                ('', 'inferred', 'Number of attempts whose attribution in calls is inferred.'),
                ('call_times', 'measure', 'What was measured: duration, queue or backoff.'),
                ('call_times', 'bucket',
                 'Bucket b holds 2^(b/8) up to 2^((b+1)/8) microseconds, -1 holds zero '
                 '(projector.bucket_of).'),
                ('error_hours', 'error_class',
                 'Error text without ids, e-mail addresses and quoted parts '
                 '(projector.error_class_of).'),
                ('retry_minutes', 'first_tries', 'Number of attempts with attempts = 0.'),
                ('retry_minutes', 'retries', 'Number of attempts with attempts > 0.'),

                -- Verification.
                ('', 'verification_id', 'Number of the comparison.'),
                ('', 'projection', 'Name of the compared projection.'),
                ('verifications', 'scope',
                 'What was compared: all, a range of hours, or a sample.'),
                ('verifications', 'verdict', 'match, divergent or inconclusive.'),
                ('verifications', 'since',
                 'First hour that was compared; null without a limit.'),
                ('verifications', 'until',
                 'End of the last hour that was compared; null without a limit.'),
                ('verifications', 'compared',
                 'Number of rows that were compared; 0 if there was nothing to compare.'),
                ('verifications', 'divergent', 'Number of rows that differed.'),
                ('verifications', 'archived',
                 'Number of rows that were left out because retention deleted some of their '
                 'events.'),
                ('verifications', 'detail', 'What differed, or why there is no verdict.'),
                ('verifications', 'verified_at', 'When the comparison ended.'),
                ('verifications', 'took_s', 'Seconds that the comparison took.'),
                ('divergences', 'divergence_id', 'Number of the divergence.'),
                ('divergences', 'execution_id',
                 'Execution whose row differs; null if another kind of row does.'),
                ('divergences', 'hour',
                 'Hour whose counts differ; null if another kind of row does.'),
                ('divergences', 'noted_at', 'When the divergence was noted.'),

                -- Migrations.
                ('', 'version', 'Digits at the front of the file''s name.'),
                ('applied', 'name', 'Name of the file without its ending.'),
                ('applied', 'checksum', 'SHA-256 of the file, in hex.'),
                ('applied', 'applied_at', 'When the file was applied.'),
                ('applied', 'applied_by', 'Role that applied it.')
        )
        select   distinct on (class.oid, attribute.attnum)
                 class.oid::regclass as table_name, attribute.attname as column_name,
                 meaning.meaning
        from     pg_class as class
        join     pg_attribute as attribute on attribute.attrelid = class.oid
        join     meaning on meaning.column_name = attribute.attname
                        and meaning.table_name in ('', class.relname)
        where    class.relnamespace in (
                     'normalizer'::regnamespace, 'projector'::regnamespace,
                     'migrations'::regnamespace
                 )
        and      class.relkind = 'r'
        and      attribute.attnum > 0
        and      col_description(class.oid, attribute.attnum) is null
        order by class.oid, attribute.attnum, meaning.table_name desc
    loop
        execute format(
            'comment on column %s.%I is %L',
            described.table_name, described.column_name, described.meaning
        );
    end loop;
end
$$;

insert into migrations.applied (version) values ('0015') on conflict do nothing;
