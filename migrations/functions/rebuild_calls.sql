-- Rebuilds the attempts of these commands from their stored events. `to_recount` returns every
-- attempt that was deleted or written. The roll-ups must subtract it as it was before, and add it
-- as it is now. `to_relink` returns the written attempts that are retries or failures. A retry
-- stores when the failure before it ended (`failed_before`), and that time may have changed.
create or replace function projector.rebuild_calls(
    commands projector.call_command[],
    out to_recount projector.call_id[], out to_relink projector.call_id[]
)
    language plpgsql volatile
    set search_path = pg_catalog, projector, pg_temp
as $$
begin
    with aggregated as materialized (
        select * from aggregate_calls(rebuild_calls.commands)
    ),
    gone as (
        delete from call_facts as known
        using  (
                   select stored.execution_id, stored.command_id, stored.attempts
                   from   unnest(rebuild_calls.commands) as wanted
                   cross join lateral (
                       select *
                       from   call_facts
                       where  call_facts.execution_id = wanted.execution_id
                       and    call_facts.command_id = wanted.command_id collate "C"
                       offset 0
                   ) as stored
                   except
                   select execution_id, command_id collate "C", attempts from aggregated
               ) as old
        where  known.execution_id = old.execution_id
        and    known.command_id = old.command_id
        and    known.attempts = old.attempts
        returning known.execution_id, known.command_id, known.attempts, false as is_linked
    ),
    written as (
        insert into call_facts as known (
            execution_id, command_id, attempts, begun_at, issued_at, claimed_at, started_at,
            finished_at, outcome_ranked, duration_ranked, error_ranked, step_ranked, worker_ranked,
            max_attempts_ranked, iteration, is_numbered, may_be_retried
        )
        select   execution_id, command_id, attempts, begun_at, issued_at, claimed_at, started_at,
                 call_finished_at(outcome_ranked), outcome_ranked, duration_ranked, error_ranked,
                 step_ranked, worker_ranked, max_attempts_ranked, iteration, is_numbered,
                 may_be_retried
        from     aggregated
        order by execution_id, command_id collate "C", attempts
        on conflict (execution_id, command_id, attempts)
        do update set
            begun_at            = excluded.begun_at,
            issued_at           = excluded.issued_at,
            claimed_at          = excluded.claimed_at,
            started_at          = excluded.started_at,
            finished_at         = excluded.finished_at,
            outcome_ranked      = excluded.outcome_ranked,
            duration_ranked     = excluded.duration_ranked,
            error_ranked        = excluded.error_ranked,
            step_ranked         = excluded.step_ranked,
            worker_ranked       = excluded.worker_ranked,
            max_attempts_ranked = excluded.max_attempts_ranked,
            iteration           = excluded.iteration,
            is_numbered         = excluded.is_numbered,
            may_be_retried      = excluded.may_be_retried
        returning execution_id, command_id, attempts,
                  attempts > 0 or coalesce(call_failed(outcome_ranked), false) as is_linked
    )
    select array_agg((execution_id, command_id, attempts)::call_id),
           array_agg((execution_id, command_id, attempts)::call_id) filter (where is_linked)
    into   to_recount, to_relink
    from   (select * from gone union all select * from written) as touched_call;
end
$$;

revoke execute on function projector.rebuild_calls(projector.call_command[]) from public;
