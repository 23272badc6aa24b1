-- Merges these changes into execution_facts. Writing an execution locks its row, so all writers
-- write executions in the same order to avoid deadlocks. Returns the executions that the roll-ups
-- must count under another hour, playbook, or outcome from now on.
create or replace function projector.merge_executions(changes projector.execution_change[])
    returns setof projector.execution_recount
    language plpgsql volatile
    set search_path = pg_catalog, projector, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    with written as (
        insert into execution_facts as known (
            execution_id, events, first_at, begin_at, last_at, last_event_ranked, active_at,
            highest_attempts, playbook_ranked, catalog_id, parent_execution_id, completed,
            completed_at, failed, failed_at, cancelled, cancelled_at
        )
        select   execution_id, events, first_at, begin_at, last_at, last_event_ranked, active_at,
                 highest_attempts, playbook_ranked, catalog_id, parent_execution_id, completed,
                 completed_at, failed, failed_at, cancelled, cancelled_at
        from     unnest(merge_executions.changes)
        order by execution_id
        on conflict (execution_id)
        do update set
            events              = known.events + excluded.events,
            first_at            = least(known.first_at, excluded.first_at),
            begin_at            = least(known.begin_at, excluded.begin_at),
            last_at             = greatest(known.last_at, excluded.last_at),
            last_event_ranked   = greatest(known.last_event_ranked, excluded.last_event_ranked),
            active_at           = greatest(known.active_at, excluded.active_at),
            highest_attempts    = greatest(known.highest_attempts, excluded.highest_attempts),
            playbook_ranked     = least(known.playbook_ranked, excluded.playbook_ranked),
            catalog_id          = least(known.catalog_id, excluded.catalog_id),
            parent_execution_id = least(known.parent_execution_id, excluded.parent_execution_id),
            completed           = known.completed + excluded.completed,
            completed_at        = least(known.completed_at, excluded.completed_at),
            failed              = known.failed + excluded.failed,
            failed_at           = least(known.failed_at, excluded.failed_at),
            cancelled           = known.cancelled + excluded.cancelled,
            cancelled_at        = least(known.cancelled_at, excluded.cancelled_at)
        returning execution_id, counted_playbook_ranked, counted_begun, counted_outcome,
                  counted_ended, playbook_ranked, begin_at, to_hour(begin_at) as begun,
                  first_outcome(completed_at, failed_at, cancelled_at) as outcome,
                  to_hour(least(completed_at, failed_at, cancelled_at)) as ended
    )
    select execution_id, counted_playbook_ranked, counted_begun, counted_outcome, counted_ended,
           playbook_ranked, begun, outcome, ended, begin_at
    from   written
    where  counted_playbook_ranked is distinct from playbook_ranked
    or     counted_begun is distinct from begun
    or     counted_outcome is distinct from outcome
    or     counted_ended is distinct from ended;
end
$$;

-- 0004_create_projector.sql says which functions are revoked.
revoke execute on function projector.merge_executions(projector.execution_change[]) from public;
