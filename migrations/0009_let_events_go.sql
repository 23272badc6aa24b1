-- migrate:up

-- Letting old events go, so that nothing is counted twice and no count is lost.
--
-- A bucket that is due goes through these states, each a transaction of its own:
--     closed     its rows may not change any more, and no row comes in (events_bucket_closed); an
--                event for it is ignored as expired, by live and backfill alike, for ever
--     archived   what its events are counted as has moved to shard -1, and its executions know how
--                many of their events are gone: verify leaves both alone
--     detached   it is no partition any more
--     dropped    ensure_bucket answers null for it for ever
-- Hashed ids have no time and share one bucket: their old rows are archived and deleted a few at a
-- time, with projector.archiving set, which keeps the triggers from taking the counts back.


-- How many rows of each partition, or run of a job, retention has taken: the ledger's totals still
-- hold them.
create table normalizer.archived_rows (
    source_topic      text    not null,
    source_generation integer not null,
    source_partition  integer not null,
    job_id            text    not null default '',
    run               integer not null default 0,
    events            bigint  not null default 0,
    quarantined       bigint  not null default 0,
    constraint archived_rows_pkey primary key (
        source_topic, source_generation, source_partition, job_id, run
    )
);

comment on table normalizer.archived_rows is
    'Rows of events and quarantine that retention has taken, by where they came from and, where a '
    'job wrote them, by which run.';

grant select on normalizer.archived_rows to normalizer_writer;


-- Counts some events as archived: what they are counted as moves to shard -1. The caller sees to
-- it that they can no longer change, and that none is counted so twice.
create function projector.archive_events(event_ids bigint[]) returns bigint
    language plpgsql volatile security definer
    set search_path = pg_catalog, projector, pg_temp
    set jit = off
as $$
declare
    own_shard constant smallint := take_shard();
    archived  bigint;
begin
    create temporary table archiving on commit drop as
    select execution_id, event_type, step, status, attempts, created_at, recorded_at, shape,
           evidence, coercions, source_topic, source_generation, source_partition, batch_id
    from   unnest(archive_events.event_ids) as gone (event_id)
    join   normalizer.events using (event_id);

    perform lock_executions(array(select distinct execution_id from archiving));
    update execution_facts as known
    set    archived = known.archived + gone.events
    from   (
               select execution_id, count(*) as events from archiving group by execution_id
           ) as gone
    where  known.execution_id = gone.execution_id;

    insert into event_hours as counted (hour, step, event_type, status, attempts, shard, events)
    select   hour_of(created_at), step, event_type, status, attempts, way.shard,
             way.sign * count(*)
    from     archiving
    cross join (values (own_shard, -1), ((-1)::smallint, 1)) as way (shard, sign)
    group by 1, 2, 3, 4, 5, way.shard, way.sign
    on conflict (hour, step, event_type, status, attempts, shard)
    do update set events = counted.events + excluded.events;

    insert into event_minutes as counted (minute, event_type, status, attempts, shard, events)
    select   minute_of(created_at), event_type, status, attempts, way.shard, way.sign * count(*)
    from     archiving
    cross join (values (own_shard, -1), ((-1)::smallint, 1)) as way (shard, sign)
    where    created_at >= (select kept_from from horizon where rows_of = 'minutes')
    group by 1, 2, 3, 4, way.shard, way.sign
    on conflict (minute, event_type, status, attempts, shard)
    do update set events = counted.events + excluded.events;

    insert into arrival_hours as counted (hour, shape, evidence, lateness, shard, events)
    select   hour_of(coalesce(recorded_at, created_at)), shape, evidence,
             lateness_of(created_at, recorded_at), way.shard, way.sign * count(*)
    from     archiving
    cross join (values (own_shard, -1), ((-1)::smallint, 1)) as way (shard, sign)
    group by 1, 2, 3, 4, way.shard, way.sign
    on conflict (hour, shape, evidence, lateness, shard)
    do update set events = counted.events + excluded.events;

    insert into coercion_hours as counted (hour, shape, rule, shard, coercions)
    select   hour_of(coalesce(recorded_at, created_at)), shape, coercion.value ->> 'rule',
             way.shard, way.sign * count(*)
    from     archiving
    cross join lateral jsonb_array_elements(coercions) as coercion
    cross join (values (own_shard, -1), ((-1)::smallint, 1)) as way (shard, sign)
    where    coercion.value ->> 'rule' is not null
    group by 1, 2, 3, way.shard, way.sign
    on conflict (hour, shape, rule, shard)
    do update set coercions = counted.coercions + excluded.coercions;

    insert into normalizer.archived_rows as known (
        source_topic, source_generation, source_partition, job_id, run, events
    )
    select   source_topic, source_generation, source_partition, coalesce(written.job_id, ''),
             coalesce(written.run, 0), count(*)
    from     archiving
    left join normalizer.job_batch as written using (batch_id)
    group by 1, 2, 3, 4, 5
    on conflict (source_topic, source_generation, source_partition, job_id, run)
    do update set events = known.events + excluded.events;

    select count(*) into archived from archiving;
    drop table archiving;
    return archived;
