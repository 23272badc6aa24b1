-- Returns the events of these executions, for the view execution_timeline. The function runs with
-- the rights of its owner, because readers may not read the table events themselves. Downloads call
-- events_by_id instead, which returns the events page by page.
create or replace function projector.execution_events(execution_ids bigint[])
    returns setof normalizer.events
    language sql stable security definer
    set search_path = pg_catalog, pg_temp
as $$
    select *
    from   normalizer.events
    where  execution_id = any((select execution_events.execution_ids)::bigint[]);
$$;

-- 0004_create_projector.sql says which functions are revoked.
revoke execute on function projector.execution_events(bigint[]) from public;
grant execute on function projector.execution_events(bigint[]) to projector_reader;
