-- Retention: old events are deleted, nothing is counted twice, and no count is lost.
--
-- Archiving means deleting. Stored events are the rows in the table: no trigger, comparison or
-- repair knows another state. Every count of events has two parts:
--     live      what the stored rows say: shards from 0, and what is computed from the rows
--     archived  what deleted rows said: shard -1 of every counter and roll-up,
--               archived_executions, archived_calls, and archived_rows for the ledger
-- A view shows their sum. verify and repair compare and correct the live part only:
--     counters (event_*, arrival_*, coercion_*, quarantine_hours): sum over shards >= 0 = the rows
--     execution_facts = merged_executions(): the rows, merged with archived_executions
--     call_facts      = aggregate_calls(): computed from the rows and archived_calls
--     call roll-ups: sum over shards >= 0 = what call_facts holds
--     execution_hours: sum over shards >= 0 = what execution_facts says, minus what
--               archived_executions.counted_* says is counted in shard -1
-- archived_* tables are sources, as the events are: nothing exists that they could be rebuilt from.
--
-- In one transaction, archive_events adds what some events say to the archived part and deletes
-- them. The triggers subtract it from the live part, as for any delete.
--
-- Two limits keep deleted events from being stored again. expired_before
-- (normalizer.retention_horizon, H): an event that Kafka received earlier is ignored, in live
-- traffic and in backfills. And a row is deleted only if Kafka received it before H - D, D being
-- some days. So no record that is read again counts twice, and neither do two reports of one event
-- that are at most D apart. H is raised first, in a transaction of its own. Rows are deleted when
-- no transaction is left that may have read the earlier H: projector/maintenance/retention.py.


create table normalizer.archived_rows (
    source_topic       text    not null,
    source_incarnation integer not null,
    source_partition   integer not null,
    job_id             text    not null default '',
    run                integer not null default 0,
    events             bigint  not null default 0,
    quarantined        bigint  not null default 0,
    holes              bigint  not null default 0,
    constraint archived_rows_pkey primary key (
        source_topic, source_incarnation, source_partition, job_id, run
    )
);

comment on table normalizer.archived_rows is
    'Private: number of rows of events, quarantine and gaps that retention deleted, by '
    'coordinates and, if a job wrote them, by its run. The totals of the ledger still include '
    'them.';

grant select on normalizer.archived_rows to normalizer_writer;


-- The id that an event was reported with, if another event has that id; null if it has its own. As
-- JSON, so that any content of coercions can be inserted.
create function normalizer.shared_id(coercions jsonb) returns jsonb
    language sql immutable parallel safe
    return jsonb_path_query_first(coercions, '$[*] ? (@.rule == "event_id_conflict").from');

create index siblings_by_shared_id on normalizer.events
    using hash (normalizer.shared_id(coercions))
    where merge_flags & 8 <> 0;
comment on index normalizer.siblings_by_shared_id is
    'Query: has the holder of an event_id siblings that are still stored? It is deleted after '
    'them.';


-- Step 1 of archive_events: adds what these events say about their executions to the archived part.
-- The delete in step 3 subtracts from execution_facts what is added to it here.
create function projector.archive_executions(event_ids bigint[]) returns void
    language plpgsql volatile
    set search_path = pg_catalog, projector, pg_temp
    set jit = off
