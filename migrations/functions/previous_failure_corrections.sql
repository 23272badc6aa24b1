-- Returns the retries whose stored `previous_failure_at` is wrong, together with the right value.
-- That's the time at which the last failure before the retry ended. The arguments are the same as
-- those of retries_to_recheck, which also explains which failures count.
--
-- For example, attempt 0 of the command 7:a:1 failed at 09:00:05, attempt 1 began at 09:00:20, and
-- its previous_failure_at is still null. Then the result is the row (7, 7:a:1, 1, 09:00:05).
create or replace function projector.previous_failure_corrections(
    retries_and_failures projector.call_id[], old_failures projector.call_failure[]
)
    returns table (
        execution_id bigint, command_id text, attempts integer, previous_failure_at timestamptz
    )
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
as $$
#variable_conflict use_column
begin
    return query
        select retry.execution_id, retry.command_id, retry.attempts, last_failure.finished_at
        from   retries_to_recheck(
                   previous_failure_corrections.retries_and_failures,
                   previous_failure_corrections.old_failures
               ) as candidate
        cross join lateral (
            select *
            from   call_facts
            where  call_facts.execution_id = candidate.execution_id
            and    call_facts.command_id = candidate.command_id
            and    call_facts.attempts = candidate.attempts
            offset 0
        ) as retry
        cross join lateral (
            select max(finished_at) as finished_at
            from   (
                       -- The attempt before it, if that failed in time.
                       select previous.finished_at
                       from   (
                                  select *
                                  from   call_facts
                                  where  call_facts.execution_id = retry.execution_id
                                  and    call_facts.command_id = retry.command_id
                                  and    call_facts.attempts = retry.attempts - 1
                                  offset 0
                              ) as previous
                       where  previous.finished_at <= retry.begun_at
                       and    call_failed(previous.outcome_ranked)
                       union all
                       -- The last failure of its step and iteration.
                       (
                           select   failure.finished_at
                           from     call_facts as failure
                           where    failure.execution_id = retry.execution_id
                           and      ranked_value(failure.step_ranked)
                                    = ranked_value(retry.step_ranked)
                           and      coalesce(failure.iteration, -1) = coalesce(retry.iteration, -1)
                           and      failure.attempts = retry.attempts - 1
                           and      failure.finished_at <= retry.begun_at
                           and      call_failed(failure.outcome_ranked)
                           order by failure.finished_at desc
                           limit    1
                       )
                   ) as failure_before
        ) as last_failure
        where  retry.attempts > 0
        and    retry.previous_failure_at is distinct from last_failure.finished_at;
end
$$;
