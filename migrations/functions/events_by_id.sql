-- Returns the events with these ids. The function runs with the rights of its owner, because
-- readers may not read the table events themselves.
create or replace function projector.events_by_id(event_ids bigint[])
    returns setof normalizer.events
    language sql stable security definer
    set search_path = pg_catalog, pg_temp
as $$
    select *
    from   normalizer.events
    where  event_id = any((select events_by_id.event_ids)::bigint[]);
$$;

-- 0004_create_projector.sql says which functions are revoked.
revoke execute on function projector.events_by_id(bigint[]) from public;
grant execute on function projector.events_by_id(bigint[]) to projector_reader;
