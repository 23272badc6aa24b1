-- Creates the tables for the figures that Flink computes, in schema flink of a separate PostgreSQL
-- database. If it fails, it has created nothing.
--     psql "$FIGURES_URL" --file deploy/flink/postgres.sql

\set ON_ERROR_STOP on
begin;

do $$
begin
    if to_regclass('normalizer.events') is not null then
        raise exception 'normalizer.events is here: database "%" is the service''s own',
                        current_database()
            using hint = 'Make one for the figures (create database figures), and name it here.';
    end if;
end
$$;

create schema flink;
comment on schema flink is 'Figures that Flink keeps up to date. Read its views.';

create table flink.event_hours (
    hour_s             bigint           not null,
    step               text collate "C" not null,
    event_type         text collate "C" not null,
    status             text collate "C" not null,
    attempts           integer          not null,
    events             bigint           not null,
    attempts_defaulted bigint           not null,
    hour               timestamptz      not null generated always as (to_timestamp(hour_s)) stored,
    constraint event_hours_pkey primary key (hour_s, step, event_type, status, attempts)
);
create table flink.call_hours (
    hour_s    bigint           not null,
    playbook  text collate "C" not null,
    step      text collate "C" not null,
    attempts  integer          not null,
    status    text collate "C" not null,
    calls     bigint           not null,
    exhausted bigint           not null,
    inferred  bigint           not null,
    hour      timestamptz      not null generated always as (to_timestamp(hour_s)) stored,
    constraint call_hours_pkey primary key (hour_s, playbook, step, attempts, status)
);
create table flink.call_times (
    hour_s   bigint           not null,
    measure  text collate "C" not null,
    playbook text collate "C" not null,
    step     text collate "C" not null,
    attempts integer          not null,
    status   text collate "C" not null,
    bucket   integer          not null,
    calls    bigint           not null,
    hour     timestamptz      not null generated always as (to_timestamp(hour_s)) stored,
    constraint call_times_pkey primary key (
        hour_s, measure, playbook, step, attempts, status, bucket
    )
);
create table flink.error_hours (
    hour_s      bigint           not null,
    step        text collate "C" not null,
    attempts    integer          not null,
    status      text collate "C" not null,
    error_class text collate "C" not null,
    calls       bigint           not null,
    hour        timestamptz      not null generated always as (to_timestamp(hour_s)) stored,
    constraint error_hours_pkey primary key (hour_s, step, attempts, status, error_class)
);
-- How far each partition of the topic was read.
create table flink.partitions (
    partition   integer not null,
    next_offset bigint  not null,
    recorded_s  bigint  not null,
    constraint partitions_pkey primary key (partition)
);

create index event_hours_by_hour on flink.event_hours (hour);
create index call_hours_by_hour on flink.call_hours (hour);
create index call_times_by_hour on flink.call_times (hour);
create index error_hours_by_hour on flink.error_hours (hour);

create view flink.attempts_by_status as
select   hour as bucket_start, 3600 as bucket_s, event_type, status, attempts,
         sum(events)::bigint as events, sum(attempts_defaulted)::bigint as attempts_defaulted
from     flink.event_hours
group by hour, event_type, status, attempts;

create view flink.event_counts as
select hour, step, event_type, status, attempts, events, attempts_defaulted
from   flink.event_hours;

create view flink.call_outcomes_by_attempt as
select hour, playbook, step, attempts, status, calls,
       case when status = 'COMPLETED' then calls else 0 end as succeeded,
       case when status <> 'COMPLETED' then calls else 0 end as failed, exhausted, inferred
from   flink.call_hours;

create view flink.failures_by_error as
select hour, step, attempts, status, error_class, calls
from   flink.error_hours;

create view flink.call_time_histogram as
select hour, measure, playbook, step, attempts, status, bucket::smallint as bucket, calls
from   flink.call_times;

-- Lets only one job write. start.py stores the name of the new job here, and the job's sessions use
-- it as their application_name. A previous job that still runs somewhere has another name, so its
-- writes fail.
create table flink.job (
    name text not null
);
create unique index job_is_one on flink.job ((true));
insert into flink.job (name) values ('');

create function flink.refuse_other_jobs() returns trigger
    language plpgsql
as $$
declare
    current_job constant text := (select name from flink.job);
    writer      constant text := current_setting('application_name');
begin
    if current_job = '' then
        raise exception 'flink.% is written by "%" before start.py started a job',
                        tg_table_name, writer;
    elsif writer <> current_job then
        raise exception 'flink.% is written by "%", but start.py has started %', tg_table_name,
                        writer, current_job;
    end if;
    return null;
end
$$;

do $$
declare
    written text;
begin
    foreach written in array array[
        'event_hours', 'call_hours', 'call_times', 'error_hours', 'partitions'
    ] loop
        execute format(
            'create trigger refuse_other_jobs before insert or update or delete on flink.%I '
            'for each statement execute function flink.refuse_other_jobs()',
            written
        );
    end loop;
end
$$;

commit;

-- Flink and start.py sign in as the role that ran this file, because it owns everything here. To
-- let another role read, for example Grafana:
--     grant usage on schema flink to grafana;
--     grant select on all tables in schema flink to grafana;
