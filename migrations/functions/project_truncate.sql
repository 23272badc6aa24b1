-- Truncates the projections of a table that was truncated. The arguments name them.
create or replace function projector.project_truncate() returns trigger
    language plpgsql volatile security definer
    set search_path = pg_catalog, projector, pg_temp
as $$
declare
    name   regclass;
    filled boolean;
begin
    for name in
        select pg_class.oid
        from   pg_class
        where  relkind = 'r'
        and    relnamespace = 'projector'::regnamespace
        and    relname = any(tg_argv)
    loop
        -- Truncate only tables that have rows. An empty table may have been truncated by the
        -- current statement, and PostgreSQL would reject a second truncation of it.
        execute format('select exists (select from %s)', name) into filled;
        if filled then
            execute format('truncate table %s', name);
        end if;
    end loop;
    return null;
end
$$;

-- 0004_create_projector.sql says which functions are revoked.
revoke execute on function projector.project_truncate() from public;