as $$
begin
    with gone as materialized (
        select *
        from   aggregate_executions(
                   array(
                       select distinct execution_id
                       from   normalizer.events
                       where  event_id = any(archive_executions.event_ids)
                   ),
                   archive_executions.event_ids
               )
    ),
    kept as (
        insert into archived_executions as known (
            execution_id, events, first_at, begin_at, last_at, last_event_ranked, active_at,
            highest_attempts, playbook_ranked, catalog_id, parent_execution_id, completed,
            completed_at, failed, failed_at, cancelled, cancelled_at
        )
        select execution_id, events, first_at, begin_at, last_at, last_event_ranked, active_at,
               highest_attempts, playbook_ranked, catalog_id, parent_execution_id, completed,
               completed_at, failed, failed_at, cancelled, cancelled_at
        from   gone
        on conflict (execution_id)
        do update set
            events              = known.events + excluded.events,
            first_at            = least(known.first_at, excluded.first_at),
            begin_at            = least(known.begin_at, excluded.begin_at),
            last_at             = greatest(known.last_at, excluded.last_at),
            last_event_ranked   = greatest(known.last_event_ranked, excluded.last_event_ranked),
            active_at           = greatest(known.active_at, excluded.active_at),
            highest_attempts    = greatest(known.highest_attempts, excluded.highest_attempts),
            playbook_ranked     = least(known.playbook_ranked, excluded.playbook_ranked),
            catalog_id          = least(known.catalog_id, excluded.catalog_id),
            parent_execution_id = least(known.parent_execution_id, excluded.parent_execution_id),
            completed           = known.completed + excluded.completed,
            completed_at        = least(known.completed_at, excluded.completed_at),
            failed              = known.failed + excluded.failed,
            failed_at           = least(known.failed_at, excluded.failed_at),
            cancelled           = known.cancelled + excluded.cancelled,
            cancelled_at        = least(known.cancelled_at, excluded.cancelled_at)
    )
    update execution_facts as known
    set    archived  = known.archived + gone.events,
           events    = known.events + gone.events,
           completed = known.completed + gone.completed,
           failed    = known.failed + gone.failed,
           cancelled = known.cancelled + gone.cancelled
    from   gone
    where  known.execution_id = gone.execution_id;
end
$$;


-- Deletes these events and moves what they are counted as to the archived part. Returns the number
-- of deleted events. The caller has locked their executions and, in a later statement, the rows.
--     1. add what they say about their executions to the archived part
--     2. copy those that are of calls to archived_calls
--     3. delete the events
--     4. count them in shard -1 of every counter
--     5. count them in archived_rows, for the ledger
create function projector.archive_events(event_ids bigint[]) returns bigint
    language plpgsql volatile security definer
    set search_path = pg_catalog, projector, pg_temp
    set jit = off
as $$
declare
    deleted bigint;
begin
    -- 1. The executions.
    perform archive_executions(archive_events.event_ids);

    -- 2. The calls.
    insert into archived_calls
    select event_id, execution_id, command_id, event_class, role, reporter, number, created_at,
           outcome, duration_us, error, step, worker_id, max_attempts, iteration,
           call_index_of_event(event_id, role)
    from   stored_call_events(
               array(
                   select distinct (execution_id, command_id)::call_command
                   from   normalizer.events
                   where  event_id = any(archive_events.event_ids)
                   and    command_id <> ''
               )
           )
    where  event_id = any(archive_events.event_ids);

    -- 3. The events.
    with gone as (
        delete from normalizer.events
        where  event_id = any(archive_events.event_ids)
        returning step, event_type, status, attempts, command_id, worker_id, created_at,
                  recorded_at, shape, evidence, coercions, source_topic, source_incarnation,
                  source_partition, batch_id
    ),
    -- 4. The counters.
    in_hours as (
        insert into event_hours as counted (
            hour, step, event_type, status, attempts, shard, events, without_command,
            attempts_defaulted
        )
        select   hour_of(created_at), step, event_type, status, attempts, -1, count(*),
                 count(*) filter (where coalesce(command_id, '') = ''),
                 count(*) filter (where evidence < 100)
        from     gone
        group by 1, 2, 3, 4, 5
        on conflict (hour, step, event_type, status, attempts, shard)
        do update set
            events             = counted.events + excluded.events,
            without_command    = counted.without_command + excluded.without_command,
            attempts_defaulted = counted.attempts_defaulted + excluded.attempts_defaulted
    ),
    in_minutes as (
        insert into event_minutes as counted (
            minute, event_type, status, attempts, shard, events, attempts_defaulted
        )
        select   minute_of(created_at), event_type, status, attempts, -1, count(*),
                 count(*) filter (where evidence < 100)
        from     gone
        where    created_at >= (select kept_from from maintenance_state where subject = 'minutes')
        group by 1, 2, 3, 4
        on conflict (minute, event_type, status, attempts, shard)
        do update set
            events             = counted.events + excluded.events,
            attempts_defaulted = counted.attempts_defaulted + excluded.attempts_defaulted
    ),
    in_arrivals as (
        insert into arrival_hours as counted (
            hour, shape, worker_id, lateness, shard, events, skew_us, attempts_defaulted,
            status_from_name, time_from_log
        )
        select   hour_of(coalesce(recorded_at, created_at)), shape, coalesce(worker_id, ''),
                 lateness_of(created_at, recorded_at), -1, count(*),
                 coalesce(sum(skew_us(created_at, recorded_at)), 0),
                 count(*) filter (where evidence < 100),
                 count(*) filter (where evidence / 10 % 10 = 0),
                 count(*) filter (where evidence % 10 = 0)
        from     gone
        group by 1, 2, 3, 4
        on conflict (hour, shape, worker_id, lateness, shard)
        do update set
            events             = counted.events + excluded.events,
            skew_us            = counted.skew_us + excluded.skew_us,
            attempts_defaulted = counted.attempts_defaulted + excluded.attempts_defaulted,
            status_from_name   = counted.status_from_name + excluded.status_from_name,
            time_from_log      = counted.time_from_log + excluded.time_from_log
    ),
    in_coercions as (
        insert into coercion_hours as counted (hour, shape, rule, shard, coercions)
        select   hour_of(coalesce(recorded_at, created_at)), shape,
                 left(coercion.value ->> 'rule', 100), -1, count(*)
        from     gone
        cross join lateral jsonb_array_elements(coercions) as coercion
        where    coercion.value ->> 'rule' is not null
        group by 1, 2, 3
        on conflict (hour, shape, rule, shard)
        do update set coercions = counted.coercions + excluded.coercions
    ),
    -- 5. The ledger.
    in_rows as (
        insert into normalizer.archived_rows as known (
            source_topic, source_incarnation, source_partition, job_id, run, events
        )
        select   source_topic, source_incarnation, source_partition, coalesce(written.job_id, ''),
                 coalesce(written.run, 0), count(*)
        from     gone
        left join normalizer.job_batches as written using (batch_id)
        group by 1, 2, 3, 4, 5
        on conflict (source_topic, source_incarnation, source_partition, job_id, run)
        do update set events = known.events + excluded.events
    )
    select count(*) into deleted from gone;
    return deleted;
