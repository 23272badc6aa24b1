-- Removes executions from the projections if a deletion has left them without events. From then on,
-- they and their calls are counted as archived. The trigger of executions calls this function while
-- projector.archiving is on. Returns the changes of the other executions, which still have events.
--     1. find the executions
--     2. move the counts of their calls from the live part to shard -1
--     3. move the counts of the executions
--     4. delete their rows
create or replace function projector.remove_emptied_executions(changes projector.execution_change[])
    returns projector.execution_change[]
    language plpgsql volatile
    set search_path = pg_catalog, projector, pg_temp
as $$
declare
    gone  constant bigint[] := array(
        select known.execution_id
        from   unnest(remove_emptied_executions.changes) as change
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
    perform add_call_counts(array(select counted from call_deltas(-1, calls) as counted));
    perform add_call_counts(
        array(select counted from call_deltas(1, calls) as counted), -1::smallint
    );

    -- 3. The executions.
    insert into execution_hours as counted (hour, playbook, outcome, shard, executions)
    select   marked.hour, marked.playbook, marked.outcome, way.shard, sum(way.executions)
    from     execution_facts as known
    cross join lateral (
        values (known.counted_begun, playbook_path(known.counted_playbook_ranked), 'BEGUN'),
               (known.counted_ended, playbook_path(known.counted_playbook_ranked),
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
        from   unnest(remove_emptied_executions.changes) as change
        where  change.execution_id <> all(gone)
    );
end
$$;

-- 0004_create_projector.sql says which functions are revoked.
revoke execute on function projector.remove_emptied_executions(
    projector.execution_change[]
) from public;
