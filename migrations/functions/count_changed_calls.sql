-- Finishes the work of project_calls after attempts were written (step 4):
--     1. correct the `failed_before` of retries, which is the time when the failure before a retry
--        ended. That time may be out of date if the retry or the failure was written just now.
--        `to_relink` lists the retries and failures that were written, and `old_failures` lists the
--        failures as they were before.
--     2. update the roll-ups, which store only sums. So a changed attempt is subtracted as it was
--        counted before (`counts`), and is then added as it is now (`to_recount`). The same is done
--        with the retries that step 1 corrects, because the roll-ups sum the time from a failure to
--        its retry.
create or replace function projector.count_changed_calls(
    counts projector.call_count[], to_recount projector.call_id[], to_relink projector.call_id[],
    old_failures projector.call_failure[]
)
    returns void
    language plpgsql volatile
    set search_path = pg_catalog, projector, pg_temp
as $$
declare
    stale_links call_id[];
    failures    timestamptz[];
begin
    if to_relink is not null or old_failures is not null then
        select array_agg((execution_id, command_id, attempts)::call_id), array_agg(failed_before)
        into   stale_links, failures
        from   stale_retry_links(to_relink, old_failures);
    end if;
    if stale_links is not null then
        counts := counts || (
            select array_agg(counted)
            from   call_counts(-1, stale_links) as counted
            -- `counts` subtracts the attempts to recount already.
            where  (counted.execution_id, counted.command_id, counted.attempts) not in (
                       select execution_id, command_id, attempts from unnest(to_recount)
                   )
        );
        update call_facts as known
        set    failed_before = retry.failed_before
        from   unnest(stale_links, failures)
                   as retry (execution_id, command_id, attempts, failed_before)
        where  known.execution_id = retry.execution_id
        and    known.command_id = retry.command_id collate "C"
        and    known.attempts = retry.attempts;
    end if;

    select counts || array_agg(counted)
    into   counts
    from   call_counts(
               1,
               array(select distinct id from unnest(to_recount || stale_links) as id)
           ) as counted;
    if cardinality(counts) > 0 then
        perform count_calls(counts);
    end if;
end
$$;

revoke execute on function projector.count_changed_calls(
    projector.call_count[], projector.call_id[], projector.call_id[], projector.call_failure[]
) from public;
