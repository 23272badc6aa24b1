-- The schema normalizer holds the log of canonical events, and the positions and totals that prove
-- that no record was lost or counted twice. PostgreSQL 15 or newer is required.
--
-- Three roles use the schema. The owner runs migrations, normalizer_writer runs the service and the
-- jobs, and projector_reader may only read views.

create schema normalizer;

do $$
declare
    wanted text;
begin
    foreach wanted in array array[
        'normalizer_writer', 'projector_reader',
        -- Rejected bytes may contain secrets, so reading and redriving them needs a role of its
        -- own.
        'normalizer_redriver'
    ] loop
        if not exists (select from pg_roles where rolname = wanted) then
            begin
                execute format('create role %I nologin', wanted);
            exception
                -- Roles belong to the whole cluster, so the migration of another database may
                -- create this role at the same time.
                when duplicate_object or unique_violation then null;
                when insufficient_privilege then
                    raise insufficient_privilege using
                        message = format('role %s is missing, and %s may not create it',
                                         wanted, current_user),
                        hint = format(
                            'an administrator types: create role normalizer_writer; '
                            'create role projector_reader; create role normalizer_redriver; '
                            'grant projector_reader to %I; or runs deploy/postgres/roles.sql',
                            current_user
                        );
            end;
        end if;
    end loop;
    execute format(
        'alter database %I set search_path = "$user", public, normalizer', current_database()
    );
end
$$;


-- Holds what all writers must agree on. `protocol` is the version of the rules that derive the id
-- of an event. Processes with different rules would store one event under two ids, so a migration
-- that changes the rules raises the version. It also raises all epochs, which stops every process
-- that still uses the old rules:
--     update normalizer.layout set protocol = 2;
--     update normalizer.source_positions set epoch = epoch + 1;
--     update normalizer.jobs set epoch = epoch + 1;
create table normalizer.layout (
    protocol integer not null default 1,
    one_row  boolean not null default true primary key,
    constraint layout_one_row check (one_row)
);

comment on table normalizer.layout is
    'Private: one row with the settings that every writer must agree on.';
comment on column normalizer.layout.protocol is
    'A program with another protocol refuses to write, because it would give events other ids.';
comment on column normalizer.layout.one_row is 'Always true: the table has one row.';

insert into normalizer.layout default values;

-- The clock of gen_snowflake(). An id consists of 41 bits for the milliseconds since 2024-01-01
-- UTC, 10 bits for the node, and 12 bits for a number within the millisecond. The clock is one
-- number that combines the first and the last of these: milliseconds << 12 | number. It only ever
-- grows. Once all numbers of a millisecond are used, it moves on to the next millisecond. If the
-- system's clock is set back, it continues from its last value, so no id is repeated.
create sequence normalizer.snowflake_clock as bigint minvalue 0 start 0;
comment on sequence normalizer.snowflake_clock is
    'Private: the clock of gen_snowflake(), one ascending number: milliseconds since 2024-01-01 '
    'UTC << 12, plus a number within the millisecond.';


