-- Run once, when the database is created: the roles and who may log in.
-- The owner (POSTGRES_USER) migrates, redrives and maintains; the service writes; dashboards read views.
\getenv writer_password WRITER_PASSWORD
\getenv reader_password READER_PASSWORD

create role normalizer_writer nologin;
create role projector_reader nologin;
create role writer login password :'writer_password' in role normalizer_writer;
create role reader login password :'reader_password' in role projector_reader;

-- A slow panel must not hold a snapshot open, because that makes every write slower.
alter role reader set statement_timeout = '10s';
alter role reader set idle_in_transaction_session_timeout = '10s';
alter role reader set default_transaction_read_only = on;
