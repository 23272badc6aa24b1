-- Returns the retries whose stored `failed_before` is wrong, together with the right value. That's
-- the time at which the last failure before the retry ended. The arguments are the same as those of
-- retry_candidates.
create or replace function projector.stale_retry_links(
    changed projector.call_id[], old_failures projector.call_failure[]
)
    returns table (
        execution_id bigint, command_id text, attempts integer, failed_before timestamptz
    )
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
as $$
#variable_conflict use_column
begin
    return query
        select known.execution_id, known.command_id, known.attempts, failure.finished_at
        from   retry_candidates(stale_retry_links.changed, stale_retry_links.old_failures)
                   as candidate
        cross join lateral (
            select *
            from   call_facts as known
            where  known.execution_id = candidate.execution_id
            and    known.command_id = candidate.command_id collate "C"
            and    known.attempts = candidate.attempts
            offset 0
        ) as known
        cross join lateral (
            select max(finished_at) as finished_at
            from   (
                       select failure.finished_at
                       from   (
                                  select *
                                  from   call_facts
                                  where  call_facts.execution_id = known.execution_id
                                  and    call_facts.command_id = known.command_id
                                  and    call_facts.attempts = known.attempts - 1
                                  offset 0
                              ) as failure
                       where  failure.finished_at <= known.begun_at
                       and    call_failed(failure.outcome_ranked)
                       union all
                       (
                           select   failure.finished_at
                           from     call_facts as failure
                           where    failure.execution_id = known.execution_id
                           and      ranked_value(failure.step_ranked)
                                    = ranked_value(known.step_ranked)
                           and      coalesce(failure.iteration, -1) = coalesce(known.iteration, -1)
                           and      failure.attempts = known.attempts - 1
                           and      failure.finished_at <= known.begun_at
                           and      call_failed(failure.outcome_ranked)
                           order by failure.finished_at desc
                           limit    1
                       )
                   ) as candidate
        ) as failure
        where  known.attempts > 0
        and    known.failed_before is distinct from failure.finished_at;
end
$$;
