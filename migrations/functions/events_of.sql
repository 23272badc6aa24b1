-- The events of these executions. For readers, who may not read the log itself: the view
-- execution_timeline calls it, and downloads call events_at, page by page.
create or replace function projector.events_of(execution_ids bigint[])
    returns setof normalizer.events
    language sql stable security definer
    set search_path = pg_catalog, pg_temp
as $$
    select *
    from   normalizer.events
    where  execution_id = any((select events_of.execution_ids)::bigint[]);
$$;

revoke execute on function projector.events_of(bigint[]) from public;
grant execute on function projector.events_of(bigint[]) to projector_reader;
