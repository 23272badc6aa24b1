-- migrate:up

-- Whoever migrates may act as the reader: `projector serve` takes that role whatever the user of
-- its DATABASE_URL may do. Where somebody else made the role, its maker must grant it.
do $$
begin
    execute format('grant projector_reader to %I', current_user);
exception
    when insufficient_privilege then
        raise notice 'grant projector_reader to % by hand, to let it serve the API', current_user;
end
$$;

-- Functions that write are for whoever was granted them; PostgreSQL grants each to everybody.
do $$
declare
    writes regprocedure;
begin
    for writes in
        select oid
        from   pg_proc
        where  pronamespace in ('normalizer'::regnamespace, 'projector'::regnamespace)
        and    prokind = 'f'
        and    provolatile = 'v'
    loop
        execute format('revoke execute on function %s from public', writes);
    end loop;
end
$$;

-- A temporary schema stands in front of others in a name's look-up; none of our logins needs one.
do $$
begin
    execute format('revoke temporary on database %I from public', current_database());
end
$$;

insert into migrations.applied (version) values ('0012') on conflict do nothing;

-- migrate:down
