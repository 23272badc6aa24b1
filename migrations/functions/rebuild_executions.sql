-- Rebuilds the rows of these executions from their events. Returns those executions of `changed`
-- that the roll-ups must count under other keys from now on. An execution whose row has 0 events
-- isn't counted. Usually all of its events were deleted. It's also possible that its events were
-- stored while the projections were off (project_divergences), and have only been updated since.
-- An update adds 0 events, so the row still has none.
create or replace function projector.rebuild_executions(
    execution_ids bigint[], changed bigint[]
)
    returns setof projector.execution_recount
    language plpgsql volatile
    set search_path = pg_catalog, projector, pg_temp
as $$
#variable_conflict use_column
begin
    update execution_facts as known
    set    events              = coalesce(aggregated.events, 0),
           first_at            = aggregated.first_at,
           begin_at            = aggregated.begin_at,
           last_at             = aggregated.last_at,
           last_event_ranked   = aggregated.last_event_ranked,
           active_at           = aggregated.active_at,
           highest_attempts    = aggregated.highest_attempts,
           playbook_ranked     = aggregated.playbook_ranked,
           catalog_id          = aggregated.catalog_id,
           parent_execution_id = aggregated.parent_execution_id,
           completed           = coalesce(aggregated.completed, 0),
           completed_at        = aggregated.completed_at,
           failed              = coalesce(aggregated.failed, 0),
           failed_at           = aggregated.failed_at,
           cancelled           = coalesce(aggregated.cancelled, 0),
           cancelled_at        = aggregated.cancelled_at
    from   unnest(rebuild_executions.execution_ids) as doubtful (execution_id)
    left join derive_executions(rebuild_executions.execution_ids) as aggregated
        using (execution_id)
    where  known.execution_id = doubtful.execution_id;
    return query
        select known.execution_id, known.counted_playbook_ranked, known.counted_begun,
               known.counted_outcome, known.counted_ended, known.playbook_ranked, today.begun,
               today.outcome, today.ended, known.begin_at
        from   unnest(rebuild_executions.changed) as wanted (execution_id)
        join   execution_facts as known using (execution_id)
        left join lateral (
            select to_hour(known.begin_at) as begun,
                   first_outcome(known.completed_at, known.failed_at, known.cancelled_at)
                       as outcome,
                   to_hour(least(known.completed_at, known.failed_at, known.cancelled_at)) as ended
            where  known.events > 0
        ) as today on true
        where  known.events = 0
        or     (
                   known.counted_playbook_ranked, known.counted_begun, known.counted_outcome,
                   known.counted_ended
               ) is distinct from (
                   known.playbook_ranked, today.begun, today.outcome, today.ended
               );
end
$$;

-- 0004_create_projector.sql says which functions are revoked.
revoke execute on function projector.rebuild_executions(bigint[], bigint[]) from public;
