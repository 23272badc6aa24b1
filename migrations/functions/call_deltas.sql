-- Returns what these attempts add to the roll-ups of calls. Each row has the values under which an
-- attempt is counted, such as its playbook and step, and the values to sum up, such as its
-- duration. An attempt that still runs, or whose row is gone, adds nothing (view finished_calls).
-- `sign` is 1 to add the attempts, and -1 to subtract attempts that were counted before.
-- A call must be subtracted under the playbook under which it was added. So the playbook is read
-- from counted_playbook_ranked. update_execution_rollups changes it together with the roll-ups.
create or replace function projector.call_deltas(sign integer, ids projector.call_id[])
    returns setof projector.call_delta
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
as $$
#variable_conflict use_column
begin
    return query
        select call_deltas.sign, counted.execution_id, counted.command_id, counted.attempts,
               playbook_path(execution.counted_playbook_ranked), counted.step,
               counted.finished_at, counted.status, counted.worker_id, counted.error,
               counted.duration_us, counted.queue_us, counted.backoff_us, counted.exhausted,
               counted.inferred
        from   unnest(call_deltas.ids) as wanted
        cross join lateral (
            select *
            from   finished_calls
            where  finished_calls.execution_id = wanted.execution_id
            and    finished_calls.command_id = wanted.command_id
            and    finished_calls.attempts = wanted.attempts
        ) as counted
        left join execution_facts as execution on execution.execution_id = counted.execution_id;
end
$$;
