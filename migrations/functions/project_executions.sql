-- Updates execution_facts and execution_hours after a statement has written events:
--     1. derive from each row what it says about its execution, and reduce that to one entry for
--        each execution
--     2. merge the entries into the executions. That locks the executions, so nothing may read them
--        before this step.
--     3. after an update or deletion, rebuild executions that may still store a removed value
--     4. update the roll-ups
-- Only step 1 reads the rows. The other steps read arrays with one entry for each execution. After
-- an update or deletion, which is rare, step 3 also reads one entry for each row. Executions that
-- retention deletes as a whole (delete_executions) are taken out between steps 1 and 2.
create or replace function projector.project_executions() returns trigger
    language plpgsql volatile security definer
    set search_path = pg_catalog, projector, pg_temp
    set enable_seqscan = off
    set enable_hashjoin = off
    set enable_mergejoin = off
    set jit = off
    set plan_cache_mode = force_generic_plan
as $$
declare
    is_archiving constant boolean :=
        tg_op = 'DELETE' and coalesce(current_setting('projector.archiving', true), '') = 'on';
    roles    jsonb;
    outcomes jsonb;
    changes  execution_change[];
    reports  execution_report[];
    doubtful bigint[];
    moved    execution_recount[];
begin
    if current_setting('projector.off', true) = 'on' then
        return null;
    end if;

    -- 1. Derive what each row says, and add it up by execution.
    select jsonb_object(array_agg(event_type), array_agg(role)),
           jsonb_object(array_agg(event_type), array_agg(outcome))
    into   roles, outcomes
    from   event_kinds;
    with event as (
        select *, roles ->> event_type as role
        from   (
                   select -1 as sign, execution_id, event_type, step, status, attempts,
                          created_at, catalog_id, parent_execution_id, context, result,
                          source_topic, source_partition
                   from   before
                   union all
                   select 1, execution_id, event_type, step, status, attempts,
                          created_at, catalog_id, parent_execution_id, context, result,
                          source_topic, source_partition
                   from   after
               ) as moved
        offset 0
    ),
    reported as not materialized (  -- an insert reads it once
        select event.sign, event.execution_id, event.attempts, event.created_at, event.catalog_id,
               event.parent_execution_id, said.*
        from   event
        cross join lateral execution_facts_from_event(
            event.role, outcomes ->> event.event_type, event.event_type, event.step, event.status,
            event.created_at, event.source_topic, event.source_partition, event.context,
            event.result
        ) as said
        offset 0
    ),
    changed as (
        select   execution_id,
                 sum(sign)::bigint as events,
                 min(created_at) filter (where sign > 0) as first_at,
                 min(begin_at) filter (where sign > 0) as begin_at,
                 max(created_at) filter (where sign > 0) as last_at,
                 max(last_event_ranked collate "C") filter (where sign > 0) as last_event_ranked,
                 max(active_at) filter (where sign > 0) as active_at,
                 max(attempts) filter (where sign > 0) as highest_attempts,
                 min(playbook_ranked collate "C") filter (where sign > 0) as playbook_ranked,
                 min(catalog_id) filter (where sign > 0) as catalog_id,
                 min(parent_execution_id) filter (where sign > 0) as parent_execution_id,
                 coalesce(sum(sign) filter (where outcome = 'COMPLETED'), 0)::bigint as completed,
                 min(created_at) filter (where outcome = 'COMPLETED' and sign > 0) as completed_at,
                 coalesce(sum(sign) filter (where outcome = 'FAILED'), 0)::bigint as failed,
                 min(created_at) filter (where outcome = 'FAILED' and sign > 0) as failed_at,
                 coalesce(sum(sign) filter (where outcome = 'CANCELLED'), 0)::bigint as cancelled,
                 min(created_at) filter (where outcome = 'CANCELLED' and sign > 0) as cancelled_at
        from     reported
        group by execution_id
    )
    select array_agg(changed::execution_change),
           case
               when tg_op <> 'INSERT' and not is_archiving
               then array(select reported::execution_report from reported)
           end
    into   changes, reports
    from   changed;

    if is_archiving then
        changes := remove_emptied_executions(changes);
    end if;

    -- 2. The executions.
    moved := array(select move from merge_executions(changes) as move);

    --     3. Rebuild the executions that may have lost a value. Retention deletes executions whole.
    --        If one keeps events all the same, it's always rebuilt.
    if tg_op <> 'INSERT' then
        if is_archiving then
            doubtful := array(select execution_id from unnest(changes));
        else
            doubtful := executions_to_rebuild(reports);
        end if;
        moved := array(
            select move
            from   rebuild_executions(doubtful, array(select execution_id from unnest(changes)))
                       as move
        );
    end if;

    -- 4. The roll-ups.
    if cardinality(moved) > 0 then
        perform update_execution_rollups(moved);
    end if;
    return null;
end
$$;

-- 0004_create_projector.sql says which functions are revoked.
revoke execute on function projector.project_executions() from public;
