-- Corrects `previous_failure_at` of the retries for which an earlier attempt has changed, and
-- returns these retries as `relinked` (step 4 of project_calls). That column is when the failure
-- before a retry ended. `retries_and_failures` are the written attempts that are retries or
-- failures, and `old_failures` are the failures that their commands had before
-- (retries_to_recheck). The roll-ups count how long each retry has waited since that time. So
-- `was_counted` returns what to subtract for them, except for those in `to_recount`, which the
-- caller has subtracted already.
--
-- For example, a step sends each attempt as a command of its own. The command 7:a:1, attempt 0,
-- failed at 09:00:05, and the command 7:a:2, attempt 1, began at 09:00:20. Now a report arrives
-- that says 7:a:1 had already failed at 09:00:03. All arguments have 7:a:1 and not 7:a:2. But 7:a:2
-- was counted with a wait of 15 s, and must count with one of 17 s. So it's returned.
--     1. find the retries with a wrong `previous_failure_at`
--     2. read how they were counted, and correct them
create or replace function projector.relink_retries(
    retries_and_failures projector.call_id[], old_failures projector.call_failure[],
    to_recount projector.call_id[],
    out relinked projector.call_id[], out was_counted projector.call_delta[]
)
    language plpgsql volatile
    set search_path = pg_catalog, projector, pg_temp
as $$
declare
    right_times timestamptz[];
begin
    -- 1. The retries, and their right `previous_failure_at`.
    select array_agg((execution_id, command_id, attempts)::call_id), array_agg(previous_failure_at)
    into   relinked, right_times
    from   previous_failure_corrections(
               relink_retries.retries_and_failures, relink_retries.old_failures
           );
    if relinked is null then
        return;
    end if;

    -- 2. How they were counted. Then correct them.
    was_counted := array(
        select counted
        from   call_deltas(-1, relinked) as counted
        where  (counted.execution_id, counted.command_id, counted.attempts) not in (
                   select execution_id, command_id, attempts from unnest(relink_retries.to_recount)
               )
    );
    update call_facts as stored
    set    previous_failure_at = retry.previous_failure_at
    from   unnest(relinked, right_times)
               as retry (execution_id, command_id, attempts, previous_failure_at)
    where  stored.execution_id = retry.execution_id
    and    stored.command_id = retry.command_id
    and    stored.attempts = retry.attempts;
end
$$;

-- 0004_create_projector.sql says which functions are revoked.
revoke execute on function projector.relink_retries(
    projector.call_id[], projector.call_failure[], projector.call_id[]
) from public;
