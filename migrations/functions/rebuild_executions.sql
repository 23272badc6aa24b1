-- Rebuilds the rows of executions from their events. An execution without events gets a count of 0.
create or replace function projector.rebuild_executions(execution_ids bigint[]) returns void
    language plpgsql volatile
    set search_path = pg_catalog, projector, pg_temp
as $$
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
    left join aggregate_executions(rebuild_executions.execution_ids) as aggregated
        using (execution_id)
    where  known.execution_id = doubtful.execution_id;
end
$$;

revoke execute on function projector.rebuild_executions(bigint[]) from public;
