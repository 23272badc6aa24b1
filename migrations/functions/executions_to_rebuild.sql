-- Finds the executions that may have to be rebuilt. A row of execution_facts stores values of the
-- execution's events, such as the time of the first event. An update or a deletion may remove such
-- a value from an event. Another event may have the same value, but only reading all events of the
-- execution can tell. The time last_at isn't compared, because last_event_ranked contains it.
--     1. find the values that the changed rows of an execution had before the statement, but don't
--        have any more
--     2. find the executions that store one of these values
create or replace function projector.executions_to_rebuild(reports projector.execution_report[])
    returns bigint[]
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
as $$
declare
    doubtful bigint[];
begin
    -- 1. What no row says any more.
    with lost as (
        select   execution_id,
                 nullif(min(created_at) filter (where sign < 0),
                        min(created_at) filter (where sign > 0)) as first_at,
                 nullif(min(begin_at) filter (where sign < 0),
                        min(begin_at) filter (where sign > 0)) as begin_at,
                 nullif(max(last_event_ranked collate "C") filter (where sign < 0),
                        max(last_event_ranked collate "C") filter (where sign > 0))
                     as last_event_ranked,
                 nullif(max(active_at) filter (where sign < 0),
                        max(active_at) filter (where sign > 0)) as active_at,
                 nullif(max(attempts) filter (where sign < 0),
                        max(attempts) filter (where sign > 0)) as highest_attempts,
                 nullif(min(playbook_ranked collate "C") filter (where sign < 0),
                        min(playbook_ranked collate "C") filter (where sign > 0))
                     as playbook_ranked,
                 nullif(min(catalog_id) filter (where sign < 0),
                        min(catalog_id) filter (where sign > 0)) as catalog_id,
                 nullif(min(parent_execution_id) filter (where sign < 0),
                        min(parent_execution_id) filter (where sign > 0)) as parent_execution_id,
                 nullif(min(created_at) filter (where outcome = 'COMPLETED' and sign < 0),
                        min(created_at) filter (where outcome = 'COMPLETED' and sign > 0))
                     as completed_at,
                 nullif(min(created_at) filter (where outcome = 'FAILED' and sign < 0),
                        min(created_at) filter (where outcome = 'FAILED' and sign > 0))
                     as failed_at,
                 nullif(min(created_at) filter (where outcome = 'CANCELLED' and sign < 0),
                        min(created_at) filter (where outcome = 'CANCELLED' and sign > 0))
                     as cancelled_at
        from     unnest(executions_to_rebuild.reports)
        group by execution_id
    )
    -- 2. The executions.
    select array_agg(known.execution_id)
    into   doubtful
    from   lost
    join   execution_facts as known using (execution_id)
    where  lost.first_at = known.first_at
    or     lost.begin_at = known.begin_at
    or     lost.last_event_ranked = known.last_event_ranked
    or     lost.active_at = known.active_at
    or     lost.highest_attempts = known.highest_attempts
    or     lost.playbook_ranked = known.playbook_ranked
    or     lost.catalog_id = known.catalog_id
    or     lost.parent_execution_id = known.parent_execution_id
    or     lost.completed_at = known.completed_at
    or     lost.failed_at = known.failed_at
    or     lost.cancelled_at = known.cancelled_at;
    return doubtful;
end
$$;
