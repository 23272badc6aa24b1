-- Rebuilds the attempts of these commands from their stored events. `to_recount` returns every
-- attempt that was deleted or written. The roll-ups must subtract it as it was before, and add it
-- as it is now. That's nothing if it's gone or still runs (call_deltas). `retries_and_failures`
-- returns the written attempts that are retries or failures. A retry stores when the failure before
-- it ended (`previous_failure_at`), and that time may have changed. It may be a failure of another
-- command, so the callers write it, after all attempts have been written (relink_retries, and
-- repair_executions). The caller knows the failures among the deleted attempts already
-- (`old_failures` in project_calls).
--
-- For example, attempt 1 turns out not to exist, because the event that declared it was deleted:
--     stored attempts     | attempts of the events | to_recount | retries_and_failures
--     0, which still runs | 0, which failed        | 0 and 1    | 0
--     1, which has failed |                        |            |
--     1. derive the attempts (derive_calls)
--     2. delete the stored attempts that aren't among them
--     3. write the attempts
create or replace function projector.rebuild_calls(
    commands projector.call_command[],
    out to_recount projector.call_id[], out retries_and_failures projector.call_id[]
)
    language plpgsql volatile
    set search_path = pg_catalog, projector, pg_temp
as $$
begin
    -- 1. The attempts as their events are now.
    with attempt as materialized (
        select * from derive_calls(rebuild_calls.commands)
    ),
    -- 2. The attempts that are gone.
    deleted_attempt as (
        delete from call_facts as stored
        using  (
                   select candidate.execution_id, candidate.command_id, candidate.attempts
                   from   unnest(rebuild_calls.commands) as wanted
                   cross join lateral (
                       select *
                       from   call_facts
                       where  call_facts.execution_id = wanted.execution_id
                       and    call_facts.command_id = wanted.command_id
                       offset 0
                   ) as candidate
                   except
                   select execution_id, command_id, attempts from attempt
               ) as gone
        where  stored.execution_id = gone.execution_id
        and    stored.command_id = gone.command_id
        and    stored.attempts = gone.attempts
        returning stored.execution_id, stored.command_id, stored.attempts,
                  false as is_retry_or_failure
    ),
    -- 3. The others, ordered so that neighbors in the index are written together. Unlike the type
    -- call_change, derive_calls returns command_id without the collation of that index.
    written_attempt as (
        insert into call_facts as stored (
            execution_id, command_id, attempts, begun_at, issued_at, claimed_at, started_at,
            finished_at, outcome_ranked, duration_ranked, error_ranked, step_ranked, worker_ranked,
            max_attempts_ranked, iteration, is_numbered, may_be_retried
        )
        select   execution_id, command_id, attempts, begun_at, issued_at, claimed_at, started_at,
                 call_finished_at(outcome_ranked), outcome_ranked, duration_ranked, error_ranked,
                 step_ranked, worker_ranked, max_attempts_ranked, iteration, is_numbered,
                 may_be_retried
        from     attempt
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
                  attempts > 0 or coalesce(call_failed(outcome_ranked), false)
                      as is_retry_or_failure
    )
    select array_agg((execution_id, command_id, attempts)::call_id),
           array_agg((execution_id, command_id, attempts)::call_id)
               filter (where is_retry_or_failure)
    into   to_recount, retries_and_failures
    from   (
               select * from deleted_attempt
               union all
               select * from written_attempt
           ) as changed_attempt;
end
$$;

-- 0004_create_projector.sql says which functions are revoked.
revoke execute on function projector.rebuild_calls(projector.call_command[]) from public;
