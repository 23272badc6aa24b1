-- Finishes the work of project_calls after attempts were written (step 4). The roll-ups store only
-- sums. So a changed attempt is subtracted as it was counted before, and is then added as it is
-- now.
--     old_counts    what to subtract for the finished attempts that the commands had before
--     to_recount    the attempts that were deleted or written
--     to_relink     the retries and failures among the written attempts
--     old_failures  the failures that the commands had before
--
-- For example, a step sends each attempt as a command of its own. The command 7:a:1, attempt 0,
-- failed at 09:00:05, and the command 7:a:2, attempt 1, began at 09:00:20. Now a report arrives
-- that says 7:a:1 had already failed at 09:00:03. It's of 7:a:1 only, so all four arguments have
-- 7:a:1 and not 7:a:2. But 7:a:2 was counted with a wait of 15 s, and must count with one of 17 s:
--     1. find the retries with a wrong `previous_failure_at`, which is 7:a:2 here
--     2. subtract them as they were counted, and correct them
--     3. add all changed attempts as they are now, which are 7:a:1 and 7:a:2 here
create or replace function projector.update_call_rollups(
    old_counts projector.call_delta[], to_recount projector.call_id[],
    to_relink projector.call_id[], old_failures projector.call_failure[]
)
    returns void
    language plpgsql volatile
    set search_path = pg_catalog, projector, pg_temp
as $$
declare
    stale_retries call_id[];
    right_times   timestamptz[];
    counts        call_delta[] := old_counts;
begin
    -- Arguments without elements are null. A null array || another array is the other array.

    -- 1. The retries to correct, and their right `previous_failure_at`.
    if to_relink is not null or old_failures is not null then
        select array_agg((execution_id, command_id, attempts)::call_id),
               array_agg(previous_failure_at)
        into   stale_retries, right_times
        from   previous_failure_corrections(to_relink, old_failures);
    end if;

    -- 2. `old_counts` subtracts the attempts to recount already.
    if stale_retries is not null then
        counts := counts || (
            select array_agg(counted)
            from   call_deltas(-1, stale_retries) as counted
            where  (counted.execution_id, counted.command_id, counted.attempts) not in (
                       select execution_id, command_id, attempts from unnest(to_recount)
                   )
        );
        update call_facts as stored
        set    previous_failure_at = retry.previous_failure_at
        from   unnest(stale_retries, right_times)
                   as retry (execution_id, command_id, attempts, previous_failure_at)
        where  stored.execution_id = retry.execution_id
        and    stored.command_id = retry.command_id collate "C"
        and    stored.attempts = retry.attempts;
    end if;

    -- 3. The changed attempts.
    select counts || array_agg(counted)
    into   counts
    from   call_deltas(
               1,
               array(select distinct id from unnest(to_recount || stale_retries) as id)
           ) as counted;
    if cardinality(counts) > 0 then
        perform add_call_counts(counts);
    end if;
end
$$;

revoke execute on function projector.update_call_rollups(
    projector.call_delta[], projector.call_id[], projector.call_id[], projector.call_failure[]
) from public;
