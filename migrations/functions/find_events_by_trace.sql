-- Returns up to a thousand events of this trace. The function runs with the rights of its owner,
-- because readers may not read the table events themselves.
create or replace function projector.find_events_by_trace(trace_id text)
    returns setof projector.located_event
    language sql stable security definer
    set search_path = pg_catalog, pg_temp
as $$
    select event_id, execution_id, event_type, step, status, created_at, source_index, false
    from   normalizer.events
    where  trace_id is not null
    and    hashtext(trace_id) = hashtext(find_events_by_trace.trace_id)
    and    trace_id = find_events_by_trace.trace_id
    limit  1000
$$;

-- 0004_create_projector.sql says which functions are revoked.
revoke execute on function projector.find_events_by_trace(text) from public;
grant execute on function projector.find_events_by_trace(text) to projector_reader;
