-- Records which projections no longer match the events, because a transaction stored events with
-- projector.off = on. The service turns this setting on if a record makes a projection fail, and
-- then no projection is updated. `projector verify` and the page show what was recorded here until
-- `projector repair` has corrected the projections.
create or replace function projector.project_divergences() returns trigger
    language plpgsql volatile security definer
    set search_path = pg_catalog, projector, pg_temp
as $$
begin
    insert into divergences (projection, execution_id, hour, noted_by)
    select distinct location.projection, location.execution_id, location.hour, 'off'
    from   (
               select execution_id, created_at, recorded_at from before
               union all
               select execution_id, created_at, recorded_at from after
           ) as moved
    cross join lateral (
        values ('execution_facts', moved.execution_id, null::timestamptz),
               ('call_facts', moved.execution_id, null),
               ('event_minutes', null, to_hour(moved.created_at)),
               ('event_hours', null, to_hour(moved.created_at)),
               ('arrival_hours', null, to_hour(coalesce(moved.recorded_at, moved.created_at))),
               ('coercion_hours', null, to_hour(coalesce(moved.recorded_at, moved.created_at))),
               -- If a call changes before its execution has a row, it's counted without a playbook.
               -- So the hours of calls may differ too.
               ('call_hours', null, to_hour(moved.created_at)),
               ('call_times', null, to_hour(moved.created_at))
    ) as location (projection, execution_id, hour);
    return null;
exception
    -- An event may have any time, even one whose hour can't be computed. In that case, record a
    -- divergence without an hour or an execution, which means that the difference may be anywhere.
    when data_exception then
        insert into divergences (projection, noted_by)
        values ('execution_facts', 'off'), ('call_facts', 'off'), ('event_minutes', 'off'),
               ('event_hours', 'off'), ('arrival_hours', 'off'), ('coercion_hours', 'off'),
               ('call_hours', 'off'), ('call_times', 'off');
        return null;
end
$$;

-- 0004_create_projector.sql says which functions are revoked.
revoke execute on function projector.project_divergences() from public;
