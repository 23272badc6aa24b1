-- Step 4 of project_calls, for attempts that were written:
--     1. correct which failure came before each retry of `linked` and of `old_failures`
--     2. move the roll-ups by what `touched` counts under now, less `counts`
create or replace function projector.count_changed_calls(
    counts projector.call_count[], touched projector.call_id[], linked projector.call_id[],
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
    if linked is not null or old_failures is not null then
        select array_agg((execution_id, command_id, attempts)::call_id), array_agg(failed_before)
        into   stale_links, failures
        from   stale_retry_links(linked, old_failures);
    end if;
    if stale_links is not null then
        counts := counts || (
            select array_agg(counted)
            from   call_counts(-1, stale_links) as counted
            where  (counted.execution_id, counted.command_id, counted.attempts) not in (
                       select execution_id, command_id, attempts from unnest(touched)
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
               array(select distinct id from unnest(touched || stale_links) as id)
           ) as counted;
    if cardinality(counts) > 0 then
        perform count_calls(counts);
    end if;
end
$$;

revoke execute on function projector.count_changed_calls(
    projector.call_count[], projector.call_id[], projector.call_id[], projector.call_failure[]
) from public;
