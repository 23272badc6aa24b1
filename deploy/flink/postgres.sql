-- Makes a migrated database one of figures alone, which Flink fills: tables of its own, under the
-- views of the projections. The other views go, so that nobody takes an empty one for an answer.
--     normalizer migrate && psql --single-transaction --file deploy/flink/postgres.sql
-- `create or replace view` refuses whatever differs from the contract in docs/views.md.

create schema flink;

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

comment on schema flink is
    'Private: figures that Flink keeps up to date. Read the views of schema projector.';

create or replace view projector.attempts_by_status as
select   hour as bucket_start, 3600 as bucket_s, event_type, status, attempts,
         sum(events)::bigint as events, sum(attempts_defaulted)::bigint as attempts_defaulted
from     flink.event_hours
group by hour, event_type, status, attempts;

create or replace view projector.event_counts as
select hour, step, event_type, status, attempts, events, attempts_defaulted
from   flink.event_hours;

create or replace view projector.call_outcomes_by_attempt as
select hour, playbook, step, attempts, status, calls,
       case when status = 'COMPLETED' then calls else 0 end as succeeded,
       case when status <> 'COMPLETED' then calls else 0 end as failed, exhausted
from   flink.call_hours;

create or replace view projector.failures_by_error as
select hour, step, attempts, status, error_class, calls
from   flink.error_hours;

create or replace view projector.call_time_histogram as
select hour, measure, playbook, step, attempts, status, bucket::smallint as bucket, calls
from   flink.call_times;

create or replace view projector.freshness as
select 'noetl.events.canonical' as topic, partition, 0 as incarnation, 'reading' as state,
       next_offset, null::bigint as log_end, null::bigint as unread,
       to_timestamp(recorded_s) as as_of, null::double precision as behind_s,
       null::timestamptz as heartbeat_at, null::timestamptz as end_seen_at,
       null::bigint as records, null::bigint as stored, null::bigint as merged,
       null::bigint as duplicate, null::bigint as quarantined, null::bigint as ignored,
       to_timestamp(recorded_s) as last_recorded_at,
       null::timestamptz as last_committed_at, null::double precision as delay_s,
       null::double precision as silent_s
from   flink.partitions;

do $$
declare
    not_kept text;
begin
    for not_kept in
        select viewname
        from   pg_views
        where  schemaname = 'projector'
        and    viewname not in (
                   'attempts_by_status', 'event_counts', 'call_outcomes_by_attempt',
                   'failures_by_error', 'call_time_histogram', 'freshness'
               )
    loop
        execute format('drop view if exists projector.%I cascade', not_kept);
    end loop;
end
$$;

-- The role that Flink writes as needs, with a name of yours:
--     grant usage on schema flink to flink;
--     grant select, insert, update, delete on all tables in schema flink to flink;
