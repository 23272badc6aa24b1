-- Counters: events by minute and by hour, how they arrived, what was coerced, and what was refused.
-- Minutes are for monitoring, hours for reports.

create table projector.event_minutes (
    minute             timestamptz                not null,
    event_type         text           collate "C" not null,
    status             text           collate "C" not null,
    attempts           integer                    not null,
    shard              smallint                   not null,
    events             bigint                     not null,
    attempts_defaulted bigint                     not null default 0,
    constraint event_minutes_pkey primary key (minute, event_type, status, attempts, shard)
) with (fillfactor = 70);

create table projector.event_hours (
    hour               timestamptz                not null,
    step               text           collate "C" not null,
    event_type         text           collate "C" not null,
    status             text           collate "C" not null,
    attempts           integer                    not null,
    shard              smallint                   not null,
    events             bigint                     not null,
    without_command    bigint                     not null default 0,
    attempts_defaulted bigint                     not null default 0,
    constraint event_hours_pkey primary key (hour, step, event_type, status, attempts, shard)
) with (fillfactor = 70);

-- A batch updates most rows of its hour: with half of a page free, the new rows fit beside the old
-- ones, and no index entry is written.
create table projector.arrival_hours (
    hour               timestamptz                not null,
    shape              text           collate "C" not null,
    worker_id          text           collate "C" not null,
    lateness           smallint                   not null,
    shard              smallint                   not null,
    events             bigint                     not null,
    skew_us            numeric                    not null,
    attempts_defaulted bigint                     not null,
    status_from_name   bigint                     not null,
    time_from_log      bigint                     not null,
    constraint arrival_hours_pkey primary key (hour, shape, worker_id, lateness, shard)
) with (fillfactor = 45);

comment on column projector.arrival_hours.lateness is
    'Time from created_at to recorded_at. 0: not known. 1: created_at is more than 1 s later. '
    '2: under 1 s. 3: under 10 s. 4: under 1 min. 5: under 10 min. 6: under 1 h. 7: under 1 '
    'day. 8: longer.';
comment on column projector.arrival_hours.skew_us is
    'Sum of the times from created_at to recorded_at, in microseconds; a time under a second, or '
    'not known, counts as 0. Numeric: a bigint would overflow at 29 events of ten thousand years.';

create table projector.coercion_hours (
    hour      timestamptz                not null,
    shape     text           collate "C" not null,
    rule      text           collate "C" not null,
    shard     smallint                   not null,
    coercions bigint                     not null,
    constraint coercion_hours_pkey primary key (hour, shape, rule, shard)
) with (fillfactor = 70);

create table projector.quarantine_hours (
    hour    timestamptz                not null,
    reason  text           collate "C" not null,
    shape   text           collate "C" not null,
    shard   smallint                   not null,
    refused bigint                     not null,
    constraint quarantine_hours_pkey primary key (hour, reason, shape, shard)
) with (fillfactor = 70);

comment on table projector.event_minutes is
    'Private: events by minute of created_at. View: attempts_by_status.';
comment on table projector.event_hours is
    'Private: events by hour of created_at, with their step. Views: event_counts, '
    'attempts_by_status, calls_without_command.';
comment on column projector.event_hours.without_command is
    'Number of them that name no command. Events of calls without a command belong to no call.';
comment on table projector.arrival_hours is
    'Private: events by hour of recorded_at (of created_at without a Kafka time), shape, '
    'worker and lateness. Views: late_arrivals, defaults_by_shape.';
comment on table projector.coercion_hours is
    'Private: coercions by hour of recorded_at, shape and rule. View: coercions_by_rule.';
comment on table projector.quarantine_hours is
    'Private: refusals by hour, reason and shape. View: quarantine_by_reason.';


create function projector.lateness_of(created_at timestamptz, recorded_at timestamptz)
    returns smallint
    language sql stable parallel safe
    return case
        when recorded_at >= created_at and recorded_at < created_at + interval '1 second' then 2
        when recorded_at is null then 0
        when recorded_at < created_at - interval '1 second' then 1
        when recorded_at < created_at + interval '1 second' then 2
        when recorded_at < created_at + interval '10 seconds' then 3
        when recorded_at < created_at + interval '1 minute' then 4
        when recorded_at < created_at + interval '10 minutes' then 5
        when recorded_at < created_at + interval '1 hour' then 6
        when recorded_at < created_at + interval '24 hours' then 7
        else 8
    end::smallint;