end
$$;


-- Removes executions without stored events: deletes their calls, hides them in all views, and moves
-- what they are counted as to shard -1. Id and begin stay in archived_executions, so that a later
-- event does not count a second begin. An execution that is known to differ from the log is left:
-- one of its events may have been stored without its projections. Returns the number of removed
-- executions.
--     1. choose and lock the executions
--     2. move the counts of their calls
--     3. move the counts of the executions
--     4. delete the calls
create function projector.remove_executions(execution_ids bigint[]) returns bigint
    language plpgsql volatile security definer
    set search_path = pg_catalog, projector, pg_temp
    set jit = off
as $$
declare
    gone  bigint[];
    tries call_id[];
begin
    -- 1. Executions without stored events and without an open divergence.
    perform lock_executions(remove_executions.execution_ids);
    gone := array(
        select execution_id
        from   execution_facts
        where  execution_id = any(remove_executions.execution_ids)
        and    archived = events
        and    not removed
        and    not exists (
                   select
                   from   divergences as known
                   where  known.execution_id = execution_facts.execution_id
                   and    known.ended_at is null
               )
        and    not exists (
                   select
                   from   divergences as known
                   where  known.projection in ('execution_facts', 'call_facts')
                   and    known.execution_id is null
                   and    known.ended_at is null
               )
    );
    -- 2. Their calls, from the live part to shard -1.
    tries := array(
        select (execution_id, command_id, attempts)::call_id
        from   call_facts
        where  execution_id = any(gone)
    );
    perform count_calls(array(select counted from call_counts(-1, tries) as counted));
    perform count_calls(array(select counted from call_counts(1, tries) as counted), -1::smallint);

    -- 3. The executions, from the live part to shard -1. One that was removed before is counted
    -- there as what it was then; that is subtracted.
    insert into execution_hours as counted (hour, playbook, outcome, shard, executions)
    select   marked.hour, marked.playbook, marked.outcome, way.shard,
             sum(way.sign * marked.sign)
    from     execution_facts as known
    join     archived_executions as kept using (execution_id)
    cross join lateral (
        values (known.counted_begun, playbook_of(known.counted_playbook_ranked), 'BEGUN', 1),
               (known.counted_ended, playbook_of(known.counted_playbook_ranked),
                known.counted_outcome, 1),
               (kept.counted_begun, playbook_of(kept.counted_playbook_ranked), 'BEGUN', -1),
               (kept.counted_ended, playbook_of(kept.counted_playbook_ranked),
                kept.counted_outcome, -1)
    ) as marked (hour, playbook, outcome, sign)
    cross join (values (take_shard(), -1), ((-1)::smallint, 1)) as way (shard, sign)
    where    known.execution_id = any(gone)
    and      marked.hour is not null
    group by 1, 2, 3, 4
    having   sum(way.sign * marked.sign) <> 0
    on conflict (hour, playbook, outcome, shard)
    do update set executions = counted.executions + excluded.executions;

    update archived_executions as kept
    set    counted_playbook_ranked = known.counted_playbook_ranked,
           counted_begun           = known.counted_begun,
           counted_outcome         = known.counted_outcome,
           counted_ended           = known.counted_ended
    from   execution_facts as known
    where  kept.execution_id = any(gone)
    and    known.execution_id = kept.execution_id;

    -- 4. The calls.
    delete from call_facts where execution_id = any(gone);
    delete from archived_calls where execution_id = any(gone);
    update execution_facts set removed = true where execution_id = any(gone);
    return cardinality(gone);
