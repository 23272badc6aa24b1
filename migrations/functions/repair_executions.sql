-- Repairs executions and their calls for `projector repair`, while writers and readers continue.
-- The executions are locked until they and their calls have been rebuilt. Counters are repaired by
-- projector/repair/repair.py instead. It computes the difference between the expected and the
-- actual rows, and adds this difference in a shard that only repairs use.

-- Rebuilds executions and their calls, even if their rows are wrong. A missing row is created, and
-- a row without events is deleted. The roll-ups may differ from the rebuilt rows afterwards, so the
-- function notes in which hours, for a later comparison.
--     1. lock the executions
--     2. read the keys under which the roll-ups count their calls
--     3. rebuild the executions
--     4. rebuild their calls
--     5. note the hours to compare
create or replace function projector.repair_executions(execution_ids bigint[]) returns void
    language plpgsql volatile security definer
    set search_path = pg_catalog, projector, pg_temp
    set enable_nestloop = on
    set enable_seqscan = off
    set jit = off
    set plan_cache_mode = force_custom_plan
as $$
declare
    whole  constant bigint[] := array(select distinct unnest(repair_executions.execution_ids));
    tries  call_id[];
    counts call_delta[];
    moves  execution_recount[];
begin
    --     1. Lock the executions in the order of their ids, as writers do, to avoid deadlocks. The
    --        executions are read only in later statements, after the locks are held, so that those
    --        reads see what the previous lock holder committed.
    insert into execution_facts as known (execution_id, events, completed, failed, cancelled)
    select   wanted.execution_id, 0, 0, 0, 0
    from     unnest(whole) as wanted (execution_id)
    order by wanted.execution_id
    on conflict (execution_id) do update set events = known.events;

    -- 2. What roll-ups count their calls under.
    tries := array(
        select (execution_id, command_id, attempts)::call_id
        from   call_facts
        where  execution_id = any(whole)
    );
    counts := array(select counted from call_deltas(1, tries) as counted);

    -- 3. The executions, from all their events.
    moves := array(select move from rebuild_executions(whole, whole) as move);
    perform record_deployments(moves);
    update execution_facts as known
    set    counted_playbook_ranked = move.playbook_ranked,
           counted_begun           = move.begun,
           counted_outcome         = move.outcome,
           counted_ended           = move.ended
    from   unnest(moves) as move
    where  known.execution_id = move.execution_id;

    -- 4. Their calls, and which failure came before each retry.
    delete from call_facts where execution_id = any(whole);
    perform rebuild_calls(
        array(
            select distinct (event.execution_id, event.command_id)::call_command
            from   execution_events(whole) as event
            join   event_kinds as kind using (event_type)
            where  kind.subject = 'call'
            and    event.command_id <> ''
        )
    );
    tries := array(
        select (execution_id, command_id, attempts)::call_id
        from   call_facts
        where  execution_id = any(whole)
    );
    update call_facts as known
    set    previous_failure_at = retry.previous_failure_at
    from   previous_failure_corrections(tries, array[]::call_failure[]) as retry
    where  known.execution_id = retry.execution_id
    and    known.command_id = retry.command_id
    and    known.attempts = retry.attempts;
    delete from execution_facts where execution_id = any(whole) and events = 0;

    --     5. Note the hours to compare, even if they're noted already. The earlier note isn't
    --        enough, because a comparison that was made before this transaction may still delete
    --        it.
    insert into divergences (projection, hour, noted_by)
    select location.projection, location.hour, 'repair'
    from   (
               select 'execution_hours' as projection, marked.hour
               from   unnest(moves) as move
               cross join lateral (
                   values (move.was_begun), (move.was_ended), (move.begun), (move.ended)
               ) as marked (hour)
               union
               select rolled.projection, to_hour(changed.finished_at)
               from   (
                          (
                              select * from unnest(counts)
                              except all
                              select * from call_deltas(1, tries)
                          )
                          union all
                          (
                              select * from call_deltas(1, tries)
                              except all
                              select * from unnest(counts)
                          )
                      ) as changed
               cross join (
                   values ('call_hours'), ('call_times'), ('worker_hours'), ('error_hours'),
                          ('retry_minutes')
               ) as rolled (projection)
           ) as location
    where  location.hour is not null;
end
$$;

-- The function writes with the rights of its owner, so only projector repair may call it.
-- 0004_create_projector.sql says which functions are revoked.
revoke execute on function projector.repair_executions(bigint[]) from public;
