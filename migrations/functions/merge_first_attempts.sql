-- Merges new events into the first attempts of their commands (step 3 of project_calls). `changes`
-- has one entry for each command. Commands in `rebuilt` are skipped, because rebuild_calls has
-- written them. `rebuilt` is null if there are none. The others are known to have no attempt but
-- the first, with attempts = 0. `to_recount` returns the written attempts that have ended, because
-- the roll-ups count no others. `retries_and_failures` returns those that have failed. None of them
-- is a retry, because they're all first attempts. So `previous_failure_at` isn't written.
--
-- For example, the command has been claimed, and now its call completes:
--                 | claimed_at | finished_at | outcome_ranked
--     stored row  | 09:00:01   |             |
--     its change  |            | 09:00:05    | COMPLETED at 09:00:05 (encoded)
--     written row | 09:00:01   | 09:00:05    | COMPLETED at 09:00:05 (encoded)
-- If both have a value, the lesser one wins. project_calls says above `change` why, and why this
-- function has a rule for each column again.
create or replace function projector.merge_first_attempts(
    changes projector.call_change[], rebuilt projector.call_command[],
    out to_recount projector.call_id[], out retries_and_failures projector.call_id[]
)
    language plpgsql volatile
    set search_path = pg_catalog, projector, pg_temp
as $$
#variable_conflict use_column
begin
    -- Ordered so that neighbors in the index are written together.
    with written_attempt as (
        insert into call_facts as stored (
            execution_id, command_id, attempts, begun_at, issued_at, claimed_at, started_at,
            finished_at, outcome_ranked, duration_ranked, error_ranked, step_ranked,
            worker_ranked, max_attempts_ranked, iteration, is_numbered
        )
        select   execution_id, command_id, 0, begun_at, issued_at, claimed_at, started_at,
                 call_finished_at(outcome_ranked), outcome_ranked, duration_ranked, error_ranked,
                 step_ranked, worker_ranked, max_attempts_ranked, iteration, is_numbered
        from     unnest(merge_first_attempts.changes)
        where    (execution_id, command_id) not in (
                     select execution_id, command_id from unnest(merge_first_attempts.rebuilt)
                 )
        order by execution_id, command_id
        on conflict (execution_id, command_id, attempts)
        do update set
            begun_at            = least(stored.begun_at, excluded.begun_at),
            issued_at           = least(stored.issued_at, excluded.issued_at),
            claimed_at          = least(stored.claimed_at, excluded.claimed_at),
            started_at          = least(stored.started_at, excluded.started_at),
            -- The time in the outcome that wins, without decoding it again. If none is stored, the
            -- comparison is null, so the other one wins.
            finished_at         = case
                                      when stored.outcome_ranked <= excluded.outcome_ranked
                                           or excluded.outcome_ranked is null
                                      then stored.finished_at
                                      else excluded.finished_at
                                  end,
            outcome_ranked      = least(stored.outcome_ranked, excluded.outcome_ranked),
            duration_ranked     = least(stored.duration_ranked, excluded.duration_ranked),
            error_ranked        = least(stored.error_ranked, excluded.error_ranked),
            step_ranked         = least(stored.step_ranked, excluded.step_ranked),
            worker_ranked       = least(stored.worker_ranked, excluded.worker_ranked),
            max_attempts_ranked = least(
                                      stored.max_attempts_ranked, excluded.max_attempts_ranked
                                  ),
            iteration           = least(stored.iteration, excluded.iteration),
            is_numbered         = stored.is_numbered or excluded.is_numbered
        returning execution_id, command_id, attempts, finished_at, outcome_ranked
    )
    select array_agg((execution_id, command_id, attempts)::call_id)
               filter (where finished_at is not null),
           array_agg((execution_id, command_id, attempts)::call_id)
               filter (where call_failed(outcome_ranked))
    into   to_recount, retries_and_failures
    from   written_attempt;
end
$$;

-- 0004_create_projector.sql says which functions are revoked.
revoke execute on function projector.merge_first_attempts(
    projector.call_change[], projector.call_command[]
) from public;
