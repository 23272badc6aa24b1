-- One row for each execution: what began it, how it ended, and whether its events agree.

create table projector.execution_facts (
    execution_id            bigint      not null,
    events                  bigint      not null,
    first_at                timestamptz,
    begin_at                timestamptz,
    last_at                 timestamptz,
    last_event_ranked       text[] collate "C",
    active_at               timestamptz,
    highest_attempts        integer,
    playbook_ranked         text[] collate "C",
    catalog_id              bigint,
    parent_execution_id     bigint,
    completed               bigint      not null,
    completed_at            timestamptz,
    failed                  bigint      not null,
    failed_at               timestamptz,
    cancelled               bigint      not null,
    cancelled_at            timestamptz,
    counted_playbook_ranked text[] collate "C",
    counted_begun           timestamptz,
    counted_outcome         text collate "C",
    counted_ended           timestamptz,
    constraint execution_facts_pkey primary key (execution_id)
) with (fillfactor = 70);

comment on table projector.execution_facts is
    'Private: what the events of each execution say about it, merged. Only lifecycle events '
    'end an execution. Views: executions and others.';
comment on column projector.execution_facts.begin_at is
    'created_at of the first event that begins it. Without such an event it is not counted as '
    'begun.';
comment on column projector.execution_facts.last_event_ranked is
    'The last event: its time (projector.encode_time), type, step, and the topic and partition '
    'of its record. The greatest value wins.';
comment on column projector.execution_facts.active_at is
    'created_at of the last event that is neither an end nor the report of an end '
    '(command.completed and similar, workflow.*): those normally follow the end.';
comment on column projector.execution_facts.playbook_ranked is
    'Four texts: 0 if the playbook is the path that a begin event names, or 1 if it is the step '
    'of a lifecycle event; the time; the playbook (its first 200 characters, because it is '
    'part of keys); its version. The least value wins.';
comment on column projector.execution_facts.completed is
    'Number of events that end it as COMPLETED. Each outcome has its own count and first time.';
comment on column projector.execution_facts.counted_playbook_ranked is
    'What roll-ups count the execution and its calls under now: this playbook, and in the next '
    'columns hour of the begin, outcome, and hour of the end.';

-- Says what one event tells about its execution, for the trigger, repair, and verify alike.
-- `role` and `type_outcome` come from event_kinds. They are null for a type that isn't there.
-- PostgreSQL inlines this function, so there is no call to pay for. `offset 0` keeps it from
-- encoding the time more than once.
create function projector.report_on_execution(
    role text, type_outcome text, event_type text, step text, status text,
    created_at timestamptz, source_topic text, source_partition integer, context jsonb,
    result jsonb
)
    returns table (
        last_event_ranked text[], begin_at timestamptz, active_at timestamptz,
        playbook_ranked text[], outcome text
    )
    language sql immutable parallel safe rows 1
