-- Retention: an execution that has been silent for long enough leaves whole, in one transaction.
-- Its counts stay.
--
-- Every count of events has two parts. The live part says what the stored rows say: shards from 0.
-- The archived part says what deleted rows said: shard -1 of every counter and roll-up, and
-- archived_rows for the ledger. A view shows their sum. verify and repair compare and correct the
-- live part only. Nothing exists that the archived part could be rebuilt from.
--
-- projector.archive_executions deletes all events of some executions. While it runs, the setting
-- projector.archiving is on, and the triggers on DELETE add to the archived part what they subtract
-- from the live part. The setting means nothing for an insert or an update, so a writer that sets
-- it changes nothing.
--
-- Two limits keep deleted events from being stored again. expired_before
-- (normalizer.retention_horizon, H): an event that Kafka received earlier is ignored, in live
-- traffic and in backfills. And an execution leaves only if Kafka received its last event before H
-- - D, D being some days. So no record that is read again counts twice, and neither do two reports
-- of one event that are at most D apart. An event that arrives for an execution later than that
-- begins a new row: its begin, its end, and its calls count once more. H is raised first, in a
-- transaction of its own. Executions leave when no transaction is left that may have read the
-- earlier H: projector/maintenance/event_retention.py.


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


-- The id that an event was reported with, if another event has that id, or null if it has its own.
-- As JSON, so that any content of coercions can be inserted.
create function normalizer.shared_id(coercions jsonb) returns jsonb
    language sql immutable parallel safe
    return jsonb_path_query_first(coercions, '$[*] ? (@.rule == "event_id_conflict").from');

create index siblings_by_shared_id on normalizer.events
    using hash (normalizer.shared_id(coercions))
    where merge_flags & 8 <> 0;
comment on index normalizer.siblings_by_shared_id is
    'Query: the siblings of an event, which share its event_id. Their executions leave together.';


-- Executions that share an event_id with one of these, in pairs of one of these and another. One of
-- them holds the id, and its sibling has a hashed one. They leave together: as long as one is
-- stored, a report that comes again must find the id taken.
create function projector.tied_executions(execution_ids bigint[])
    returns table (execution_id bigint, tied_to bigint)
    language sql stable
    set search_path = pg_catalog, normalizer, pg_temp
    set enable_seqscan = off
    set enable_hashjoin = off
    set enable_mergejoin = off
as $$
    with tied as materialized (
        select event_id, execution_id, shared_id(coercions) #>> '{}' as shared
        from   events
        where  execution_id = any((select tied_executions.execution_ids)::bigint[])
        and    merge_flags & 8 <> 0
    )
    select distinct tied.execution_id, other.execution_id
    from   tied
    join   events as other on shared_id(other.coercions) = to_jsonb(tied.event_id)
                          and other.merge_flags & 8 <> 0
    where  other.execution_id <> tied.execution_id
    union
    select distinct tied.execution_id, other.execution_id
    from   tied
    join   events as other on other.event_id = case
               when tied.shared ~ '^-?[0-9]{1,19}$'
                    and tied.shared::numeric between -9223372036854775808 and 9223372036854775807
               then tied.shared::bigint
           end
    where  other.execution_id <> tied.execution_id
$$;


-- Takes executions that a deletion leaves without events out of the projections, and counts them
-- and their calls as archived. Called by the trigger of executions while projector.archiving is on.
-- Returns the changes of the other executions.
--     1. find the executions
--     2. move the counts of their calls from the live part to shard -1
--     3. move the counts of the executions
--     4. delete their rows
create function projector.remove_whole_executions(changes projector.execution_change[])
    returns projector.execution_change[]
    language plpgsql volatile
    set search_path = pg_catalog, projector, pg_temp
as $$
declare
    gone  constant bigint[] := array(
        select known.execution_id
        from   unnest(remove_whole_executions.changes) as change
        join   execution_facts as known using (execution_id)
        where  known.events + change.events = 0
    );
    calls constant call_id[] := array(
        select (execution_id, command_id, attempts)::call_id
        from   call_facts
        where  execution_id = any(gone)
    );
begin
    -- 2. Their calls.
    perform count_calls(array(select counted from call_counts(-1, calls) as counted));
    perform count_calls(array(select counted from call_counts(1, calls) as counted), -1::smallint);

    -- 3. The executions.
    insert into execution_hours as counted (hour, playbook, outcome, shard, executions)
    select   marked.hour, marked.playbook, marked.outcome, way.shard, sum(way.executions)
    from     execution_facts as known
    cross join lateral (
        values (known.counted_begun, playbook_of(known.counted_playbook_ranked), 'BEGUN'),
               (known.counted_ended, playbook_of(known.counted_playbook_ranked),
                known.counted_outcome)
    ) as marked (hour, playbook, outcome)
    cross join (values (take_shard(), -1), ((-1)::smallint, 1)) as way (shard, executions)
    where    known.execution_id = any(gone)
    and      marked.hour is not null
    group by 1, 2, 3, 4
    on conflict (hour, playbook, outcome, shard)
    do update set executions = counted.executions + excluded.executions;

    -- 4. Their rows.
    delete from call_facts where execution_id = any(gone);
    delete from execution_facts where execution_id = any(gone);
    return array(
        select change
        from   unnest(remove_whole_executions.changes) as change
        where  change.execution_id <> all(gone)
    );
end
$$;


-- Deletes all events of these executions, and moves what they are counted as to the archived part.
-- Returns the number of deleted events. The caller has locked the executions and, in a later
-- statement, their rows.
create function projector.archive_executions(execution_ids bigint[]) returns bigint
    language plpgsql volatile security definer
    set search_path = pg_catalog, projector, pg_temp
    set jit = off
as $$
declare
    deleted bigint;
begin
    perform set_config('projector.archiving', 'on', true);
    with gone as (
        delete from normalizer.events
        where  execution_id = any(archive_executions.execution_ids)
        returning source_topic, source_incarnation, source_partition, batch_id
    ),
    noted as (
        insert into normalizer.archived_rows as known (
            source_topic, source_incarnation, source_partition, job_id, run, events
        )
        select   source_topic, source_incarnation, source_partition, coalesce(written.job_id, ''),
                 coalesce(written.run, 0), count(*)
        from     gone
        left join normalizer.job_batches as written using (batch_id)
        group by 1, 2, 3, 4, 5
        order by 1, 2, 3, 4, 5
        on conflict (source_topic, source_incarnation, source_partition, job_id, run)
        do update set events = known.events + excluded.events
    )
    select count(*) into deleted from gone;
    perform set_config('projector.archiving', 'off', true);
    return deleted;
end
$$;


-- Adds the rows of several shards up in shard 0, for times that nobody writes to any more. Waits
-- for transactions that hold one of these shards. New transactions take others in the meantime.
-- Returns the number of deleted rows.
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
revoke execute on function projector.archive_executions(bigint[]) from public;
revoke execute on function
    projector.compact_shards(text, text, timestamptz, timestamptz) from public;

insert into migrations.applied (version) values ('0009') on conflict do nothing;