end
$$;


-- Adds the rows of several shards up in shard 0, for times that nobody writes to any more. Waits
-- for transactions that hold one of these shards; meanwhile new transactions take others. Returns
-- the number of deleted rows.
create function projector.compact_shards(
    counter_table text, time_column text, since timestamptz, until timestamptz
) returns bigint
    language plpgsql volatile security definer
    set search_path = pg_catalog, projector, pg_temp
    set jit = off
as $$
declare
    compacting smallint[];
    keys       text;
    measures   text;
    sums       text;
    adds       text;
    aggregated bigint;
begin
    execute format(
        'select array_agg(distinct shard order by shard) from %1$I '
        'where %2$I >= $1 and %2$I < $2 and shard > 0',
        counter_table, time_column
    )
    into  compacting
    using since, until;
    if compacting is null then
        return 0;
    end if;
    perform
    from     projector.shards
    where    shards.shard = any(0::smallint || compacting)
    order by shards.shard
    for update;
    select string_agg(quote_ident(attname), ', ' order by attnum)
               filter (where attnum = any(conkey)),
           string_agg(quote_ident(attname), ', ' order by attnum)
               filter (where attnum <> all(conkey)),
           string_agg(format('sum(%I)', attname), ', ' order by attnum)
               filter (where attnum <> all(conkey)),
           string_agg(format('%1$I = counted.%1$I + excluded.%1$I', attname), ', ')
               filter (where attnum <> all(conkey))
    into   keys, measures, sums, adds
    from   pg_attribute
    join   pg_constraint on conrelid = attrelid and contype = 'p'
    where  attrelid = compact_shards.counter_table::regclass
    and    attnum > 0
    and    not attisdropped
    and    attname <> 'shard';
    execute format(
        'with gone as ('
        '    delete from %1$I where %2$I >= $1 and %2$I < $2 and shard = any($3) returning *'
        '), added as ('
        '    insert into %1$I as counted (%3$s, shard, %4$s)'
        '    select %3$s, 0, %5$s from gone group by %3$s'
        '    on conflict (%3$s, shard) do update set %6$s'
        ') select count(*) from gone',
        counter_table, time_column, keys, measures, sums, adds
    )
    into aggregated
    using since, until, compacting;
    return aggregated;
end
$$;


-- They write with the rights of their owner, so only projector maintain may call them.
revoke execute on function projector.archive_events(bigint[]) from public;
revoke execute on function projector.remove_executions(bigint[]) from public;
revoke execute on function
    projector.compact_shards(text, text, timestamptz, timestamptz) from public;

insert into migrations.applied (version) values ('0009') on conflict do nothing;
