-- Creates the table migrations.applied, which records the migrations applied to this database.
-- `normalizer migrate` applies the numbered files of this folder in order, each of them once. It
-- then applies the files in functions/ and views/, and applies a file again whenever its text has
-- changed. Each file runs in its own transaction. There are no down migrations.
--
-- You can also apply all files with psql:
--     normalizer migrate --print | psql DATABASE
-- The printed script stores the checksum of each file too, so a later `normalizer migrate` applies
-- only what's new.

do $$
begin
    if current_setting('server_encoding') <> 'UTF8' then
        raise exception 'the encoding of this database is %, but events hold text of any language. '
                        'Make another one: create database ... encoding ''UTF8'' '
                        'template template0',
                        current_setting('server_encoding');
    end if;
end
$$;

create schema if not exists migrations;

create table if not exists migrations.applied (
    version    text        not null,
    name       text,
    checksum   text,
    release    text,
    applied_at timestamptz not null default now(),
    applied_by text        not null default session_user,
    constraint applied_pkey primary key (version)
);

comment on table migrations.applied is
    'Private: the files of migrations/ that were applied. `normalizer migrate` writes name and '
    'checksum. It refuses a file that was edited afterwards, or has no checksum.';
comment on column migrations.applied.version is
    'Digits at the front of the file''s name. Of a function or a view, the folder and the name.';
comment on column migrations.applied.name is 'Name of the file without its ending.';
comment on column migrations.applied.checksum is 'SHA-256 of the file, in hex.';
comment on column migrations.applied.release is
    'Release that applied the file. An older one leaves its functions and views alone.';
comment on column migrations.applied.applied_at is 'When the file was applied.';
comment on column migrations.applied.applied_by is 'Role that applied it.';

-- The service checks at start that the database is new enough.
grant usage on schema migrations to public;
grant select on migrations.applied to public;

insert into migrations.applied (version) values ('0000') on conflict do nothing;