-- Microseconds from created_at to recorded_at, below 0 if the producer's clock is ahead. Null under
-- a second, as of most events, so that nothing is computed for them.
create function projector.skew_us(created_at timestamptz, recorded_at timestamptz)
    returns bigint
    language sql stable parallel safe
    return case
        when recorded_at >= created_at and recorded_at < created_at + interval '1 second' then null
        when recorded_at < created_at - interval '1 second'
             or recorded_at >= created_at + interval '1 second'
        then (date_part('epoch', recorded_at - created_at) * 1000000)::bigint
    end;


-- Moves the counters by the rows after a statement minus the rows before it:
--     1. events by hour
--     2. events by minute
--     3. arrivals by hour
--     4. coercions by hour
-- New rows are inserted by time, so that a time range occupies few pages. They're ordered by the
-- latest event of each group. If they were ordered by the hour itself, a session whose first batch
-- was small would sort all rows of each later batch, not only their sums. With an argument it adds
-- deleted rows to the archived part, shard -1 (0009).
create function projector.project_counters() returns trigger
    language plpgsql volatile security definer
    set search_path = pg_catalog, projector, pg_temp
    set enable_seqscan = off
    set jit = off
    set plan_cache_mode = force_generic_plan
as $$
declare
    own_shard constant smallint := case tg_nargs when 0 then take_shard() else -1 end;
    added     constant integer := case tg_nargs when 0 then 1 else -1 end;
begin
    if current_setting('projector.off', true) = 'on' then
        return null;
    end if;

    -- 1. Events by hour.
    insert into event_hours as counted (
        hour, step, event_type, status, attempts, shard, events, without_command,
        attempts_defaulted
    )
    select   hour_of(moved.created_at), moved.step collate "C", moved.event_type collate "C",
             moved.status collate "C", moved.attempts, own_shard, sum(moved.sign),
             sum(moved.without_command), sum(moved.attempts_defaulted)
    from     (
                 select -added as sign, created_at, step, event_type, status, attempts,
                        case when coalesce(command_id, '') = '' then -added else 0 end
                            as without_command,
                        case when evidence < 100 then -added else 0 end as attempts_defaulted
                 from   before
                 union all
                 select added, created_at, step, event_type, status, attempts,
                        case when coalesce(command_id, '') = '' then added else 0 end,
                        case when evidence < 100 then added else 0 end
                 from   after
             ) as moved
    group by 1, 2, 3, 4, 5
    having   sum(moved.sign) <> 0 or sum(moved.without_command) <> 0
    or       sum(moved.attempts_defaulted) <> 0
    order by max(moved.created_at)
    on conflict (hour, step, event_type, status, attempts, shard)
    do update set
        events             = counted.events + excluded.events,
        without_command    = counted.without_command + excluded.without_command,
        attempts_defaulted = counted.attempts_defaulted + excluded.attempts_defaulted;

    -- 2. Events by minute.
    insert into event_minutes as counted (
        minute, event_type, status, attempts, shard, events, attempts_defaulted
    )
    select   minute_of(moved.created_at), moved.event_type collate "C", moved.status collate "C",
             moved.attempts, own_shard, sum(moved.sign), sum(moved.attempts_defaulted)
    from     (
                 select -added as sign, created_at, event_type, status, attempts,
                        case when evidence < 100 then -added else 0 end as attempts_defaulted
                 from   before
                 union all
                 select added, created_at, event_type, status, attempts,
                        case when evidence < 100 then added else 0 end
                 from   after
             ) as moved
    where    created_at >= (select kept_from from maintenance_state where subject = 'minutes')
    group by 1, 2, 3, 4
    having   sum(moved.sign) <> 0 or sum(moved.attempts_defaulted) <> 0
    order by max(moved.created_at)
    on conflict (minute, event_type, status, attempts, shard)
    do update set
        events             = counted.events + excluded.events,
        attempts_defaulted = counted.attempts_defaulted + excluded.attempts_defaulted;

    -- 3. Arrivals by hour.
    insert into arrival_hours as counted (
        hour, shape, worker_id, lateness, shard, events, skew_us, attempts_defaulted,
        status_from_name, time_from_log
    )
    select   hour_of(coalesce(moved.recorded_at, moved.created_at)), moved.shape collate "C",
             coalesce(moved.worker_id, '') collate "C",
             lateness_of(moved.created_at, moved.recorded_at), own_shard, sum(moved.sign),
             coalesce(sum(moved.sign * skew_us(moved.created_at, moved.recorded_at)), 0),
             coalesce(sum(moved.sign) filter (where moved.evidence < 100), 0),
             coalesce(sum(moved.sign) filter (where moved.evidence / 10 % 10 = 0), 0),
             coalesce(sum(moved.sign) filter (where moved.evidence % 10 = 0), 0)
    from     (
                 select -added as sign, recorded_at, created_at, shape, worker_id, evidence
                 from   before
                 union all
                 select added, recorded_at, created_at, shape, worker_id, evidence
                 from   after
             ) as moved
    group by 1, 2, 3, 4
    having   sum(moved.sign) <> 0
    or       sum(moved.sign * skew_us(moved.created_at, moved.recorded_at)) <> 0
    or       sum(moved.sign) filter (where moved.evidence < 100) <> 0
    or       sum(moved.sign) filter (where moved.evidence / 10 % 10 = 0) <> 0
    or       sum(moved.sign) filter (where moved.evidence % 10 = 0) <> 0
    order by max(coalesce(moved.recorded_at, moved.created_at))
    on conflict (hour, shape, worker_id, lateness, shard)
    do update set
        events             = counted.events + excluded.events,
        skew_us            = counted.skew_us + excluded.skew_us,
        attempts_defaulted = counted.attempts_defaulted + excluded.attempts_defaulted,
        status_from_name   = counted.status_from_name + excluded.status_from_name,
        time_from_log      = counted.time_from_log + excluded.time_from_log;

    -- 4. Coercions by hour.
    insert into coercion_hours as counted (hour, shape, rule, shard, coercions)
    select   hour_of(coalesce(moved.recorded_at, moved.created_at)), moved.shape collate "C",
             left(coercion.value ->> 'rule', 100) collate "C", own_shard, sum(moved.sign)
    from     (
                 select -added as sign, recorded_at, created_at, shape, coercions
                 from   before
                 where  coercions is not null
                 union all
                 select added, recorded_at, created_at, shape, coercions
                 from   after
                 where  coercions is not null
             ) as moved
    cross join lateral jsonb_array_elements(moved.coercions) as coercion
    where    coercion.value ->> 'rule' is not null
    group by 1, 2, 3
    having   sum(moved.sign) <> 0
    order by 1, 2, 3
    on conflict (hour, shape, rule, shard)
    do update set coercions = counted.coercions + excluded.coercions;
    return null;
