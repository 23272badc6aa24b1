-- Finds attempts whose `previous_failure_at` may be wrong, which previous_failure_corrections then
-- computes again.
--
-- The failure before a retry is the last failure that ended before the retry began, with one
-- attempt less, of the same command or of the same step and iteration. A cancelled attempt is a
-- failure too (call_failed). `retries_and_failures` are those that changed. `old_failures` are all
-- failures that their commands had before the change, also those of attempts that were deleted. A
-- retry that didn't change itself may store a failure that's gone, or miss a new one. Such a retry
-- began before the next failure ended, so the search stops there.
--
-- For example, these attempts are of one step and iteration, and 7:a:1 has just failed:
--     command_id | attempts | begun_at | finished_at
--     7:a:1      |        0 | 09:00:00 | 09:00:05 FAILED   new: 0 and 1 of 7:a:1 are returned
--     7:a:2      |        1 | 09:00:10 | 09:00:15          returned, it began after that one
--     7:a:3      |        0 | 09:00:00 | 09:00:20 FAILED   the next failure
--     7:a:4      |        1 | 09:00:30 | 09:00:35          not returned, it began after that one
--     1. find failures that are new, and those that are gone
--     2. add the changed attempts, and the next attempt of each command
--     3. add retries of the same step and iteration between such a failure and the next
--
-- `offset 0` makes each look-up use its key. Without it, a plan that was made while there were no
-- retries would later read all of them.
create or replace function projector.retries_to_recheck(
    retries_and_failures projector.call_id[], old_failures projector.call_failure[]
)
    returns setof projector.call_id
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
as $$
#variable_conflict use_column
begin
    return query
        -- 1. Failures that are new or gone.
        with failure_before as (
            select execution_id, command_id, attempts, step, iteration, finished_at
            from   unnest(retries_to_recheck.old_failures)
        ),
        failure_now as (
            select changed.execution_id, changed.command_id, changed.attempts,
                   ranked_value(stored.step_ranked) as step,
                   coalesce(stored.iteration, -1) as iteration, stored.finished_at
            from   unnest(retries_to_recheck.retries_and_failures) as changed
            cross join lateral (
                select *
                from   call_facts
                where  call_facts.execution_id = changed.execution_id
                and    call_facts.command_id = changed.command_id
                and    call_facts.attempts = changed.attempts
                offset 0
            ) as stored
            where  call_failed(stored.outcome_ranked)
        ),
        new_or_gone_failure as (
            (select * from failure_now except select * from failure_before)
            union all
            (select * from failure_before except select * from failure_now)
        )
        -- 2. The changed attempts, and the next attempt of each command.
        select changed.execution_id, changed.command_id, changed.attempts
        from   unnest(retries_to_recheck.retries_and_failures) as changed
        union
        select changed.execution_id, changed.command_id, changed.attempts + 1
        from   unnest(retries_to_recheck.retries_and_failures) as changed
        union
        select old_failure.execution_id, old_failure.command_id, old_failure.attempts + 1
        from   unnest(retries_to_recheck.old_failures) as old_failure
        union
        -- 3. Retries of the same step and iteration.
        select retry.execution_id, retry.command_id, retry.attempts
        from   new_or_gone_failure as failure
        left join lateral (
            select   later.finished_at
            from     call_facts as later
            where    later.execution_id = failure.execution_id
            and      ranked_value(later.step_ranked) = failure.step
            and      coalesce(later.iteration, -1) = failure.iteration
            and      later.attempts = failure.attempts
            and      later.finished_at > failure.finished_at
            and      call_failed(later.outcome_ranked)
            order by later.finished_at
            limit    1
        ) as next_failure on true
        cross join lateral (
            select *
            from   call_facts as stored
            where  stored.execution_id = failure.execution_id
            and    ranked_value(stored.step_ranked) = failure.step
            and    coalesce(stored.iteration, -1) = failure.iteration
            and    stored.attempts = failure.attempts + 1
            and    stored.begun_at >= failure.finished_at
            and    stored.begun_at < coalesce(next_failure.finished_at, 'infinity')
            and    stored.attempts > 0 -- so that the index calls_retried serves
            offset 0
        ) as retry
        -- If a retry stores a later failure, this one isn't the last, whether it's new or gone. If
        -- the later one is gone, it leads to the retry itself.
        where  retry.previous_failure_at is null
        or     retry.previous_failure_at <= failure.finished_at;
end
$$;
