-- Finds attempts whose `failed_before` may be wrong.
--
-- The failure before a retry is the last failure that ended before the retry began, with one
-- attempt less, of the same command or of the same step and iteration. `changed` are the retries
-- and failures that changed. `old_failures` are the failures among them as they were before the
-- change. A retry that didn't change itself may store a failure that's gone, or miss a new one.
-- Such a retry began before the next failure ended, so the search stops there:
--     1. find failures that are new, and those that are gone
--     2. add the changed attempts, and the next attempt of each command
--     3. add retries of the same step and iteration between such a failure and the next
--
-- `offset 0` makes each look-up use its key. Without it, a plan that was made while there were no
-- retries would later read all of them.
create or replace function projector.retry_candidates(
    changed projector.call_id[], old_failures projector.call_failure[]
)
    returns setof projector.call_id
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
as $$
#variable_conflict use_column
begin
    return query
        -- 1. Failures that are new or gone.
        with old as (
            select execution_id, command_id collate "C", attempts, step collate "C", iteration,
                   finished_at
            from   unnest(retry_candidates.old_failures)
        ),
        new as (
            select changed.execution_id, changed.command_id collate "C", changed.attempts,
                   ranked_value(failure.step_ranked) as step,
                   coalesce(failure.iteration, -1) as iteration, failure.finished_at
            from   unnest(retry_candidates.changed) as changed
            cross join lateral (
                select *
                from   call_facts as failure
                where  failure.execution_id = changed.execution_id
                and    failure.command_id = changed.command_id collate "C"
                and    failure.attempts = changed.attempts
                offset 0
            ) as failure
            where  call_failed(failure.outcome_ranked)
        ),
        moved as (
            (select * from new except select * from old)
            union all
            (select * from old except select * from new)
        )
        -- 2. The changed attempts, and the next attempt of each command.
        select changed.execution_id, changed.command_id, changed.attempts
        from   unnest(retry_candidates.changed) as changed
        union
        select changed.execution_id, changed.command_id, changed.attempts + 1
        from   unnest(retry_candidates.changed) as changed
        union
        select was.execution_id, was.command_id, was.attempts + 1
        from   unnest(retry_candidates.old_failures) as was
        union
        -- 3. Retries of the same step and iteration.
        select retried.execution_id, retried.command_id, retried.attempts
        from   moved
        left join lateral (
            select   failure.finished_at
            from     call_facts as failure
            where    failure.execution_id = moved.execution_id
            and      ranked_value(failure.step_ranked) = moved.step
            and      coalesce(failure.iteration, -1) = moved.iteration
            and      failure.attempts = moved.attempts
            and      failure.finished_at > moved.finished_at
            and      call_failed(failure.outcome_ranked)
            order by failure.finished_at
            limit    1
        ) as next on true
        cross join lateral (
            select *
            from   call_facts as retried
            where  retried.execution_id = moved.execution_id
            and    ranked_value(retried.step_ranked) = moved.step
            and    coalesce(retried.iteration, -1) = moved.iteration
            and    retried.attempts = moved.attempts + 1
            and    retried.begun_at >= moved.finished_at
            and    retried.begun_at < coalesce(next.finished_at, 'infinity')
            and    retried.attempts > 0 -- so that the index calls_retried serves
            offset 0
        ) as retried
        where  retried.failed_before is null
        or     retried.failed_before <= moved.finished_at;
end
$$;