end
$$;

create trigger project_3_counters_inserted
    after insert on normalizer.events
    referencing new table as after
    for each statement execute function projector.project_counters();

create trigger project_3_counters_updated
    after update on normalizer.events
    referencing old table as before new table as after
    for each statement execute function projector.project_counters();

create trigger project_3_counters_deleted
    after delete on normalizer.events
    referencing old table as before
    for each statement execute function projector.project_counters();

create trigger project_3_counters_archived
    after delete on normalizer.events
    referencing old table as before
    for each statement when (current_setting('projector.archiving', true) = 'on')
    execute function projector.project_counters('archived');


-- Refusals are few, so an update subtracts every old row and adds every new one.
create function projector.project_quarantine() returns trigger
    language plpgsql volatile security definer
    set search_path = pg_catalog, projector, pg_temp
as $$
declare
    own_shard constant smallint := take_shard();
begin
    if current_setting('projector.off', true) = 'on' then
        -- Refusals are few, so a comparison of all hours finds the ones that differ.
        insert into divergences (projection, noted_by) values ('quarantine_hours', 'off');
        return null;
    end if;
    if tg_op <> 'INSERT' then
        insert into quarantine_hours as counted (hour, reason, shape, shard, refused)
        select   hour_of(quarantined_at), reason collate "C", shape collate "C", own_shard,
                 -count(*)
        from     before
        group by 1, 2, 3
        on conflict (hour, reason, shape, shard)
        do update set refused = counted.refused + excluded.refused;
    end if;
    if tg_op <> 'DELETE' then
        insert into quarantine_hours as counted (hour, reason, shape, shard, refused)
        select   hour_of(quarantined_at), reason collate "C", shape collate "C", own_shard,
                 count(*)
        from     after
        group by 1, 2, 3
        on conflict (hour, reason, shape, shard)
        do update set refused = counted.refused + excluded.refused;
    end if;
    return null;
end
$$;

create trigger project_inserted
    after insert on normalizer.quarantine
    referencing new table as after
    for each statement execute function projector.project_quarantine();

create trigger project_updated
    after update on normalizer.quarantine
    referencing old table as before new table as after
    for each statement execute function projector.project_quarantine();

create trigger project_deleted
    after delete on normalizer.quarantine
    referencing old table as before
    for each statement execute function projector.project_quarantine();

insert into migrations.applied (version) values ('0003') on conflict do nothing;
