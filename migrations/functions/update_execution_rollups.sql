-- Updates the roll-ups of executions, and those of their calls if an execution's playbook has
-- changed. The function also stores when each version of a playbook was executed for the first time
-- (record_deployments), and deletes the rows of executions that have no events left.
create or replace function projector.update_execution_rollups(moved projector.execution_recount[])
    returns void
    language plpgsql volatile
    set search_path = pg_catalog, projector, pg_temp
as $$
declare
    own_shard constant smallint := take_shard();
begin
    insert into execution_hours as counted (hour, playbook, outcome, shard, executions)
    select   change.hour, change.playbook, change.outcome, own_shard, sum(change.executions)
    from     unnest(update_execution_rollups.moved) as move
    cross join lateral (
        values (move.was_begun, playbook_path(move.was_playbook_ranked), 'BEGUN', -1),
               (move.was_ended, playbook_path(move.was_playbook_ranked), move.was_outcome, -1),
               (move.begun, playbook_path(move.playbook_ranked), 'BEGUN', 1),
               (move.ended, playbook_path(move.playbook_ranked), move.outcome, 1)
    ) as change (hour, playbook, outcome, executions)
    where    change.hour is not null
    group by change.hour, change.playbook, change.outcome
    having   sum(change.executions) <> 0
    order by change.hour, change.playbook collate "C", change.outcome collate "C"
    on conflict (hour, playbook, outcome, shard)
    do update set executions = counted.executions + excluded.executions;

    perform add_call_counts(recounted.counts)
    from    (
                select array_agg(
                           (
                               way.sign, call.execution_id, call.command_id, call.attempts,
                               way.playbook, call.step, call.finished_at,
                               call.status, call.worker_id, call.error, call.duration_us,
                               call.queue_us, call.backoff_us, call.exhausted,
                               call.inferred
                           )::call_delta
                       ) as counts
                from   unnest(update_execution_rollups.moved) as move
                cross join lateral (
                    select * from finished_calls where execution_id = move.execution_id
                ) as call
                cross join lateral (
                    values (-1, playbook_path(move.was_playbook_ranked)),
                           (1, playbook_path(move.playbook_ranked))
                ) as way (sign, playbook)
                where  move.was_outcome is not null
                and    playbook_path(move.was_playbook_ranked)
                       <> playbook_path(move.playbook_ranked)
            ) as recounted
    where   recounted.counts is not null;

    perform record_deployments(update_execution_rollups.moved);

    update execution_facts as known
    set    counted_playbook_ranked = move.playbook_ranked,
           counted_begun           = move.begun,
           counted_outcome         = move.outcome,
           counted_ended           = move.ended
    from   unnest(update_execution_rollups.moved) as move
    where  known.execution_id = move.execution_id;

    -- One without events has no outcome.
    delete from execution_facts as known
    using  unnest(update_execution_rollups.moved) as move
    where  move.outcome is null
    and    known.execution_id = move.execution_id
    and    known.events = 0;
end
$$;

-- 0004_create_projector.sql says which functions are revoked.
revoke execute on function projector.update_execution_rollups(projector.execution_recount[])
    from public;
