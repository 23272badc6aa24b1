-- migrate:up

-- Schema normalizer: the log of canonical events, and everything that proves it complete.
-- Roles: the owner runs migrations, normalizer_writer runs the service and jobs,
-- projector_reader sees views only. PostgreSQL 15 and newer.

create schema normalizer;

do $$
declare
    wanted text;
begin
    foreach wanted in array array['normalizer_writer', 'projector_reader'] loop
        if not exists (select from pg_roles where rolname = wanted) then
            begin
                execute format('create role %I nologin', wanted);
            exception
                -- Roles belong to the cluster: another database's migration may make it meanwhile.
                when duplicate_object or unique_violation then null;
            end;
        end if;
    end loop;
    execute format('alter database %I set search_path = "$user", public, normalizer', current_database());
end
$$;

set search_path = "$user", public, normalizer;


-- What every writer must agree on.
-- partition_shift: a partition of events holds 2^55 ids, which are 99 days of them. A setting of the
-- first migration only: PGOPTIONS='-c normalizer.partition_shift=56'.
-- protocol: how ids and identity are decided. A migration that changes that raises it, and fences
-- whoever writes by the old rules:
--     update normalizer.layout set protocol = 2;
--     update normalizer.source_positions set epoch = epoch + 1;
--     update normalizer.jobs set epoch = epoch + 1;
create table normalizer.layout (
    partition_shift integer not null,
    protocol        integer not null default 1,
    one_row         boolean not null default true primary key,
    constraint layout_one_row check (one_row),
    -- 226 partitions at the most.
    constraint layout_partition_shift check (partition_shift between 54 and 58)
);

insert into normalizer.layout (partition_shift)
values (coalesce(nullif(current_setting('normalizer.partition_shift', true), '')::integer, 55));

comment on column normalizer.layout.protocol is
    'Code of another protocol than this refuses to write: it would give events other ids.';


-- gen_snowflake(): 41 bits of milliseconds since 2024-01-01 UTC, 10 bits of node, 12 of sequence.
-- The clock's value is (milliseconds << 12 | sequence): one ascending number, so that a full
-- millisecond flows into the next and a clock that steps back cannot repeat an id.
create sequence normalizer.snowflake_clock as bigint minvalue 0 start 0;

-- Held while the clock is read and set. A table's lock, as anybody may take an advisory one: nobody
-- but the owner has a right to this table.
create table normalizer.snowflake_lock ();

comment on table normalizer.snowflake_lock is
    'Empty for ever: its lock puts those who mint an id in a line.';

create function normalizer.snowflake_node() returns bigint
    language sql immutable parallel safe
    return 1023::bigint;

comment on function normalizer.snowflake_node() is
    'Node number in ids minted by this database. Not 64: there the foreign layout looks the same.';

-- An id of the instant, or just after the one before it. For the owner alone: whoever chose the
-- instant could set the clock ahead for everybody.
create function normalizer.snowflake_at(unix_ms bigint) returns bigint
    language plpgsql volatile
as $$
declare
    tick bigint;
begin
    -- The lock lives in a subtransaction that is always rolled back: so it is freed at once, on
    -- every error and cancel too, while setval, which no transaction governs, stays.
    begin
        lock table normalizer.snowflake_lock in exclusive mode;
        select greatest(clock.last_value + 1, (snowflake_at.unix_ms - 1704067200000) << 12)
        into   tick
        from   normalizer.snowflake_clock as clock;
        perform setval('normalizer.snowflake_clock', tick);
        raise exception using errcode = 'NZ001';
    exception
        when sqlstate 'NZ001' then null;
    end;
    return ((tick >> 12) << 22) | (normalizer.snowflake_node() << 12) | (tick & 4095);
end
$$;

create function normalizer.gen_snowflake() returns bigint
    language plpgsql volatile security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    return normalizer.snowflake_at(floor(extract(epoch from clock_timestamp()) * 1000)::bigint);
end
$$;

comment on function normalizer.gen_snowflake() is
    'A new event id in the application''s layout: the fallback when nobody else gives one.';


