-- After a table was truncated, truncates its projections, which are the arguments.
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
        -- A table that the same statement truncated cannot be truncated again.
        execute format('select exists (select from %s)', name) into filled;
        if filled then
            execute format('truncate table %s', name);
        end if;
    end loop;
    return null;
end
$$;

revoke execute on function projector.project_truncate() from public;
