-- Computes the row that each of these executions should have, from its stored events:
--     1. derive what each event says about its execution
--     2. aggregate these values by execution
create or replace function projector.derive_executions(execution_ids bigint[])
    returns setof projector.execution_change
    language sql stable
    set search_path = pg_catalog, projector, pg_temp
as $$
    -- 1. What each event says.
    with reported as (
        select event.execution_id, event.attempts, event.created_at, event.catalog_id,
               event.parent_execution_id, said.*
        from   execution_events(derive_executions.execution_ids) as event
        left join event_kinds as kind using (event_type)
        cross join lateral execution_facts_from_event(
            kind.role, kind.outcome, event.event_type, event.step, event.status, event.created_at,
            event.source_topic, event.source_partition, event.context, event.result
        ) as said
        offset 0
    )
    -- 2. One row for each execution.
    select   reported.execution_id, count(*), min(created_at), min(begin_at), max(created_at),
             max(last_event_ranked collate "C"), max(active_at), max(attempts),
             min(playbook_ranked collate "C"), min(reported.catalog_id),
             min(reported.parent_execution_id),
             count(*) filter (where outcome = 'COMPLETED'),
             min(created_at) filter (where outcome = 'COMPLETED'),
             count(*) filter (where outcome = 'FAILED'),
             min(created_at) filter (where outcome = 'FAILED'),
             count(*) filter (where outcome = 'CANCELLED'),
             min(created_at) filter (where outcome = 'CANCELLED')
    from     reported
    group by reported.execution_id
$$;