create sequence normalizer.batch_id as bigint;

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
    constraint events_attempts_from_zero check (attempts between 0 and 32767),
    constraint events_call_done_outcome check (
        event_type not in ('call.done', 'action_done', 'call_done')
        or status in ('COMPLETED', 'FAILED', 'ERROR', 'CANCELLED')
    ),
    -- No rule lets such a row through; they hold for rows inserted by hand too, so that whatever
    -- follows a row can count with its times, add up its durations and make its words a key.
    -- Room above what the rules let through: 1,500 is what still fits a key beside a playbook.
    constraint events_words_bounded check (
        octet_length(event_type) <= 200 and octet_length(status) <= 100
        and octet_length(step) <= 1500 and octet_length(worker_id) <= 1500
        and octet_length(command_id) <= 1500 and octet_length(shape) <= 100
        and octet_length(source_topic) <= 1500
    ),
    constraint events_times_in_calendar check (
        created_at >= '0001-01-01 00:00:00+00' and created_at < '10000-01-01 00:00:00+00'
        and recorded_at >= '0001-01-01 00:00:00+00' and recorded_at < '10000-01-01 00:00:00+00'
        and ingested_at >= '0001-01-01 00:00:00+00' and ingested_at < '10000-01-01 00:00:00+00'
    ),
    constraint events_duration_possible check (duration between 0 and 315360000),
    -- Absent is null, never JSON's null: two tellings of one event are joined key by key.
    constraint events_json_forms check (
        jsonb_typeof(meta) = 'object' and jsonb_typeof(extra) = 'object'
        and jsonb_typeof(headers) = 'object' and jsonb_typeof(coercions) = 'array'
    )
) partition by range (event_id);

comment on table normalizer.events is
    'One row per event, whatever shape brought it. Source of every column: the canonical envelope.';
comment on column normalizer.events.evidence is
    'Three digits, where values came from: attempts (2 explicit, 1 counted from one, 0 default), '
    'status (2 a failure declared or found nested, 1 another declared word, 0 the event''s name), '
    'created_at (2 the producer''s, 1 the snowflake id''s, 0 the log''s).';
comment on column normalizer.events.extra is
    'What the producer sent beyond the envelope, under its own names; conflicting_values: what '
    'another telling of the same event said instead.';
comment on column normalizer.events.merge_flags is
    'Bits: 1, 2: a report merged into the row named no step, no command, and the row has one. 4: a '
    'report changed the row. 8: another event has the same event_id; 16: one of its execution and '
    'class (or the row''s own reports name two steps).';
comment on column normalizer.events.coercions is
    'Values whose meaning was changed or guessed, with the original; null when there is none.';
comment on column normalizer.events.source_topic is
    'Coordinates of the record that stored the row; a later telling of the event never moves them.';
comment on column normalizer.events.batch_id is 'One value of a sequence a transaction.';

-- The timeline of one execution, and the folds of its projections.
create index events_by_execution on normalizer.events (execution_id, event_id);
-- The events of one command, which its tries are folded from. execution_id + 0, so that no other index
-- serves that query: with old statistics they all look alike, and one read all of an execution.
create index events_by_command on normalizer.events ((execution_id + 0), hashtext(command_id))
    where command_id is not null;
-- Where did this record go (explain), and was it stored already, whatever its id (a replay).
-- Several ranges a block: partitions stand at offsets far apart (measured: 40 times less to read).
create index events_by_source on normalizer.events
    using brin (source_topic, source_partition, source_offset int8_minmax_multi_ops)
    with (pages_per_range = 16);


-- The one line of retention; who raises it, and what it promises: 0009_create_retention.sql.
create table normalizer.retention_horizon (
    expired_before timestamptz not null default '-infinity',
    one_row        boolean     not null default true primary key,
    constraint retention_horizon_one_row check (one_row)
);

insert into normalizer.retention_horizon default values;

comment on table normalizer.retention_horizon is
    'An event is ignored as expired if its record''s time in the log (without one, its created_at) '
    'lies before expired_before. Read by every transaction that writes events; it never falls.';


-- The first id that was made from a record's coordinates and time, and the first that is a hash.
create function normalizer.least_derived_id() returns bigint
    language sql immutable parallel safe
    return 4611686018427387904;

create function normalizer.least_hashed_id() returns bigint
    language sql immutable parallel safe
    return 6917529027641081856;


-- The grid: every bigint has its partition from now on, and none is ever made, detached or dropped
-- in operation. Time cells reach from 2024 to 2034 for each layout that holds a time; five
-- partitions catch what lies outside. Numbers name the cells, not dates: an id of the doubled layout
-- lies where one of the application's lies that is twice as far from 2024.
create table normalizer.event_partitions (
    name             text   not null,
    low              bigint not null,
    high             bigint not null,
    application_from timestamptz,
    doubled_from     timestamptz,
    constraint event_partitions_pkey primary key (name),
    constraint event_partitions_low unique (low),
    constraint event_partitions_not_empty check (low <= high)
);

comment on table normalizer.event_partitions is
    'The partitions of events, each with its least and greatest event_id. A migration that adds some '
    'adds them here too: readers and writers name these bounds, or they would visit every partition.';
