-- Run once by who may create roles: the roles and who may log in. compose.yaml runs it when the database
-- is created. Elsewhere an administrator runs it before the first `normalizer migrate`; POSTGRES_USER, the
-- owner of the database, then needs no right to create roles. Without it the user that runs this is the owner:
--     POSTGRES_USER=owner WRITER_PASSWORD=... READER_PASSWORD=... psql -f deploy/postgres/roles.sql
-- The owner migrates, redrives and maintains; the service writes; dashboards read views.
\set owner :USER
\getenv owner POSTGRES_USER
\getenv writer_password WRITER_PASSWORD
\getenv reader_password READER_PASSWORD

create role normalizer_writer nologin;
create role projector_reader nologin;
create role normalizer_redriver nologin;
-- `projector serve` as the owner acts as this role.
grant projector_reader to :"owner";
create role writer login password :'writer_password' in role normalizer_writer;
create role reader login password :'reader_password' in role projector_reader;

-- A slow panel must not hold a snapshot open, because that makes every write slower.
alter role reader set statement_timeout = '10s';
alter role reader set idle_in_transaction_session_timeout = '10s';
alter role reader set default_transaction_read_only = on;
