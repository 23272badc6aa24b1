-- Lets the role that runs the migrations act as projector_reader, because `projector serve`
-- switches to that role for all of its queries. If another role has created projector_reader, the
-- grant may not be allowed. In that case a notice asks you to make it by hand.
do $$
begin
    execute format('grant projector_reader to %I', current_user);
exception
    when insufficient_privilege then
        if not pg_has_role('projector_reader', 'member') then
            raise notice 'grant projector_reader to % by hand, to let it serve the API',
                         current_user;
        end if;
end
$$;

-- PostgreSQL looks up names in a session's temporary schema first, so a temporary table could hide
-- one of ours. None of our logins needs temporary tables, so nobody may create them.
do $$
begin
    execute format('revoke temporary on database %I from public', current_database());
end
$$;

insert into migrations.applied (version) values ('0009') on conflict do nothing;
