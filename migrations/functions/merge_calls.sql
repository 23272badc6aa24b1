-- Merges new events into the first attempts of their commands (step 3 of project_calls). Commands
-- that will be rebuilt are skipped. Writing an attempt locks its row, so all writers write attempts
-- in the same order to avoid deadlocks. Of the written attempts, `ended` returns those that have
-- ended, and `failed` returns those that have failed.
create or replace function projector.merge_calls(
    changes projector.call_change[], rebuilt projector.call_command[],
    out ended projector.call_id[], out failed projector.call_id[]
)
    language plpgsql volatile
    set search_path = pg_catalog, projector, pg_temp
as $$
#variable_conflict use_column
begin
    with written as (
        insert into call_facts as known (
            execution_id, command_id, attempts, begun_at, issued_at, claimed_at, started_at,
            finished_at, outcome_ranked, duration_ranked, error_ranked, step_ranked,
            worker_ranked, max_attempts_ranked, iteration, is_numbered
        )
        select   execution_id, command_id, 0, begun_at, issued_at, claimed_at, started_at,
                 call_finished_at(outcome_ranked), outcome_ranked, duration_ranked, error_ranked,
                 step_ranked, worker_ranked, max_attempts_ranked, iteration, is_numbered
        from     unnest(merge_calls.changes)
        where    (execution_id, command_id) not in (
                     select execution_id, command_id from unnest(merge_calls.rebuilt)
                 )
        order by execution_id, command_id
        on conflict (execution_id, command_id, attempts)
        do update set
            begun_at            = least(known.begun_at, excluded.begun_at),
            issued_at           = least(known.issued_at, excluded.issued_at),
            claimed_at          = least(known.claimed_at, excluded.claimed_at),
            started_at          = least(known.started_at, excluded.started_at),
            finished_at         = case
                                      when known.outcome_ranked <= excluded.outcome_ranked
                                           or excluded.outcome_ranked is null
                                      then known.finished_at
                                      else excluded.finished_at
                                  end,
            outcome_ranked      = least(known.outcome_ranked, excluded.outcome_ranked),
            duration_ranked     = least(known.duration_ranked, excluded.duration_ranked),
            error_ranked        = least(known.error_ranked, excluded.error_ranked),
            step_ranked         = least(known.step_ranked, excluded.step_ranked),
            worker_ranked       = least(known.worker_ranked, excluded.worker_ranked),
            max_attempts_ranked = least(
                                      known.max_attempts_ranked, excluded.max_attempts_ranked
                                  ),
            iteration           = least(known.iteration, excluded.iteration),
            is_numbered         = known.is_numbered or excluded.is_numbered
        returning execution_id, command_id, attempts, outcome_ranked
    )
    select array_agg((execution_id, command_id, attempts)::call_id)
               filter (where outcome_ranked is not null),
           array_agg((execution_id, command_id, attempts)::call_id)
               filter (where call_failed(outcome_ranked))
    into   ended, failed
    from   written;
end
$$;

revoke execute on function projector.merge_calls(
    projector.call_change[], projector.call_command[]
) from public;