end
$$;


-- Forgets executions of which no event is left, with their calls; what they are counted as stays,
-- in shard -1. Returns how many there were.
create function projector.archive_executions(execution_ids bigint[]) returns bigint
    language plpgsql volatile security definer
    set search_path = pg_catalog, projector, pg_temp
    set jit = off
as $$
declare
    gone  bigint[];
    tries call_id[];
begin
    perform lock_executions(archive_executions.execution_ids);
    gone := array(
        select execution_id
        from   execution_facts
        where  execution_id = any(archive_executions.execution_ids)
        and    archived >= events
    );
    tries := array(
        select (execution_id, call_key, attempts)::call_id
        from   call_facts
        where  execution_id = any(gone)
    );
    perform count_calls(array(select counted from call_counts(-1, tries) as counted));
    perform count_calls(array(select counted from call_counts(1, tries) as counted), -1::smallint);

    insert into execution_hours as counted (hour, playbook, outcome, shard, executions)
    select   marked.hour, playbook_of(known.counted_told), marked.outcome, way.shard,
             way.sign * count(*)
    from     execution_facts as known
    cross join lateral (
        values (known.counted_begun, 'BEGUN'), (known.counted_ended, known.counted_outcome)
    ) as marked (hour, outcome)
    cross join (values (take_shard(), -1), ((-1)::smallint, 1)) as way (shard, sign)
    where    known.execution_id = any(gone)
    and      marked.hour is not null
    group by 1, 2, 3, way.shard, way.sign
    on conflict (hour, playbook, outcome, shard)
    do update set executions = counted.executions + excluded.executions;

    delete from call_facts where execution_id = any(gone);
    delete from execution_facts where execution_id = any(gone);
    return cardinality(gone);
end
$$;


-- Adds up what several shards count of hours that nobody writes to any more, in shard 0; waits for
-- those who hold one of the shards, while others take another. Returns how many rows went.
create function projector.fold_shards(
    counted_in text, time_column text, measures text[], since timestamptz, until timestamptz
) returns bigint
    language plpgsql volatile security definer
    set search_path = pg_catalog, projector, pg_temp
    set jit = off
as $$
declare
    shards smallint[];
    keys   text;
    sums   text;
    adds   text;
    folded bigint;
begin
    execute format(
        'select array_agg(distinct shard order by shard) from %1$I '
        'where %2$I >= $1 and %2$I < $2 and shard > 0',
        counted_in, time_column
    )
    into  shards
    using since, until;
    if shards is null then
        return 0;
    end if;
    perform pg_advisory_xact_lock(520394741, shard)
    from    unnest(0::smallint || shards) as shard;
    select string_agg(quote_ident(attname), ', ' order by attnum)
    into   keys
    from   pg_attribute
    where  attrelid = fold_shards.counted_in::regclass
    and    attnum > 0
    and    not attisdropped
    and    attname <> 'shard'
    and    attname <> all(fold_shards.measures);
    select string_agg(format('sum(%I)', measure), ', '),
           string_agg(format('%1$I = counted.%1$I + excluded.%1$I', measure), ', ')
    into   sums, adds
    from   unnest(fold_shards.measures) as measure;
    execute format(
        'with gone as ('
        '    delete from %1$I where %2$I >= $1 and %2$I < $2 and shard = any($3) returning *'
        '), added as ('
        '    insert into %1$I as counted (%3$s, shard, %4$s)'
        '    select %3$s, 0, %5$s from gone group by %3$s'
        '    on conflict (%3$s, shard) do update set %6$s'
        ') select count(*) from gone',
        counted_in, time_column, keys,
        (select string_agg(quote_ident(measure), ', ') from unnest(measures) as measure),
        sums, adds
    )
    into folded
    using since, until, shards;
    return folded;
end
$$;


-- They write as their owner: for projector maintain only.
revoke execute on function projector.archive_events(bigint[]) from public;
revoke execute on function projector.archive_executions(bigint[]) from public;
revoke execute on function
    projector.fold_shards(text, text, text[], timestamptz, timestamptz) from public;

insert into migrations.applied (version) values ('0009') on conflict do nothing;

-- migrate:down
