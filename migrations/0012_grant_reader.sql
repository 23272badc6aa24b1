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

insert into migrations.applied (version) values ('0012') on conflict do nothing;

-- migrate:down
