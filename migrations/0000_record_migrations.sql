-- Schema migrations lists the applied files. Every file runs in one transaction and ends by
-- recording itself in `applied`. A DBA who uses psql runs them all, with their checksums:
--     normalizer migrate --print | psql DATABASE
-- Later, `normalizer migrate` continues from there. Migrations cannot be undone.

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
    'Private: the files of migrations/ that were applied. `normalizer migrate` writes name and '
    'checksum. It refuses a file that was edited afterwards, or has no checksum.';

-- The service checks at start that the database is new enough.
grant usage on schema migrations to public;
grant select on migrations.applied to public;

insert into migrations.applied (version) values ('0000') on conflict do nothing;