comment on column normalizer.event_partitions.application_from is
    'Of a time cell: when ids of the application''s (or the derived) layout begin to fall into it.';
comment on column normalizer.event_partitions.doubled_from is
    'Of a time cell: when ids of the doubled layout begin to fall into it.';

with grid as (
    select partition_shift as shift,
           (extract(epoch from timestamptz '2034-01-01 00:00:00Z' - timestamptz '2024-01-01 00:00:00Z')
            * 1000)::bigint << 22 as reach
    from   normalizer.layout
),
edge (name, low, first_tick) as (
    values ('events_negative', -9223372036854775808, null::bigint),
           ('events_small', 0, null),
           ('events_hashed', normalizer.least_hashed_id(), null)
    union all
    -- What lies below 2^40 is no snowflake.
    select format('events_%s', lpad(cell::text, 3, '0')),
           greatest(cell << grid.shift, 1::bigint << 40), cell << grid.shift
    from   grid
    cross join generate_series(0::bigint, (2 * grid.reach) >> grid.shift) as cell
    union all
    select 'events_future', (((2 * grid.reach) >> grid.shift) + 1) << grid.shift, null
    from   grid
    union all
    select format('events_derived_%s', lpad(cell::text, 3, '0')),
           normalizer.least_derived_id() + (cell << grid.shift), cell << grid.shift
    from   grid
    cross join generate_series(0::bigint, grid.reach >> grid.shift) as cell
    union all
    select 'events_derived_future',
           normalizer.least_derived_id() + (((grid.reach >> grid.shift) + 1) << grid.shift), null
    from   grid
)
insert into normalizer.event_partitions (name, low, high, application_from, doubled_from)
select name, low, coalesce(lead(low) over (order by low) - 1, 9223372036854775807),
       timestamptz '2024-01-01 00:00:00Z' + (first_tick >> 22) * interval '1 millisecond',
       case
           when low < normalizer.least_derived_id()
           then timestamptz '2024-01-01 00:00:00Z' + (first_tick >> 23) * interval '1 millisecond'
       end
from   edge;

do $$
declare
    part normalizer.event_partitions;
begin
    -- Summaries of new ranges are autovacuum's: asked for range by range, they would overflow its
    -- queue at a few hundred events a second, and each lost one is lines in the server's log.
    for part in select * from normalizer.event_partitions order by low loop
        execute format(
            'create table normalizer.%I partition of normalizer.events for values from (%s) to (%s) '
            'with (autovacuum_vacuum_insert_threshold = 5000, '
            'autovacuum_vacuum_insert_scale_factor = 0.01)',
            part.name,
            case when part.low = -9223372036854775808 then 'minvalue' else part.low::text end,
            case
                when part.high = 9223372036854775807 then 'maxvalue'
                else (part.high::numeric + 1)::text
            end
        );
    end loop;
end
$$;


-- How far each partition was read, by whom, and what became of every record and event in it.
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
    moved_epoch      bigint      not null default 0,
    committed_at     timestamptz,
    constraint source_positions_pkey primary key (topic, incarnation, partition),
    constraint source_positions_offsets_balance check (
        next_offset - start_offset + rewound = records + holes
    ),
    constraint source_positions_outcomes_balance check (
        outcomes = stored + duplicate + merged + quarantined + ignored
    ),
    constraint source_positions_never_negative check (
        least(records, holes, rewound, outcomes, stored, duplicate, merged, quarantined, ignored) >= 0
    )
) with (fillfactor = 50);

comment on table normalizer.source_positions is
    'The position of each partition, moved only in the transaction that writes its events, with '
    'running totals that must balance. epoch fences a process that lost the partition.';
comment on column normalizer.source_positions.holes is
    'Offsets that hold no record: transaction markers, compaction, expiry (see normalizer.gaps).';


comment on column normalizer.source_positions.rewound is
    'By how many offsets an operator has set the position back: these are counted again.';
comment on column normalizer.source_positions.committed_at is
    'When the last batch was committed; a claim does not move it. Null before the first.';
comment on column normalizer.source_positions.moved_epoch is
    'The epoch of the last claim under which it moved, or had nothing to read. Three claims later '
    'its records are read one at a time, for one of them may be what its owners died of.';
comment on column normalizer.source_positions.dedup_offset is
    'Nobody wrote a record of this partition from here on. It never falls: a position set back by '
    'hand, or a job that read ahead, makes the records below it be looked up by their coordinates.';


