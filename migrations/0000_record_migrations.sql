-- migrate:up

-- Schema migrations: which files were applied. Every file ends by recording itself in `applied`,
-- so a DBA may run them by hand, in order, as the role that will own the tables:
--     psql -1 -v ON_ERROR_STOP=1 -f migrations/0000_record_migrations.sql DATABASE
-- and `normalizer migrate` goes on from there. There is no way down: the last line of every file
-- is only there because dbmate asks for it.

create schema if not exists migrations;

create table if not exists migrations.applied (
    version    text        not null,
    name       text,
    checksum   text,
    applied_at timestamptz not null default now(),
    applied_by text        not null default session_user,
    constraint applied_pkey primary key (version)
);

comment on table migrations.applied is
    'The files of migrations/ that were applied. name and checksum (SHA-256) are noted by '
    '`normalizer migrate`, which refuses a file that was edited afterwards.';

-- dbmate's own list, in the form it makes itself.
create table if not exists migrations.schema_migrations (
    version varchar not null,
    constraint schema_migrations_pkey primary key (version)
);

-- The service asks at start whether the database is new enough.
grant usage on schema migrations to public;
grant select on migrations.applied to public;

insert into migrations.applied (version) values ('0000') on conflict do nothing;

-- migrate:down