-- Returns an id with the time of the given millisecond, or with a later one if the clock is already
-- past it. Only the owner may call this function, because a time far in the future would move the
-- clock there, and every later id would get that time too. The node is always 1023. With another
-- one, such as 64, the id could be mistaken for one that NoETL's own database function made
-- (docs/spec/wire-shapes.md#g2).
create function normalizer.snowflake_at(unix_ms bigint) returns bigint
    language plpgsql volatile
as $$
declare
    tick bigint;
begin
    -- Take this lock, because only one session at a time may advance the clock. Only the owner may
    -- lock the table in this mode, and readers of the table don't wait for the lock. An advisory
    -- lock wouldn't be safe, because any role could take it and block every writer.
    --
    -- The block always ends with an exception, because rolling it back releases the lock at once.
    -- Otherwise the lock would be held until the caller's transaction ends. A rollback doesn't undo
    -- setval(), so the clock keeps its new value.
    begin
        lock table normalizer.layout in exclusive mode;
        select greatest(clock.last_value + 1, (snowflake_at.unix_ms - 1704067200000) << 12)
        into   tick
        from   normalizer.snowflake_clock as clock;
        perform setval('normalizer.snowflake_clock', tick);
        raise exception using errcode = 'NZ001';
    exception
        when sqlstate 'NZ001' then null;
    end;
    return ((tick >> 12) << 22) | (1023::bigint << 12) | (tick & 4095);
end
$$;

revoke execute on function normalizer.snowflake_at(bigint) from public;


create function normalizer.gen_snowflake() returns bigint
    language plpgsql volatile security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    return normalizer.snowflake_at(floor(extract(epoch from clock_timestamp()) * 1000)::bigint);
end
$$;

comment on function normalizer.gen_snowflake() is
    'A new event id in the application''s layout. Used if nobody else provides one.';

revoke execute on function normalizer.gen_snowflake() from public;

grant execute on function normalizer.gen_snowflake() to normalizer_writer;

create sequence normalizer.batch_id as bigint;
comment on sequence normalizer.batch_id is
    'Private: the numbers of the transactions that write events. A rollback leaves one out.';


create table normalizer.events (
    event_id            bigint           not null default normalizer.gen_snowflake(),
    execution_id        bigint           not null,
    event_type          text             not null,
    step                text             not null default '',
    status              text             not null,
    attempts            integer          not null default 0,
    max_attempts        integer,
    created_at          timestamptz      not null default now(),
    worker_id           text,
    command_id          text,
    iteration           integer,
    node_type           text,
    catalog_id          bigint,
    parent_event_id     bigint,
    parent_execution_id bigint,
    duration            double precision,
    error               text,
    context             jsonb,
    result              jsonb,
    meta                jsonb            not null default '{"attempts": 0}',
    extra               jsonb,
    coercions           jsonb,
    evidence            smallint         not null default 212,
    shape               text             not null default 'sql',
    normalizer_version  integer          not null default 0,
    source_topic        text             not null default 'sql',
    source_incarnation  integer          not null default 0,
    source_partition    integer          not null default 0,
    source_offset       bigint           not null default 0,
    source_index        integer          not null default 0,
    headers             jsonb,
    trace_id            text,
    recorded_at         timestamptz,
    merge_flags         smallint         not null default 0,
    batch_id            bigint           not null default nextval('normalizer.batch_id'),
    ingested_at         timestamptz      not null default now(),
    constraint events_pkey primary key (event_id),
    constraint events_execution_id_above_zero check (execution_id > 0),
    constraint events_attempts_from_zero check (attempts between 0 and 32767),
    constraint events_call_done_outcome check (
        event_type not in ('call.done', 'action_done', 'call_done')
        or status in ('COMPLETED', 'FAILED', 'ERROR', 'CANCELLED')
    ),
    -- The projections use these texts in index keys, and PostgreSQL rejects a key that's too long.
    -- With these limits, a key has room for a text of 1,500 bytes and the path of a playbook. The
    -- normalizer has narrower limits of its own, so these affect only rows that somebody inserts by
    -- hand.
    constraint events_words_bounded check (
        least(octet_length(event_type), octet_length(status)) > 0
        and octet_length(event_type) <= 200
        and greatest(octet_length(status), octet_length(shape)) <= 100
        and greatest(
            octet_length(step), octet_length(worker_id), octet_length(command_id),
            octet_length(source_topic)
        ) <= 1500
    ),
    constraint events_times_in_calendar check (
        least(created_at, recorded_at, ingested_at) >= '0001-01-01 00:00:00+00'
        and greatest(created_at, recorded_at, ingested_at) < '10000-01-01 00:00:00+00'
    ),
    constraint events_duration_possible check (duration between 0 and 315360000),
    -- Each of these columns holds either null or, depending on the column, an object or a list.
    -- Reports of the same event are merged key by key, which isn't possible with any other JSON
    -- value, not even with a JSON null.
    constraint events_json_forms check (
        jsonb_typeof(meta) = 'object' and jsonb_typeof(extra) = 'object'
        and jsonb_typeof(headers) = 'object' and jsonb_typeof(coercions) = 'array'
    )
) with (
    -- Run autovacuum often, because it adds new block ranges to the BRIN index. The alternative,
    -- `autosummarize`, sends a request for each new block range. At a few hundred events a second,
    -- the queue of these requests overflows, and the server logs each one that it drops.
    autovacuum_vacuum_insert_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0.01
);

comment on table normalizer.events is
    'The log of canonical events: one row for each event, whatever wire shape brought it. The '
    'columns are the fields of the canonical envelope (docs/spec/envelope.md).';
comment on column normalizer.events.event_id is 'Id of the event.';
comment on column normalizer.events.execution_id is 'Id of the execution.';
comment on column normalizer.events.event_type is 'Type of the event, in the producer''s spelling.';
comment on column normalizer.events.step is 'Name of the step, or empty if there is none.';
comment on column normalizer.events.status is 'Canonical status, in capitals.';
comment on column normalizer.events.attempts is
    'Number of attempts before this one, so 0 is the first attempt.';
comment on column normalizer.events.max_attempts is
    'Number of attempts that are allowed in all, or null if not declared.';
comment on column normalizer.events.created_at is
    'When the event happened, by the producer''s clock.';
comment on column normalizer.events.worker_id is 'Id of the worker.';
comment on column normalizer.events.command_id is
    'Id of the command, or null if the event names none.';
comment on column normalizer.events.iteration is
    'Index in a loop, from 0, or null outside of loops.';
comment on column normalizer.events.node_type is 'Kind of step, in the producer''s words.';
comment on column normalizer.events.catalog_id is 'Id of the playbook in the catalog.';
comment on column normalizer.events.parent_event_id is 'Id of the event that caused this one.';
comment on column normalizer.events.parent_execution_id is
    'Id of the execution that started this one.';
comment on column normalizer.events.duration is
    'Seconds that the call took, as the producer measured them.';
comment on column normalizer.events.error is 'Error text, or null if there is none.';
comment on column normalizer.events.context is 'The producer''s context, as JSON.';
comment on column normalizer.events.result is 'The producer''s result, as JSON.';
comment on column normalizer.events.meta is
    'The producer''s meta object, with the canonical attempts in it.';
comment on column normalizer.events.extra is
    'What the producer sent beyond the envelope, under its own names. conflicting_values holds '
    'what another report of the same event had instead.';
comment on column normalizer.events.coercions is
    'Values whose meaning was changed or guessed, with the original. Null if there are none.';
comment on column normalizer.events.evidence is
    'Three digits that say where values came from. Hundreds, attempts: 2 declared, 1 counted from '
    'one by the producer, 0 default. Tens, status: 2 a failure that was declared or found in the '
    'result, 1 another declared status, 0 derived from the event type. Ones, created_at: 2 from '
    'the producer, 1 from the snowflake id, 0 from Kafka.';
comment on column normalizer.events.shape is 'Wire shape of the record that brought it.';
comment on column normalizer.events.normalizer_version is 'Version of the rules that made the row.';
comment on column normalizer.events.source_topic is
    'Coordinates of the record that stored the row: the Kafka topic, file: or pg: and a name for '
    'what a job read from there, or sql for a row inserted by hand. A later report of the event '
    'does not change them.';
comment on column normalizer.events.source_incarnation is
    'Coordinates of the record: how often the topic was deleted and created again.';
comment on column normalizer.events.source_partition is 'Coordinates of the record: the partition.';
comment on column normalizer.events.source_offset is 'Coordinates of the record: its offset.';
comment on column normalizer.events.source_index is
    'Coordinates of the event: its index in the record, from 0.';
comment on column normalizer.events.headers is 'Headers of the record, redacted.';
comment on column normalizer.events.trace_id is
    'Trace that the record belongs to, from its traceparent header.';
comment on column normalizer.events.recorded_at is
    'Time of the record in Kafka: the producer''s clock under CreateTime, the broker''s under '
    'LogAppendTime, or null without one.';
comment on column normalizer.events.merge_flags is
    'Bits. 1: a report that named no step was merged into a row that has one. 2: the same for the '
    'command. 4: a report changed the row. 8: another event has the same event_id. 16: another '
    'event of the same execution and class has it, or the reports of this row name two steps. 32: '
    'another report of the event lies in another log, or before this row in its log.';
comment on column normalizer.events.batch_id is
    'Number of the transaction that wrote the row, from a sequence.';
comment on column normalizer.events.ingested_at is 'When the row was stored.';

create index events_by_execution on normalizer.events (execution_id, event_id);
comment on index normalizer.events_by_execution is
    'Query: all events of one execution, in order (timeline, and rebuilding its projections).';

-- The index has the expression `execution_id + 0`, and queries for a command use the same
-- expression. That keeps the planner from choosing an index that starts with execution_id. With
-- outdated statistics, it can't tell which of these indexes is best. If it chose the one on
-- execution_id alone, it would read all events of the execution instead of those of one command.
create index events_by_command on normalizer.events ((execution_id + 0), hashtext(command_id))
    where command_id is not null;
comment on index normalizer.events_by_command is
    'Query: all events of one command, from which its attempts are rebuilt. It asks for '
    'execution_id + 0, so that no index on execution_id alone can serve it.';

-- A block range of the table has rows of many partitions, so the offsets in it are far apart. A
-- single range of offsets for each block range would cover nearly all offsets, and exclude nothing.
-- int8_minmax_multi_ops stores several short ranges instead, so a look-up reads only a fortieth as
-- much.
create index events_by_source on normalizer.events
    using brin (source_topic, source_partition, source_offset int8_minmax_multi_ops)
    with (pages_per_range = 16);
comment on index normalizer.events_by_source is
    'Query: which event did this record become (explain), and is it stored already under any '
    'id (replay).';

-- This index is a B-tree, because a BRIN index would degrade here. New rows fill the space of
-- deleted ones, but the time range that BRIN stores for a block range never gets narrower. After
-- retention has deleted and replaced all rows five times, each look-up would read the whole table.
create index events_by_created on normalizer.events (created_at);
comment on index normalizer.events_by_created is
    'Query: events of one hour, by created_at (projector verify).';

create index events_by_arrival on normalizer.events (coalesce(recorded_at, created_at));
comment on index normalizer.events_by_arrival is
    'Query: events of one hour, by arrival (projector verify, and retention, which looks for old '
    'events).';


-- Returns the event id that the producer sent, if the row was stored under another id because that
-- one was taken. Returns null if the row has the id that was sent. The result is JSON instead of a
-- number, because it comes from the JSON column `coercions`, where the value may be anything.
create function normalizer.sent_event_id(coercions jsonb) returns jsonb
    language sql immutable parallel safe
    return jsonb_path_query_first(coercions, '$[*] ? (@.rule == "event_id_conflict").from');

create index siblings_by_sent_event_id on normalizer.events
    using hash (normalizer.sent_event_id(coercions))
    where merge_flags & 8 <> 0; -- SHARES_ID_FLAG of merge_flags.py
comment on index normalizer.siblings_by_sent_event_id is
    'Query: the siblings of an event, which share its event_id. Their executions leave together.';

-- Indexes a hash of the trace id instead of the id, because trace ids are random texts and an index
-- of their hashes is half as large. Events without a trace id are left out.
create index events_by_trace on normalizer.events (hashtext(trace_id)) where trace_id is not null;
comment on index normalizer.events_by_trace is
    'Query: the executions of a trace (search).';


create table normalizer.retention_horizon (
    expired_before timestamptz not null default '-infinity',
    one_row        boolean     not null default true primary key,
    constraint retention_horizon_one_row check (one_row)
);

comment on table normalizer.retention_horizon is
    'Private: one row. An event is ignored as expired if the time of its record in Kafka (or, '
    'without one, its created_at) is before expired_before. Every '
    'transaction that writes events reads it. expired_before never decreases. Why, and who '
    'raises it: functions/delete_executions.sql.';
comment on column normalizer.retention_horizon.expired_before is
    'Events whose record has an earlier time in Kafka are ignored.';
comment on column normalizer.retention_horizon.one_row is 'Always true: the table has one row.';

insert into normalizer.retention_horizon default values;


-- Remembers which Kafka cluster each topic was read from. A process that's connected to another
-- cluster by mistake notices this before it claims a partition, so it doesn't read the topic. The
-- column cluster_id of source_positions isn't enough for this check, because a partition that was
-- never claimed has no row there.
create table normalizer.source_topics (
    topic      text not null,
    cluster_id text not null,
    constraint source_topics_pkey primary key (topic)
);

comment on table normalizer.source_topics is
    'Private: the Kafka cluster that each topic belongs to. The first claim of any of its '
    'partitions adds the topic, and so does the first batch of a backfill that reads it from '
    'Kafka. A process that another cluster answers claims no partition of it, and only '
    '--accept-reset moves the topic to that cluster.';
comment on column normalizer.source_topics.topic is
    'Kafka topic, or the name of a file or table that a job reads.';
comment on column normalizer.source_topics.cluster_id is 'Id of the Kafka cluster.';


create table normalizer.source_positions (
    topic            text        not null,
    incarnation      integer     not null,
    partition        integer     not null,
    cluster_id       text        not null,
    owner            text        not null,
    epoch            bigint      not null default 1,
    start_offset     bigint      not null,
    next_offset      bigint      not null,
    dedup_offset     bigint      not null default 0,
    records          bigint      not null default 0,
    holes            bigint      not null default 0,
    rewound          bigint      not null default 0,
    outcomes         bigint      not null default 0,
    stored           bigint      not null default 0,
    duplicate        bigint      not null default 0,
    merged           bigint      not null default 0,
    quarantined      bigint      not null default 0,
    ignored          bigint      not null default 0,
    last_offset      bigint,
    last_recorded_ms bigint,
    last_crc         bigint,
    holder           text,
    group_id         text        not null default '',
    slice_records    integer,
    claimed_at       timestamptz,
    committed_at     timestamptz,
    shapes           text        not null default '',
    constraint source_positions_pkey primary key (topic, incarnation, partition),
    constraint source_positions_offsets_balance check (
        next_offset - start_offset + rewound = records + holes
    ),
    constraint source_positions_outcomes_balance check (
        outcomes = stored + duplicate + merged + quarantined + ignored
    ),
    constraint source_positions_never_negative check (
        least(
            records, holes, rewound, outcomes, stored, duplicate, merged, quarantined, ignored,
            slice_records
        ) >= 0
    )
) with (fillfactor = 50);

comment on table normalizer.source_positions is
    'Private: the position of each Kafka partition, with running totals that must balance. '
    'Only the transaction that writes the events moves it. epoch fences a process that lost '
    'the partition.';
comment on column normalizer.source_positions.topic is
    'Kafka topic, or the name of a file or table that a job reads.';
comment on column normalizer.source_positions.incarnation is
    'How often the topic was deleted and created again, from 0.';
comment on column normalizer.source_positions.partition is 'Partition of the topic.';
comment on column normalizer.source_positions.cluster_id is 'Id of the Kafka cluster.';
comment on column normalizer.source_positions.owner is 'Process that claimed the partition.';
comment on column normalizer.source_positions.epoch is
    'Number of the claim, which grows with each claim. A transaction with a lower epoch fails.';
comment on column normalizer.source_positions.start_offset is 'Offset of the first record to read.';
comment on column normalizer.source_positions.next_offset is 'Offset of the next record to read.';
comment on column normalizer.source_positions.dedup_offset is
    'No writer has written a record of this partition from this offset on. It never decreases. '
    'Records below it are looked up by their coordinates, for example after a position was set '
    'back by hand, or when a job read ahead.';
comment on column normalizer.source_positions.records is 'Number of records that were read.';
comment on column normalizer.source_positions.holes is
    'Number of offsets without a record: transaction markers, compaction, retention (see '
    'normalizer.gaps).';
comment on column normalizer.source_positions.rewound is
    'Number of offsets that an operator set the position back by. They are counted again.';
comment on column normalizer.source_positions.outcomes is
    'Number of outcomes, the sum of the columns that follow.';
comment on column normalizer.source_positions.stored is 'Number of events that became rows.';
comment on column normalizer.source_positions.duplicate is
    'Number of events that were stored already and added nothing.';
comment on column normalizer.source_positions.merged is
    'Number of events that were stored already and changed the row.';
comment on column normalizer.source_positions.quarantined is
    'Number of rejected records and events.';
comment on column normalizer.source_positions.ignored is
    'Number of records and events that need no row: tombstones, empty batches, expired events.';
comment on column normalizer.source_positions.last_offset is
    'Offset of the last record that was read.';
comment on column normalizer.source_positions.last_recorded_ms is
    'Kafka time of that record, milliseconds since 1970.';
comment on column normalizer.source_positions.last_crc is
    'CRC-32 of that record, to recognize a topic that was created again.';
comment on column normalizer.source_positions.holder is
    'Random name of the process that may have records in hand. Null once it has given the '
    'partition up in order. If the next owner finds another name than its own, that process was '
    'killed, and the partition is a suspect.';
comment on column normalizer.source_positions.group_id is
    'Consumer group of the process that claimed the partition last. Empty if it had none. A '
    'process of another group may claim the partition ten seconds after this claim and its '
    'last heartbeat. If this process has reported that it stopped, only the claim counts.';
comment on column normalizer.source_positions.slice_records is
    'How many of the next records the owner of a suspect partition has in hand at most. 1: it has '
    'only that one, and no record of another partition. 0: an owner was killed while it had only '
    'that one, so that record is to blame. Null: the partition is no suspect.';
comment on column normalizer.source_positions.claimed_at is
    'When the last process claimed the partition. Null of a position that is not Kafka''s.';
comment on column normalizer.source_positions.committed_at is
    'When the last record was committed. Neither a claim nor an offset without a record changes '
    'it. Null before the first.';
comment on column normalizer.source_positions.shapes is
    'Fingerprint of the table of shapes (NORMALIZER_SHAPES) that the records are read by, or empty '
    'without a table. A process with another one does not read them until --accept-shapes.';


-- Heartbeats have a table of their own, because a batch locks the row of its position. If
-- heartbeats were stored in that row, a process couldn't report that it's alive while its batch
-- waits for another lock.
create table normalizer.source_heartbeats (
    topic           text        not null,
    partition       integer     not null,
    incarnation     integer     not null,
    epoch           bigint      not null,
    partition_count integer,
    log_end         bigint,
    next_offset     bigint      not null,
    end_seen_at     timestamptz,
    behind_since    timestamptz,
    mark_offset     bigint,
    mark_at         timestamptz,
    stopped         boolean     not null default false,
    heartbeat_at    timestamptz not null default now(),
    constraint source_heartbeats_pkey primary key (topic, partition)
) with (fillfactor = 50);

comment on table normalizer.source_heartbeats is
    'Private: heartbeat of the process that owns each partition, at its claim and every three '
    'seconds, with the end of the committed records that it saw last. Once the owner is silent, a '
    'process that may not claim the partition reports here that it is stopped. Without a '
    'heartbeat there is no process.';
comment on column normalizer.source_heartbeats.topic is
    'Kafka topic, or the name of a file or table that a job reads.';
comment on column normalizer.source_heartbeats.partition is 'Partition of the topic.';
comment on column normalizer.source_heartbeats.incarnation is
    'How often the topic was deleted and created again, from 0.';
comment on column normalizer.source_heartbeats.epoch is
    'Number of the claim, which grows with each claim. A transaction with a lower epoch fails.';
comment on column normalizer.source_heartbeats.partition_count is
    'Number of partitions of the topic, null before the first report. A partition that was never '
    'claimed has no row.';
comment on column normalizer.source_heartbeats.log_end is
    'The end of the committed records. Null from a claim until its owner has seen it.';
comment on column normalizer.source_heartbeats.next_offset is
    'The position at the time of the heartbeat.';
comment on column normalizer.source_heartbeats.end_seen_at is
    'When the broker last reported the end of the log. It stays while the broker is unreachable, '
    'and when another process claims the partition. Null before the first report.';
comment on column normalizer.source_heartbeats.behind_since is
    'Every record that the log held at this time is stored, but later ones are not. Null if all '
    'are, or before the first report.';
comment on column normalizer.source_heartbeats.mark_offset is
    'The end of the log at mark_at. When the position reaches it, behind_since becomes mark_at.';
comment on column normalizer.source_heartbeats.mark_at is
    'When mark_offset was the end of the log.';
comment on column normalizer.source_heartbeats.stopped is
    'True if the process leaves the partition alone: the topic was created again, another cluster '
    'answers, the table of shapes is another, or the log is damaged.';
comment on column normalizer.source_heartbeats.heartbeat_at is
    'When the owner last wrote this row.';


create table normalizer.dedup_horizon (
    topic            text    not null,
    incarnation      integer not null,
    partition   integer not null,
    next_offset      bigint  not null,
    -- These columns show later whether the topic is still the same log or was recreated. They're
    -- null if a job read the records from a file or a table. The three columns about the last
    -- record are set only when a position is deleted.
    cluster_id       text,
    last_offset      bigint,
    last_recorded_ms bigint,
    last_crc         bigint,
    constraint dedup_horizon_pkey primary key (topic, incarnation, partition)
);

comment on table normalizer.dedup_horizon is
    'Private: dedup_offset for what has no row in source_positions: how far jobs wrote, by the '
    'coordinates of their records, and how far a deleted position had got. No job wrote a '
    'record from next_offset on. A writer below it locks the row, so that two writers of the '
    'same coordinates see each other.';
comment on column normalizer.dedup_horizon.topic is
    'Kafka topic, or the name of a file or table that a job reads.';
comment on column normalizer.dedup_horizon.incarnation is
    'How often the topic was deleted and created again, from 0.';
comment on column normalizer.dedup_horizon.partition is 'Partition of the topic.';
comment on column normalizer.dedup_horizon.next_offset is
    'An upper bound: no writer has written a record from this offset on. Jobs announce 65,536 '
    'offsets ahead of what they write.';
comment on column normalizer.dedup_horizon.cluster_id is 'Id of the Kafka cluster.';
comment on column normalizer.dedup_horizon.last_offset is
    'Offset of the last record that was read.';
comment on column normalizer.dedup_horizon.last_recorded_ms is
    'Kafka time of that record, milliseconds since 1970.';
comment on column normalizer.dedup_horizon.last_crc is
    'CRC-32 of that record, to recognize a topic that was created again.';


create table normalizer.position_changes (
    change_id   bigint      not null generated always as identity,
    at          timestamptz not null default now(),
    who         text        not null,
    why         text        not null,
    action      text        not null,
    topic       text        not null,
    incarnation integer     not null,
    partition   integer     not null,
    from_offset bigint      not null,
    to_offset   bigint      not null,
    epoch       bigint      not null,
    constraint position_changes_pkey primary key (change_id),
    constraint position_changes_action check (
        (action = 'skip' and to_offset > from_offset)
        or (action = 'rewind' and to_offset < from_offset)
        or (action = 'retire' and to_offset = from_offset)
    )
);

comment on table normalizer.position_changes is
    'Private: every time an operator moved or retired a position with `normalizer position`.';
comment on column normalizer.position_changes.change_id is 'Number of the change.';
comment on column normalizer.position_changes.at is 'When it was done.';
comment on column normalizer.position_changes.who is 'Who did it.';
comment on column normalizer.position_changes.why is 'The reason that was given.';
comment on column normalizer.position_changes.action is 'skip, rewind or retire.';
comment on column normalizer.position_changes.topic is
    'Kafka topic, or the name of a file or table that a job reads.';
comment on column normalizer.position_changes.incarnation is
    'How often the topic was deleted and created again, from 0.';
comment on column normalizer.position_changes.partition is 'Partition of the topic.';
comment on column normalizer.position_changes.from_offset is 'next_offset before the change.';
comment on column normalizer.position_changes.to_offset is 'next_offset after the change.';
comment on column normalizer.position_changes.epoch is
    'Epoch that the change started. The previous owner of the partition has to claim it again.';


create table normalizer.gaps (
    topic       text           not null,
    incarnation integer        not null,
    partition   integer        not null,
    reason      text           not null,
    missing     int8multirange not null,
    offsets     bigint         not null,
    block       bigint         not null generated always as (lower(missing) >> 10) stored,
    found_at    timestamptz    not null default now(),
    constraint gaps_pkey primary key (topic, incarnation, partition, reason, block),
    constraint gaps_not_empty check (not isempty(missing)),
    constraint gaps_reason check (reason in ('hole', 'expired', 'skipped'))
) with (fillfactor = 70);

comment on table normalizer.gaps is
    'Private: offsets without a stored record. hole: the broker had none there (markers, '
    'compaction). expired: Kafka deleted them before they were read. skipped: an operator '
    'skipped them.';
comment on column normalizer.gaps.topic is
    'Kafka topic, or the name of a file or table that a job reads.';
comment on column normalizer.gaps.incarnation is
    'How often the topic was deleted and created again, from 0.';
comment on column normalizer.gaps.partition is 'Partition of the topic.';
comment on column normalizer.gaps.reason is 'hole, expired or skipped.';
comment on column normalizer.gaps.missing is
    'The offsets. A producer with transactions leaves one after each of them, so gaps that begin '
    'within the same 1,024 offsets (block) share a row.';
comment on column normalizer.gaps.offsets is
    'Number of offsets that were counted as holes for this row. It is more than missing holds if a '
    'position was set back and met them again.';
comment on column normalizer.gaps.block is 'First missing offset / 1,024: neighbours share a row.';
comment on column normalizer.gaps.found_at is 'When it was found.';

create index gaps_by_age on normalizer.gaps (found_at);
comment on index normalizer.gaps_by_age is 'Query: delete rows that are older than the retention.';


create table normalizer.quarantine (
    quarantine_id      bigint      not null generated always as identity,
    reason             text        not null,
    detail             text        not null,
    sqlstate           text,
    shape              text        not null,
    normalizer_version integer     not null,
    source_topic       text        not null,
    source_incarnation integer     not null,
    source_partition   integer     not null,
    source_offset      bigint      not null,
    source_index       integer     not null,
    value_bytes        bigint      not null,
    recorded_at        timestamptz,
    sample             text,
    batch_id           bigint      not null,
    quarantined_at     timestamptz not null default now(),
    redriven_at        timestamptz,
    execution_id       bigint,
    execution_in_key   boolean     not null default false,
    constraint quarantine_pkey primary key (quarantine_id),
    constraint quarantine_by_source unique (
        source_topic, source_incarnation, source_partition, source_offset, source_index
    ),
    constraint quarantine_reason check (
        reason in (
            'too_large', 'unsupported_framing', 'invalid_utf8', 'invalid_json', 'too_deep',
            'not_an_event', 'missing_execution_id', 'invalid_id', 'missing_time',
            'rejected_by_database', 'skipped'
        )
    )
);

comment on index normalizer.quarantine_by_source is
    'One entry for each record or event. Query: was this record rejected already (replay)?';

comment on table normalizer.quarantine is
    'Private: every rejected record or event, with its reason and coordinates. Reason skipped: '
    'an operator skipped it with `normalizer position skip`.';
comment on column normalizer.quarantine.quarantine_id is 'Number of the entry.';
comment on column normalizer.quarantine.reason is 'Reason, one of a fixed list.';
comment on column normalizer.quarantine.detail is
    'The reason in a sentence, with the path inside the record.';
comment on column normalizer.quarantine.sqlstate is 'SQLSTATE, if PostgreSQL rejected the row.';
comment on column normalizer.quarantine.shape is 'Wire shape of the record that brought it.';
comment on column normalizer.quarantine.normalizer_version is
    'Version of the rules that made the row.';
comment on column normalizer.quarantine.source_topic is
    'Coordinates of the record: the Kafka topic, or the name of a job''s source.';
comment on column normalizer.quarantine.source_incarnation is
    'Coordinates of the record: how often the topic was deleted and created again.';
comment on column normalizer.quarantine.source_partition is
    'Coordinates of the record: the partition.';
comment on column normalizer.quarantine.source_offset is 'Coordinates of the record: its offset.';
comment on column normalizer.quarantine.source_index is
    'Coordinates of the event: its index in the record, from 0.';
comment on column normalizer.quarantine.value_bytes is 'Size of the record''s value in bytes.';
comment on column normalizer.quarantine.recorded_at is
    'Time of the record in Kafka: the producer''s clock under CreateTime, the broker''s under '
    'LogAppendTime, or null without one.';
comment on column normalizer.quarantine.sample is
    'The first 2 kB of the record, on its first rejection. Null if they are not text, if anything '
    'in the record may be a secret, if it is larger than 8 MiB, or after retention deleted the '
    'bytes.';
comment on column normalizer.quarantine.batch_id is 'Number of the transaction that wrote the row.';
comment on column normalizer.quarantine.quarantined_at is 'When the record was rejected.';
comment on column normalizer.quarantine.redriven_at is
    'When a redrive stored the record. The entry stays, because the ledger counts it where it was '
    'rejected.';
comment on column normalizer.quarantine.execution_id is
    'Execution that the record names in its value, else in its key. Null if neither can be read, '
    'or after `normalizer forget` erased the execution.';
comment on column normalizer.quarantine.execution_in_key is
    'Whether execution_id was read from the key, because the value names none.';

create index quarantine_by_execution on normalizer.quarantine (execution_id)
    where execution_id is not null;
comment on index normalizer.quarantine_by_execution is
    'Query: the rejected records of an execution (its page, search, forget).';

create index quarantine_by_time on normalizer.quarantine (quarantined_at, reason);
comment on index normalizer.quarantine_by_time is
    'Query: list entries by time (quarantine list), and count them by reason (the quarantine '
    'views).';


create table normalizer.quarantine_raw (
    source_topic       text        not null,
    source_incarnation integer     not null,
    source_partition   integer     not null,
    source_offset      bigint      not null,
    key                bytea,
    value              bytea,
    headers            jsonb,
    value_sha256      bytea       not null,
    whole              boolean     not null,
    kept_at            timestamptz not null default now(),
    constraint quarantine_raw_pkey primary key (
        source_topic, source_incarnation, source_partition, source_offset
    )
);

comment on table normalizer.quarantine_raw is
    'Private: the rejected bytes as received, not redacted, for the owner and for redrive only. '
    'Complete up to 1 MiB. Of a larger record, the first 64 KiB and the hash.';
comment on column normalizer.quarantine_raw.source_topic is
    'Coordinates of the record: the Kafka topic, or the name of a job''s source.';
comment on column normalizer.quarantine_raw.source_incarnation is
    'Coordinates of the record: how often the topic was deleted and created again.';
comment on column normalizer.quarantine_raw.source_partition is
    'Coordinates of the record: the partition.';
comment on column normalizer.quarantine_raw.source_offset is
    'Coordinates of the record: its offset.';
comment on column normalizer.quarantine_raw.key is 'Key of the record, as received.';
comment on column normalizer.quarantine_raw.value is 'Value of the record, as received.';
comment on column normalizer.quarantine_raw.headers is
    'Headers of the record. Values are in base64.';
comment on column normalizer.quarantine_raw.value_sha256 is 'SHA-256 of the whole value.';
comment on column normalizer.quarantine_raw.whole is
    'True if value holds all bytes, false if only the first 64 KiB.';
comment on column normalizer.quarantine_raw.kept_at is 'When the bytes were stored.';

create index quarantine_raw_by_age on normalizer.quarantine_raw (kept_at);
comment on index normalizer.quarantine_raw_by_age is
    'Query: delete bytes that are older than the retention.';


create table normalizer.assigned_ids (
    source_topic       text    not null,
    source_incarnation integer not null,
    source_partition   integer not null,
    source_offset      bigint  not null,
    source_index       integer not null,
    event_id           bigint  not null,
    constraint assigned_ids_pkey primary key (
        source_topic, source_incarnation, source_partition, source_offset, source_index
    )
);

comment on table normalizer.assigned_ids is
    'Private: ids that gen_snowflake() gave to events whose derived ids were all taken, so '
    'that a replay finds them again. Nearly always empty.';
comment on column normalizer.assigned_ids.source_topic is
    'Coordinates of the record: the Kafka topic, or the name of a job''s source.';
comment on column normalizer.assigned_ids.source_incarnation is
    'Coordinates of the record: how often the topic was deleted and created again.';
comment on column normalizer.assigned_ids.source_partition is
    'Coordinates of the record: the partition.';
comment on column normalizer.assigned_ids.source_offset is 'Coordinates of the record: its offset.';
comment on column normalizer.assigned_ids.source_index is
    'Coordinates of the event: its index in the record, from 0.';
comment on column normalizer.assigned_ids.event_id is 'Id of the event.';


create table normalizer.merged_records (
    source_topic       text      not null,
    source_incarnation integer   not null,
    source_partition   integer   not null,
    offset_block       bigint    not null,
    merge_id           bigint    not null,
    source_offsets     bigint[]  not null,
    source_indexes     integer[] not null,
    event_ids          bigint[]  not null,
    constraint merged_records_pkey primary key (
        source_topic, source_incarnation, source_partition, offset_block, merge_id
    )
);

comment on table normalizer.merged_records is
    'Private: records that reported a stored event again (merged, or a duplicate with other '
    'coordinates), and the event of each. The row in events has the coordinates of one record '
    'only. One row for each transaction and 4,096 offsets (offset_block).';
comment on column normalizer.merged_records.source_topic is
    'Coordinates of the record: the Kafka topic, or the name of a job''s source.';
comment on column normalizer.merged_records.source_incarnation is
    'Coordinates of the record: how often the topic was deleted and created again.';
comment on column normalizer.merged_records.source_partition is
    'Coordinates of the record: the partition.';
comment on column normalizer.merged_records.offset_block is
    'Offset / 4,096: the block that all offsets of the row are in.';
comment on column normalizer.merged_records.merge_id is
    'A value of the sequence of batch_id, taken after the rows were locked. A row of events with a '
    'later batch_id was deleted and stored again since.';
comment on column normalizer.merged_records.source_offsets is
    'Offsets of the records, one element for each event.';
comment on column normalizer.merged_records.source_indexes is
    'Indexes in those records, in the same order.';
comment on column normalizer.merged_records.event_ids is
    'Ids of the rows that they were merged into, in the same order.';


create table normalizer.archived_row_counts (
    source_topic       text    not null,
    source_incarnation integer not null,
    source_partition   integer not null,
    job_id             text    not null default '',
    run                integer not null default 0,
    events             bigint  not null default 0,
    quarantined        bigint  not null default 0,
    holes              bigint  not null default 0,
    constraint archived_row_counts_pkey primary key (
        source_topic, source_incarnation, source_partition, job_id, run
    )
);

comment on table normalizer.archived_row_counts is
    'Private: number of rows of events, quarantine and gaps that retention deleted, by '
    'coordinates and, if a job wrote them, by its run. The totals of the ledger still include '
    'them.';
comment on column normalizer.archived_row_counts.source_topic is
    'Coordinates of the record: the Kafka topic, or the name of a job''s source.';
comment on column normalizer.archived_row_counts.source_incarnation is
    'Coordinates of the record: how often the topic was deleted and created again.';
comment on column normalizer.archived_row_counts.source_partition is
    'Coordinates of the record: the partition.';
comment on column normalizer.archived_row_counts.job_id is
    'Job that wrote the rows, or empty if the service did.';
comment on column normalizer.archived_row_counts.run is
    'Run of that job, or 0 if the service wrote the rows.';
comment on column normalizer.archived_row_counts.events is
    'Number of events that retention deleted.';
comment on column normalizer.archived_row_counts.quarantined is
    'Number of quarantine entries that retention deleted.';
comment on column normalizer.archived_row_counts.holes is
    'Number of offsets in the gaps that retention deleted.';

grant select on normalizer.archived_row_counts to normalizer_writer;


-- Stores drift. A field has drifted if a producer sends it at the top level without documenting it,
-- or with another type than documented. The table is only a sample, because the service stores a
-- limited number of findings for each wire shape, each with a short example. The full values are in
-- the table events.
create table normalizer.drift_findings (
    shape              text        not null,
    field              text        not null,
    type               text        not null,
    kind               text        not null,
    source_topic       text        not null,
    source_incarnation integer     not null,
    source_partition   integer     not null,
    source_offset      bigint      not null,
    example            text        not null,
    found_at           timestamptz not null default now(),
    constraint drift_findings_pkey primary key (shape, field, type),
    constraint drift_findings_kind check (kind in ('unknown_key', 'changed_type'))
);

comment on table normalizer.drift_findings is
    'Private: top-level fields that are not documented, and documented ones with a value of '
    'another type, by shape, with the record where each was first seen and an example '
    '(redacted). Delete a row to get the finding again. View: drift.';
comment on column normalizer.drift_findings.shape is 'Wire shape of the record that brought it.';
comment on column normalizer.drift_findings.field is 'Top-level key of the record.';
comment on column normalizer.drift_findings.type is
    'JSON type of the value: object, list, text, number or bool.';
comment on column normalizer.drift_findings.kind is 'unknown_key or changed_type.';
comment on column normalizer.drift_findings.source_topic is
    'Coordinates of the record: the Kafka topic, or the name of a job''s source.';
comment on column normalizer.drift_findings.source_incarnation is
    'Coordinates of the record: how often the topic was deleted and created again.';
comment on column normalizer.drift_findings.source_partition is
    'Coordinates of the record: the partition.';
comment on column normalizer.drift_findings.source_offset is
    'Coordinates of the record: its offset.';
comment on column normalizer.drift_findings.example is
    'A value of the field, redacted and shortened.';
comment on column normalizer.drift_findings.found_at is 'When it was found.';

grant select, insert on normalizer.drift_findings to normalizer_writer;


-- The executions that `normalizer forget` has deleted on request. Writers ignore their events, so
-- an execution doesn't come back when one of its records is read again. The command deletes all
-- events and calls of an execution in one transaction. Retention does the same, but only with old
-- executions. The counts still include the deleted events and calls
-- (functions/delete_executions.sql).
create table normalizer.forgotten_executions (
    execution_id bigint      not null,
    at           timestamptz not null default now(),
    who          text        not null,
    why          text        not null,
    events       bigint      not null default 0,
    rejected      bigint      not null default 0,
    ended_at     timestamptz,
    constraint forgotten_executions_pkey primary key (execution_id)
);

comment on table normalizer.forgotten_executions is
    'Private: executions that `normalizer forget` erased: who did it, when and why, and '
    'no content. Their events are ignored by every writer. Every transaction that writes '
    'events reads it.';
comment on column normalizer.forgotten_executions.execution_id is 'Id of the execution.';
comment on column normalizer.forgotten_executions.at is 'When it was done.';
comment on column normalizer.forgotten_executions.who is 'Who did it.';
comment on column normalizer.forgotten_executions.why is 'The reason that was given.';
comment on column normalizer.forgotten_executions.events is
    'Number of its events that were deleted.';
comment on column normalizer.forgotten_executions.rejected is
    'Number of its rejected records that were emptied. Their coordinates and their reason stay, '
    'for the ledger.';
comment on column normalizer.forgotten_executions.ended_at is
    'When the erasure was complete. Null until then. The same command continues it.';

grant select on normalizer.forgotten_executions to normalizer_writer;


grant usage on schema normalizer to normalizer_writer;
grant select, insert, update on normalizer.events to normalizer_writer;
grant select, insert, update on normalizer.source_positions to normalizer_writer;
grant select, insert, update on normalizer.source_topics to normalizer_writer;
grant select, insert, update on normalizer.dedup_horizon, normalizer.source_heartbeats
    to normalizer_writer;
grant select, insert on normalizer.quarantine, normalizer.assigned_ids to normalizer_writer;
grant select, insert, update on normalizer.gaps to normalizer_writer;
grant select, insert on normalizer.merged_records, normalizer.position_changes to normalizer_writer;
grant insert on normalizer.quarantine_raw to normalizer_writer;
grant select (source_topic, source_incarnation, source_partition, source_offset)
    on normalizer.quarantine_raw to normalizer_writer;
grant select on normalizer.layout to normalizer_writer;
grant select on normalizer.retention_horizon to normalizer_writer;
grant usage on sequence normalizer.batch_id to normalizer_writer;
grant usage on schema normalizer to projector_reader;

insert into migrations.applied (version) values ('0001') on conflict do nothing;