-- Where the log is, as the process that owns the partition says every three seconds, also while
-- nothing comes. Not in the position's row: a batch that waits for a lock holds that one.
create table normalizer.source_heartbeats (
    topic           text        not null,
    partition       integer     not null,
    incarnation     integer     not null,
    cluster_id      text        not null,
    epoch           bigint      not null,
    partition_count integer     not null,
    log_start       bigint      not null,
    log_end         bigint      not null,
    next_offset     bigint      not null,
    end_seen_at     timestamptz not null,
    behind_since    timestamptz,
    mark_offset     bigint,
    mark_at         timestamptz,
    stopped         boolean     not null default false,
    heartbeat_at    timestamptz not null default now(),
    constraint source_heartbeats_pkey primary key (topic, partition)
) with (fillfactor = 50);

comment on table normalizer.source_heartbeats is
    'Heartbeat of the process that owns each partition, with the log''s end (of committed records) '
    'as it last saw it. No heartbeat: no process.';
comment on column normalizer.source_heartbeats.next_offset is 'The position at the heartbeat.';
comment on column normalizer.source_heartbeats.end_seen_at is
    'When the broker last said where the log ends: it ages while the broker is away.';
comment on column normalizer.source_heartbeats.behind_since is
    'Everything that the log held at this time is in the tables, and not all that came later; null '
    'where all of it is.';
comment on column normalizer.source_heartbeats.mark_offset is
    'The end that was seen at mark_at: once the position has come so far, behind_since moves there.';
comment on column normalizer.source_heartbeats.partition_count is
    'Of the topic: a partition that nobody ever claimed has no row.';
comment on column normalizer.source_heartbeats.stopped is
    'The process is told to leave it alone: the topic was made anew, or its log is broken.';


-- The same for whoever has no row of source_positions: how far jobs wrote, by the coordinates of the
-- records, and how far a position that was deleted had come.
create table normalizer.dedup_horizon (
    topic            text    not null,
    incarnation      integer not null,
    partition   integer not null,
    next_offset      bigint  not null,
    -- Of a deleted position: by these a topic that was made anew since is told apart.
    cluster_id       text,
    last_offset      bigint,
    last_recorded_ms bigint,
    last_crc         bigint,
    constraint dedup_horizon_pkey primary key (topic, incarnation, partition)
);

comment on table normalizer.dedup_horizon is
    'No job wrote a record of these coordinates from next_offset on. Locked by whoever writes '
    'below it: two writers of the same coordinates see each other''s rows.';

create function normalizer.keep_dedup_horizon() returns trigger
    language plpgsql volatile security definer
    set search_path = pg_catalog, normalizer, pg_temp
as $$
begin
    insert into dedup_horizon as kept (
        topic, incarnation, partition, next_offset, cluster_id, last_offset, last_recorded_ms, last_crc
    )
    select   topic, incarnation, partition, dedup_offset, cluster_id, last_offset,
             last_recorded_ms, last_crc
    from     source_positions
    order by topic, incarnation, partition
    on conflict on constraint dedup_horizon_pkey do update
    set    next_offset      = greatest(kept.next_offset, excluded.next_offset),
           cluster_id       = excluded.cluster_id,
           last_offset      = excluded.last_offset,
           last_recorded_ms = excluded.last_recorded_ms,
           last_crc         = excluded.last_crc;
    return null;
end
$$;

-- Deleting a position is how people read a topic again.
create trigger keep_dedup_horizon_of_deleted
    before delete on normalizer.source_positions
    for each statement execute function normalizer.keep_dedup_horizon();
create trigger keep_dedup_horizon_of_truncated
    before truncate on normalizer.source_positions
    for each statement execute function normalizer.keep_dedup_horizon();

-- What was told of a position that is gone would outrank the first heartbeats of the next one.
create function normalizer.drop_source_heartbeats() returns trigger
    language plpgsql volatile security definer
    set search_path = pg_catalog, normalizer, pg_temp
as $$
begin
    if tg_op = 'TRUNCATE' then
        delete from source_heartbeats;
    else
        delete from source_heartbeats as reported
        using       gone
        where       (reported.topic, reported.partition, reported.incarnation)
                  = (gone.topic, gone.partition, gone.incarnation);
    end if;
    return null;
end
$$;

create trigger drop_source_heartbeats_of_deleted
    after delete on normalizer.source_positions
    referencing old table as gone
    for each statement execute function normalizer.drop_source_heartbeats();
create trigger drop_source_heartbeats_of_truncated
    after truncate on normalizer.source_positions
    for each statement execute function normalizer.drop_source_heartbeats();


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
    )
);

