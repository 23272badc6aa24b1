-- Creates the roles and logins. Run it as a user who may create roles. Run it again to set new passwords. compose.yaml
-- runs it when the database is created. Elsewhere an administrator runs it before the first `normalizer migrate`.
-- Then POSTGRES_USER, the owner of the database, needs no right to create roles. Without that variable, the user who
-- runs this is the owner:
--     POSTGRES_USER=owner WRITER_PASSWORD=... READER_PASSWORD=... psql -f deploy/postgres/roles.sql
-- With REVOKE_FROM_PUBLIC=yes only superusers can fill the disk (see the end of this file).
-- The owner migrates, redrives, and maintains. The service writes. Dashboards read views.
\set ON_ERROR_STOP on
\set owner :USER
\getenv owner POSTGRES_USER
\getenv writer_password WRITER_PASSWORD
\getenv reader_password READER_PASSWORD

select format('create role %I', wanted.name)
from   (values ('normalizer_writer'), ('projector_reader'), ('normalizer_redriver'),
               ('writer'), ('reader')) as wanted (name)
where  not exists (select from pg_roles where rolname = wanted.name)
\gexec
-- `projector serve` as the owner acts as this role.
grant projector_reader to :"owner";
grant normalizer_writer to writer;
grant projector_reader to reader;
alter role writer login password :'writer_password';
alter role reader login password :'reader_password';

-- A slow panel must not hold a snapshot open, because that makes every write slower.
alter role reader set statement_timeout = '10s';
alter role reader set idle_in_transaction_session_timeout = '10s';
alter role reader set default_transaction_read_only = on;

-- The service measures how long other sessions hold a snapshot, and needs this right for it. Only a
-- role that may pass the right on, such as a superuser, can grant it. Everything else works without
-- it, and `normalizer check` tells you what to type.
\set ON_ERROR_STOP off
grant pg_read_all_stats to normalizer_writer;

-- By default, every login of PostgreSQL may create large objects and write messages to the WAL. The
-- login of a dashboard could therefore fill the disk, because it can turn off the read-only default
-- above. Neither is needed here, and this takes both rights away from all logins in this database.
-- Leave it out if another application in the database needs them. Only a superuser can do it. Any
-- other user gets a warning.
\getenv revoke_from_public REVOKE_FROM_PUBLIC
\if :{?revoke_from_public}
select format('revoke execute on function %s from public', oid::regprocedure)
from   pg_proc
where  pronamespace = 'pg_catalog'::regnamespace
and    proname in ('lo_creat', 'lo_create', 'lo_from_bytea', 'pg_logical_emit_message')
\gexec
\endif