begin atomic
    select array[said.moment, event_type, step, source_topic, source_partition::text],
           case when role = 'begins' then created_at end,
           case
               when role in ('ends', 'ended') or starts_with(event_type, 'workflow') then null
               else created_at
           end,
           case
               when said.named is not null
               then array[
                        '0', said.moment, left(said.named ->> 'path', 200),
                        coalesce(left(said.named ->> 'version', 100), '')
                    ]
               when role in ('begins', 'ends') and step <> ''
               then array['1', said.moment, left(step, 200), '']
           end,
           case
               when role is distinct from 'ends' then null
               when status in ('COMPLETED', 'FAILED', 'CANCELLED') then status
               else type_outcome
           end
    from   (
               select projector.encode_time(created_at) as moment,
                      -- Names the playbook, as path and version: the context of the event that
                      -- begins the execution, or that of the result, where a server keeps what
                      -- the client sent.
                      case
                          when role is distinct from 'begins' then null
                          when jsonb_typeof(context -> 'path') = 'string'
                               and context ->> 'path' <> ''
                          then context
                          when jsonb_typeof(result #> '{context,path}') = 'string'
                               and result #>> '{context,path}' <> ''
                          then result -> 'context'
                      end as named
               offset 0
           ) as said;
end;

create function projector.playbook_of(playbook_ranked text[]) returns text
    language sql immutable parallel safe
    return coalesce(playbook_ranked[3], '');

create function projector.version_of(playbook_ranked text[]) returns text
    language sql immutable parallel safe
    return nullif(playbook_ranked[4], '');

-- The earliest outcome, or the worst of several at the same time.
create function projector.outcome_of(
    completed_at timestamptz, failed_at timestamptz, cancelled_at timestamptz
) returns text
    language sql immutable parallel safe
    return case least(failed_at, cancelled_at, completed_at)
        when failed_at then 'FAILED'
        when cancelled_at then 'CANCELLED'
        when completed_at then 'COMPLETED'
        else ''
    end;


create table projector.execution_hours (
    hour       timestamptz                not null,
    playbook   text           collate "C" not null,
    outcome    text           collate "C" not null,
    shard      smallint                   not null,
    executions bigint                     not null,
    constraint execution_hours_pkey primary key (hour, playbook, outcome, shard),
    constraint execution_hours_outcome check (
        outcome in ('BEGUN', 'COMPLETED', 'FAILED', 'CANCELLED')
    )
) with (fillfactor = 70);

comment on table projector.execution_hours is
    'Private: executions that began and that ended, by hour and playbook. View: '
    'execution_outcomes.';

-- An execution whose roll-ups change: what it was counted under, and what it is now.
create type projector.execution_move as (
    execution_id        bigint,
    was_playbook_ranked text[],
    was_begun           timestamptz,
    was_outcome         text,
    was_ended           timestamptz,
    playbook_ranked     text[],
    begun               timestamptz,
    outcome             text,
    ended               timestamptz
);


-- What one row before a statement (sign -1) or after it (sign 1) says about its execution.
create type projector.execution_report as (
    sign                integer,
    execution_id        bigint,
    attempts            integer,
    created_at          timestamptz,
    catalog_id          bigint,
    parent_execution_id bigint,
    last_event_ranked   text[]      collate "C",
    begin_at            timestamptz,
    active_at           timestamptz,
    playbook_ranked     text[]      collate "C",
    outcome             text
);

-- Tells what rows say about an execution: all of them, or those that a statement changes. Then
-- events and ended ones are those after the statement less those before it.
create type projector.execution_change as (
    execution_id        bigint,
    events              bigint,
    first_at            timestamptz,
    begin_at            timestamptz,
    last_at             timestamptz,
    last_event_ranked   text[]      collate "C",
    active_at           timestamptz,
    highest_attempts    integer,
    playbook_ranked     text[]      collate "C",
    catalog_id          bigint,
    parent_execution_id bigint,
    completed           bigint,
    completed_at        timestamptz,
    failed              bigint,
    failed_at           timestamptz,
    cancelled           bigint,
    cancelled_at        timestamptz
);


-- The events of these executions. For readers, who may not read the log itself: the view
-- execution_timeline calls it, and downloads call events_at, page by page.
create function projector.events_of(execution_ids bigint[]) returns setof normalizer.events
    language sql stable security definer
    set search_path = pg_catalog, pg_temp
as $$
    select *
    from   normalizer.events
    where  execution_id = any((select events_of.execution_ids)::bigint[]);
$$;

revoke execute on function projector.events_of(bigint[]) from public;
grant execute on function projector.events_of(bigint[]) to projector_reader;

-- The events with these ids.
create function projector.events_at(event_ids bigint[]) returns setof normalizer.events
    language sql stable security definer
    set search_path = pg_catalog, pg_temp
as $$
    select *
    from   normalizer.events
    where  event_id = any((select events_at.event_ids)::bigint[]);
$$;

revoke execute on function projector.events_at(bigint[]) from public;
grant execute on function projector.events_at(bigint[]) to projector_reader;


-- Computes the row of each execution from its stored events:
--     1. derive from each event what it says about its execution
--     2. aggregate by execution
create function projector.aggregate_executions(execution_ids bigint[])
    returns setof projector.execution_change
    language sql stable
    set search_path = pg_catalog, projector, pg_temp
as $$
    -- 1. What each event says.
    with reported as (
        select event.execution_id, event.attempts, event.created_at, event.catalog_id,
               event.parent_execution_id, said.*
        from   events_of(aggregate_executions.execution_ids) as event
        left join event_kinds as kind using (event_type)
        cross join lateral report_on_execution(
            kind.role, kind.outcome, event.event_type, event.step, event.status, event.created_at,
            event.source_topic, event.source_partition, event.context, event.result
        ) as said
        offset 0
    )
    -- 2. One row for each execution.
    select   reported.execution_id, count(*), min(created_at), min(begin_at), max(created_at),
             max(last_event_ranked collate "C"), max(active_at), max(attempts),
             min(playbook_ranked collate "C"), min(reported.catalog_id),
             min(reported.parent_execution_id),
             count(*) filter (where outcome = 'COMPLETED'),
             min(created_at) filter (where outcome = 'COMPLETED'),
             count(*) filter (where outcome = 'FAILED'),
             min(created_at) filter (where outcome = 'FAILED'),
             count(*) filter (where outcome = 'CANCELLED'),
             min(created_at) filter (where outcome = 'CANCELLED')
    from     reported
    group by reported.execution_id
$$;


-- Rebuilds the rows of executions from their events. An execution without events gets a count of 0.
create function projector.rebuild_executions(execution_ids bigint[]) returns void
    language plpgsql volatile
    set search_path = pg_catalog, projector, pg_temp
as $$
begin
    update execution_facts as known
    set    events              = coalesce(aggregated.events, 0),
           first_at            = aggregated.first_at,
           begin_at            = aggregated.begin_at,
           last_at             = aggregated.last_at,
           last_event_ranked   = aggregated.last_event_ranked,
           active_at           = aggregated.active_at,
           highest_attempts    = aggregated.highest_attempts,
           playbook_ranked     = aggregated.playbook_ranked,
           catalog_id          = aggregated.catalog_id,
           parent_execution_id = aggregated.parent_execution_id,
           completed           = coalesce(aggregated.completed, 0),
           completed_at        = aggregated.completed_at,
           failed              = coalesce(aggregated.failed, 0),
           failed_at           = aggregated.failed_at,
           cancelled           = coalesce(aggregated.cancelled, 0),
           cancelled_at        = aggregated.cancelled_at
    from   unnest(rebuild_executions.execution_ids) as doubtful (execution_id)
    left join aggregate_executions(rebuild_executions.execution_ids) as aggregated
        using (execution_id)
    where  known.execution_id = doubtful.execution_id;
end
$$;


-- The executions that roll-ups do not count under what they are now. One without events is counted
-- under nothing: also one of which only an update is known, as its events were stored without
-- projections.
create function projector.execution_moves(execution_ids bigint[])
    returns setof projector.execution_move
    language sql stable
    set search_path = pg_catalog, projector, pg_temp
as $$
    select known.execution_id, known.counted_playbook_ranked, known.counted_begun,
           known.counted_outcome, known.counted_ended, known.playbook_ranked, today.begun,
           today.outcome, today.ended
    from   unnest(execution_moves.execution_ids) as wanted (execution_id)
    join   execution_facts as known using (execution_id)
    left join lateral (
        select hour_of(known.begin_at) as begun,
               outcome_of(known.completed_at, known.failed_at, known.cancelled_at) as outcome,
               hour_of(least(known.completed_at, known.failed_at, known.cancelled_at)) as ended
        where  known.events > 0
    ) as today on true
    where  known.events = 0
    or     (
               known.counted_playbook_ranked, known.counted_begun, known.counted_outcome,
               known.counted_ended
           ) is distinct from (
               known.playbook_ranked, today.begun, today.outcome, today.ended
           )
$$;


-- Moves the roll-ups of executions, and those of their calls if the playbook changed. Deletes the
-- row of an execution without events.
create function projector.count_executions(moved projector.execution_move[]) returns void
    language plpgsql volatile
    set search_path = pg_catalog, projector, pg_temp
as $$
declare
    own_shard constant smallint := take_shard();
begin
    insert into execution_hours as counted (hour, playbook, outcome, shard, executions)
    select   change.hour, change.playbook, change.outcome, own_shard, sum(change.executions)
    from     unnest(count_executions.moved) as move
    cross join lateral (
        values (move.was_begun, playbook_of(move.was_playbook_ranked), 'BEGUN', -1),
               (move.was_ended, playbook_of(move.was_playbook_ranked), move.was_outcome, -1),
               (move.begun, playbook_of(move.playbook_ranked), 'BEGUN', 1),
               (move.ended, playbook_of(move.playbook_ranked), move.outcome, 1)
    ) as change (hour, playbook, outcome, executions)
    where    change.hour is not null
    group by change.hour, change.playbook, change.outcome
    having   sum(change.executions) <> 0
    order by change.hour, change.playbook collate "C", change.outcome collate "C"
    on conflict (hour, playbook, outcome, shard)
    do update set executions = counted.executions + excluded.executions;

    perform count_calls(recounted.counts)
    from    (
                select array_agg(
                           (
                               way.sign, call.execution_id, call.command_id, call.attempts,
                               way.playbook, call.step, call.begun_at, call.finished_at,
                               call.status, call.worker_id, call.error, call.duration_us,
                               call.queue_us, call.backoff_us, call.exhausted,
                               call.inferred
                           )::call_count
                       ) as counts
                from   unnest(count_executions.moved) as move
                cross join lateral (
                    select * from counted_calls where execution_id = move.execution_id
                ) as call
                cross join lateral (
                    values (-1, playbook_of(move.was_playbook_ranked)),
                           (1, playbook_of(move.playbook_ranked))
                ) as way (sign, playbook)
                where  move.was_outcome is not null
                and    playbook_of(move.was_playbook_ranked) <> playbook_of(move.playbook_ranked)
            ) as recounted
    where   recounted.counts is not null;

    update execution_facts as known
    set    counted_playbook_ranked = move.playbook_ranked,
           counted_begun           = move.begun,
           counted_outcome         = move.outcome,
           counted_ended           = move.ended
    from   unnest(count_executions.moved) as move
    where  known.execution_id = move.execution_id;

    -- One without events has no outcome.
    delete from execution_facts as known
    using  unnest(count_executions.moved) as move
    where  move.outcome is null
    and    known.execution_id = move.execution_id
    and    known.events = 0;
end
$$;


-- Adds these changes to execution_facts, in order, which locks the executions. Returns those that
-- roll-ups count under something else from now on.
create function projector.merge_executions(changes projector.execution_change[])
    returns setof projector.execution_move
    language plpgsql volatile
    set search_path = pg_catalog, projector, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    with written as (
        insert into execution_facts as known (
            execution_id, events, first_at, begin_at, last_at, last_event_ranked, active_at,
            highest_attempts, playbook_ranked, catalog_id, parent_execution_id, completed,
            completed_at, failed, failed_at, cancelled, cancelled_at
        )
        select   execution_id, events, first_at, begin_at, last_at, last_event_ranked, active_at,
                 highest_attempts, playbook_ranked, catalog_id, parent_execution_id, completed,
                 completed_at, failed, failed_at, cancelled, cancelled_at
        from     unnest(merge_executions.changes)
        order by execution_id
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
        returning execution_id, counted_playbook_ranked, counted_begun, counted_outcome,
                  counted_ended, playbook_ranked, hour_of(begin_at) as begun,
                  outcome_of(completed_at, failed_at, cancelled_at) as outcome,
                  hour_of(least(completed_at, failed_at, cancelled_at)) as ended
    )
    select execution_id, counted_playbook_ranked, counted_begun, counted_outcome, counted_ended,
           playbook_ranked, begun, outcome, ended
    from   written
    where  counted_playbook_ranked is distinct from playbook_ranked
    or     counted_begun is distinct from begun
    or     counted_outcome is distinct from outcome
    or     counted_ended is distinct from ended;
end
$$;


-- Executions of which a statement removed a stored value, which may be that of another event, or of
-- none. Only all events of the execution tell. last_at is part of last_event_ranked.
--     1. find what the rows of an execution said before the statement, and none of them says after
--     2. find the executions whose stored values are among that
create function projector.doubtful_executions(reports projector.execution_report[])
    returns bigint[]
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
as $$
declare
    doubtful bigint[];
begin
    -- 1. What no row says any more.
    with lost as (
        select   execution_id,
                 nullif(min(created_at) filter (where sign < 0),
                        min(created_at) filter (where sign > 0)) as first_at,
                 nullif(min(begin_at) filter (where sign < 0),
                        min(begin_at) filter (where sign > 0)) as begin_at,
                 nullif(max(last_event_ranked collate "C") filter (where sign < 0),
                        max(last_event_ranked collate "C") filter (where sign > 0))
                     as last_event_ranked,
                 nullif(max(active_at) filter (where sign < 0),
                        max(active_at) filter (where sign > 0)) as active_at,
                 nullif(max(attempts) filter (where sign < 0),
                        max(attempts) filter (where sign > 0)) as highest_attempts,
                 nullif(min(playbook_ranked collate "C") filter (where sign < 0),
                        min(playbook_ranked collate "C") filter (where sign > 0))
                     as playbook_ranked,
                 nullif(min(catalog_id) filter (where sign < 0),
                        min(catalog_id) filter (where sign > 0)) as catalog_id,
                 nullif(min(parent_execution_id) filter (where sign < 0),
                        min(parent_execution_id) filter (where sign > 0)) as parent_execution_id,
                 nullif(min(created_at) filter (where outcome = 'COMPLETED' and sign < 0),
                        min(created_at) filter (where outcome = 'COMPLETED' and sign > 0))
                     as completed_at,
                 nullif(min(created_at) filter (where outcome = 'FAILED' and sign < 0),
                        min(created_at) filter (where outcome = 'FAILED' and sign > 0))
                     as failed_at,
                 nullif(min(created_at) filter (where outcome = 'CANCELLED' and sign < 0),
                        min(created_at) filter (where outcome = 'CANCELLED' and sign > 0))
                     as cancelled_at
        from     unnest(doubtful_executions.reports)
        group by execution_id
    )
    -- 2. The executions.
    select array_agg(known.execution_id)
    into   doubtful
    from   lost
    join   execution_facts as known using (execution_id)
    where  lost.first_at = known.first_at
    or     lost.begin_at = known.begin_at
    or     lost.last_event_ranked = known.last_event_ranked
    or     lost.active_at = known.active_at
    or     lost.highest_attempts = known.highest_attempts
    or     lost.playbook_ranked = known.playbook_ranked
    or     lost.catalog_id = known.catalog_id
    or     lost.parent_execution_id = known.parent_execution_id
    or     lost.completed_at = known.completed_at
    or     lost.failed_at = known.failed_at
    or     lost.cancelled_at = known.cancelled_at;
    return doubtful;
end
$$;


-- Moves execution_facts and execution_hours by the rows before and after a statement:
--     1. derive from each row what it says about its execution, and add that up
--     2. merge it into the executions, which locks them: nothing reads them before
--     3. rebuild executions whose stored values nothing may support any more (update and delete)
--     4. move the roll-ups
-- An execution that retention deletes whole (0009) leaves between steps 1 and 2.
-- Only this function sees the rows. It gives them away as arrays: of one entry an execution, and of
-- one entry a row where a statement updates or deletes, which is rare.
create function projector.project_executions() returns trigger
    language plpgsql volatile security definer
    set search_path = pg_catalog, projector, pg_temp
    set enable_seqscan = off
    set enable_hashjoin = off
    set enable_mergejoin = off
    set jit = off
    set plan_cache_mode = force_generic_plan
as $$
declare
    is_archiving constant boolean :=
        tg_op = 'DELETE' and coalesce(current_setting('projector.archiving', true), '') = 'on';
    roles    jsonb;
    outcomes jsonb;
    changes  execution_change[];
    reports  execution_report[];
    doubtful bigint[];
    moved    execution_move[];
begin
    if current_setting('projector.off', true) = 'on' then
        return null;
    end if;

    -- 1. Derive what each row says, and add it up by execution.
    select jsonb_object_agg(event_type, role), jsonb_object_agg(event_type, outcome)
    into   roles, outcomes
    from   event_kinds;
    with event as (
        select *, roles ->> event_type as role, outcomes ->> event_type as type_outcome
        from   (
                   select -1 as sign, execution_id, event_type, step, status, attempts,
                          created_at, catalog_id, parent_execution_id, context, result,
                          source_topic, source_partition
                   from   before
                   union all
                   select 1, execution_id, event_type, step, status, attempts,
                          created_at, catalog_id, parent_execution_id, context, result,
                          source_topic, source_partition
                   from   after
               ) as moved
        offset 0
    ),
    reported as not materialized (  -- an insert reads it once
        select event.sign, event.execution_id, event.attempts, event.created_at, event.catalog_id,
               event.parent_execution_id, said.*
        from   event
        cross join lateral report_on_execution(
            event.role, event.type_outcome, event.event_type, event.step, event.status,
            event.created_at, event.source_topic, event.source_partition, event.context,
            event.result
        ) as said
        offset 0
    ),
    changed as (
        select   execution_id,
                 sum(sign)::bigint as events,
                 min(created_at) filter (where sign > 0) as first_at,
                 min(begin_at) filter (where sign > 0) as begin_at,
                 max(created_at) filter (where sign > 0) as last_at,
                 max(last_event_ranked collate "C") filter (where sign > 0) as last_event_ranked,
                 max(active_at) filter (where sign > 0) as active_at,
                 max(attempts) filter (where sign > 0) as highest_attempts,
                 min(playbook_ranked collate "C") filter (where sign > 0) as playbook_ranked,
                 min(catalog_id) filter (where sign > 0) as catalog_id,
                 min(parent_execution_id) filter (where sign > 0) as parent_execution_id,
                 coalesce(sum(sign) filter (where outcome = 'COMPLETED'), 0)::bigint as completed,
                 min(created_at) filter (where outcome = 'COMPLETED' and sign > 0) as completed_at,
                 coalesce(sum(sign) filter (where outcome = 'FAILED'), 0)::bigint as failed,
                 min(created_at) filter (where outcome = 'FAILED' and sign > 0) as failed_at,
                 coalesce(sum(sign) filter (where outcome = 'CANCELLED'), 0)::bigint as cancelled,
                 min(created_at) filter (where outcome = 'CANCELLED' and sign > 0) as cancelled_at
        from     reported
        group by execution_id
    )
    select array_agg(changed::execution_change),
           case
               when tg_op <> 'INSERT' and not is_archiving
               then array(select reported::execution_report from reported)
           end
    into   changes, reports
    from   changed;

    if is_archiving then
        changes := remove_whole_executions(changes);
    end if;

    -- 2. The executions.
    moved := array(select move from merge_executions(changes) as move);

    -- 3. Executions that lost a value. An execution that retention has partly deleted is always
    --    rebuilt.
    if tg_op <> 'INSERT' then
        if is_archiving then
            doubtful := array(select execution_id from unnest(changes));
        else
            doubtful := doubtful_executions(reports);
        end if;
        if doubtful is not null then
            perform rebuild_executions(doubtful);
        end if;
        moved := array(
            select move
            from   execution_moves(array(select execution_id from unnest(changes))) as move
        );
    end if;

    -- 4. The roll-ups.
    if cardinality(moved) > 0 then
        perform count_executions(moved);
    end if;
    return null;
end
$$;

create trigger project_1_executions_inserted
    after insert on normalizer.events
    referencing new table as after
    for each statement execute function projector.project_executions();

create trigger project_1_executions_updated
    after update on normalizer.events
    referencing old table as before new table as after
    for each statement execute function projector.project_executions();

create trigger project_1_executions_deleted
    after delete on normalizer.events
    referencing old table as before
    for each statement execute function projector.project_executions();


-- No index may hold a column that changes with each event: that would prevent HOT updates.
create index executions_by_hour on projector.execution_facts (projector.hour_of(first_at));
comment on index projector.executions_by_hour is
    'Query: executions by hour of the first event (view executions).';
create index executions_running on projector.execution_facts (projector.hour_of(first_at))
    where completed_at is null and failed_at is null and cancelled_at is null;
comment on index projector.executions_running is
    'Query: running executions, however old (view stuck_executions).';
create index executions_by_end on projector.execution_facts (
    projector.hour_of(least(completed_at, failed_at, cancelled_at))
) where projector.hour_of(least(completed_at, failed_at, cancelled_at)) is not null;
comment on index projector.executions_by_end is
    'Query: executions that ended in an hour (contradicting_executions, '
    'completed_with_failures, verify).';
-- Without it a window of ends seems to hold one execution, and a filter is tried for each alone.
create statistics projector.ends_of_executions
    on (least(completed_at, failed_at, cancelled_at)) from projector.execution_facts;
comment on statistics projector.ends_of_executions is
    'Tells the planner how many executions ended in a window.';
create index executions_by_begin on projector.execution_facts
    using brin (projector.hour_of(begin_at) timestamptz_minmax_multi_ops)
    with (pages_per_range = 32);
comment on index projector.executions_by_begin is
    'Query: executions that began in an hour (verify only). Block ranges are as fast as a tree '
    'of 25 times the size; several ranges for each block, because some events arrive long '
    'after (measured: 400,000 executions, 2 % late).';
create index executions_by_parent on projector.execution_facts (parent_execution_id)
    where parent_execution_id is not null;
comment on index projector.executions_by_parent is
    'Query: executions that one execution started (API: the tree of an execution, and lists by '
    'parent).';

insert into migrations.applied (version) values ('0004') on conflict do nothing;