comment on table normalizer.position_changes is
    'Every time an operator moved a position by `normalizer position`: who, why, from where to where.';
comment on column normalizer.position_changes.incarnation is
    'Of the topic, counted from 0: as incarnation elsewhere.';
comment on column normalizer.position_changes.epoch is
    'The epoch that the change began: whoever held the partition claims it again.';


create table normalizer.gaps (
    topic        text           not null,
    incarnation  integer        not null,
    partition    integer        not null,
    reason       text           not null,
    missing      int8multirange not null,
    offsets      bigint         not null,
    first_offset bigint         not null generated always as (lower(missing)) stored,
    next_offset  bigint         not null generated always as (upper(missing)) stored,
    block        bigint         not null generated always as (lower(missing) >> 10) stored,
    found_at     timestamptz    not null default now(),
    constraint gaps_pkey primary key (topic, incarnation, partition, reason, block),
    constraint gaps_not_empty check (not isempty(missing)),
    constraint gaps_reason check (reason in ('hole', 'expired', 'skipped'))
) with (fillfactor = 70);

comment on table normalizer.gaps is
    'Offsets that gave no record. hole: the broker had none there (markers, compaction). expired: '
    'retention took them before they were read. skipped: by an operator.';
comment on column normalizer.gaps.missing is
    'The offsets. A producer with transactions leaves one after each: those that begin within '
    'the same 1,024 offsets (block) share a row.';
-- Delete what is older than the retention.
create index gaps_by_age on normalizer.gaps (found_at);

comment on column normalizer.gaps.offsets is
    'How many offsets were counted as holes for it: more than missing has, where a position was set '
    'back and they were met again.';


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
    constraint quarantine_pkey primary key (quarantine_id),
    constraint quarantine_by_source unique (
        source_topic, source_incarnation, source_partition, source_offset, source_index
    ),
    constraint quarantine_reason check (
        reason in (
            'too_large', 'invalid_utf8', 'invalid_json', 'too_deep', 'not_an_event',
            'missing_execution_id', 'invalid_id', 'missing_time', 'rejected_by_database',
            'skipped'
        )
    )
);

comment on table normalizer.quarantine is
    'Every record or event that was refused: why, in our own words, and where it came from. '
    'skipped: by an operator, with `normalizer position skip`.';
comment on column normalizer.quarantine.sample is
    'The first 2 kB of the record, on the first refusal of each record. Null where they are no text, '
    'or where a secret may be among them; and once retention deleted the bytes.';

-- List by time (quarantine list), count by reason (the quarantine views).
create index quarantine_by_time on normalizer.quarantine (quarantined_at, reason);


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
    'The refused bytes as they came, unredacted, for the owner and for redrive only. Whole up to '
    '1 MiB; beyond that the first 64 KiB and the hash. Header values are base64.';

-- Delete what is older than the retention.
create index quarantine_raw_by_age on normalizer.quarantine_raw (kept_at);


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
    'Ids that gen_snowflake() gave to events whose derived ids were all taken, so that a replay '
    'finds them again. Nearly always empty.';


-- Which row a record went to that told an event again: the row has the coordinates of one only.
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
    'Records that told a stored event again (merged, or duplicate at coordinates of their own), with '
    'the event each went to; one row a transaction and 4,096 offsets (offset_block).';
comment on column normalizer.merged_records.merge_id is
    'Of the sequence of batch_id, drawn once its rows were locked: a row with a later batch_id is '
    'one that was deleted and stored anew since.';


grant usage on schema normalizer to normalizer_writer;
grant select, insert, update on normalizer.events to normalizer_writer;
grant select, insert, update on normalizer.source_positions to normalizer_writer;
grant select, insert, update on normalizer.dedup_horizon, normalizer.source_heartbeats to normalizer_writer;
grant select, insert on normalizer.quarantine, normalizer.assigned_ids to normalizer_writer;
grant select, insert, update on normalizer.gaps to normalizer_writer;
grant select, insert on normalizer.merged_records, normalizer.position_changes to normalizer_writer;
grant insert on normalizer.quarantine_raw to normalizer_writer;
grant select (source_topic, source_incarnation, source_partition, source_offset)
    on normalizer.quarantine_raw to normalizer_writer;
grant select on normalizer.layout, normalizer.event_partitions to normalizer_writer;
grant select on normalizer.retention_horizon to normalizer_writer;
grant usage on sequence normalizer.batch_id to normalizer_writer;
grant execute on function normalizer.gen_snowflake() to normalizer_writer;
grant usage on schema normalizer to projector_reader;

insert into migrations.applied (version) values ('0001') on conflict do nothing;

-- migrate:down
