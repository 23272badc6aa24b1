-- Jobs over history: backfill, renormalize, redrive, redact. A job writes the same rows as the
-- service, so it has positions and totals that must balance too. They move in the transaction of
-- its rows.

set local search_path = "$user", public, normalizer;


create table normalizer.jobs (
    job_id              text             not null,
    run                 integer          not null,
    kind                text             not null,
    spec                text             not null,
    owner               text             not null,
    lock_key            bigint           not null,
    epoch               bigint           not null default 1,
    state               text             not null default 'running',
    reason              text             not null default '',
    progress_ratio      double precision,
    records_per_s       double precision not null default 0,
    throttled_by_lag_s  double precision not null default 0,
    throttled_by_rate_s double precision not null default 0,
    started_at          timestamptz      not null default now(),
    updated_at          timestamptz      not null default now(),
    ended_at            timestamptz,
    constraint jobs_pkey primary key (job_id, run),
    constraint jobs_kind check (kind in ('backfill', 'renormalize', 'redrive', 'redact')),
    constraint jobs_state check (
        state in ('running', 'stopped', 'complete', 'truncated', 'failed')
    ),
    constraint jobs_progress_ratio check (progress_ratio between 0 and 1)
);

comment on table normalizer.jobs is
    'Private: one row for each run of a job over history. job_id is made from the job''s '
    'options, so that the same command continues a run that has not ended. epoch fences a '
    'runner that lost the job. View: jobs.';
comment on column normalizer.jobs.lock_key is
    'Key of the advisory lock that the runner holds on a connection of its own. Without the '
    'lock there is no runner.';
comment on column normalizer.jobs.progress_ratio is
    'Share of the source that is done, 0 to 1; null if that is not known.';


create table normalizer.job_parts (
    job_id       text    not null,
    run          integer not null,
    topic        text    not null,
    incarnation  integer not null,
    partition    integer not null,
    start_offset bigint  not null,
    next_offset  bigint  not null,
    end_offset   bigint,
    cursor       text,
    records      bigint  not null default 0,
    holes        bigint  not null default 0,
    expired      bigint  not null default 0,
    outcomes     bigint  not null default 0,
    stored       bigint  not null default 0,
    duplicate    bigint  not null default 0,
    merged       bigint  not null default 0,
    quarantined  bigint  not null default 0,
    ignored      bigint  not null default 0,
    changed      bigint  not null default 0,
    unchanged    bigint  not null default 0,
    refused      bigint  not null default 0,
    constraint job_parts_pkey primary key (job_id, run, topic, incarnation, partition),
    constraint job_parts_of_job foreign key (job_id, run) references normalizer.jobs (job_id, run),
    constraint job_parts_offsets_balance check (next_offset - start_offset = records + holes),
    constraint job_parts_outcomes_balance check (
        outcomes = stored + duplicate + merged + quarantined + ignored
                 + changed + unchanged + refused
    ),
    constraint job_parts_never_negative check (
        least(records, holes, expired, outcomes, stored, duplicate, merged, quarantined, ignored,
              changed, unchanged, refused) >= 0
    )
) with (fillfactor = 50);

comment on table normalizer.job_parts is
    'Private: the position of a job in one part of its source: a partition, a file or a table. '
    'Offsets are Kafka offsets, line numbers or row numbers.';
comment on column normalizer.job_parts.cursor is
    'Key of the last row that was read, if offsets only count rows.';
comment on column normalizer.job_parts.expired is
    'Number of the holes that retention deleted before they were read.';


create table normalizer.job_batches (
    batch_id bigint  not null,
    job_id   text    not null,
    run      integer not null,
    constraint job_batches_pkey primary key (batch_id)
);

create index job_batches_by_run on normalizer.job_batches (job_id, run, batch_id);
comment on index normalizer.job_batches_by_run is
    'Query: the last batch of a run (ledger verify), and delete those of a deleted run.';

comment on table normalizer.job_batches is
    'Private: transactions that a job wrote. Their rows are in the totals of the job, not in '
    'source_positions.';


create table normalizer.job_refusals (
    job_id   text    not null,
    run      integer not null,
    event_id bigint  not null,
    reason   text    not null,
    detail   text    not null,
    constraint job_refusals_pkey primary key (job_id, run, event_id)
);

comment on table normalizer.job_refusals is
    'Private: stored events that renormalize left as they were, because today''s rules would '
    'refuse them, give them another key, or change a row merged from several records.';


create table normalizer.redrive_attempts (
    quarantine_id      bigint      not null,
    tried_at           timestamptz not null default clock_timestamp(),
    tried_by           text        not null,
    normalizer_version integer     not null,
    outcome            text        not null,
    detail             text        not null,
    job_id             text        not null,
    run                integer     not null,
    constraint redrive_attempts_pkey primary key (quarantine_id, tried_at),
    constraint redrive_attempts_of_entry foreign key (quarantine_id)
        references normalizer.quarantine (quarantine_id) on delete cascade,
    constraint redrive_attempts_outcome check (outcome in ('redriven', 'refused', 'gone'))
);

comment on table normalizer.redrive_attempts is
    'Private: every try to redrive a rejected record: who, when, under which rules, and the '
    'outcome.';


-- Readers see views only.
create view projector.jobs as
with held as (
    select (classid::bigint << 32) | objid::bigint as lock_key
    from   pg_locks
    where  locktype = 'advisory' and objsubid = 1 and granted
    and    database = (select oid from pg_database where datname = current_database())
)
select   job.job_id,
         job.run,
         job.kind,
         job.spec,
         case
             when job.state <> 'running'
                  or exists (select from held where held.lock_key = job.lock_key)
             then job.state
             else 'interrupted'
         end as state,
         job.reason,
         job.progress_ratio,
         job.records_per_s,
         case
             when job.state = 'running' and job.progress_ratio > 0 and job.progress_ratio < 1
                  and job.records_per_s > 0
             then coalesce(sum(part.records), 0)::double precision
                  * (1 - job.progress_ratio) / job.progress_ratio / job.records_per_s
         end as remaining_s,
         job.throttled_by_lag_s,
         job.throttled_by_rate_s,
         coalesce(sum(part.records), 0)::bigint     as records,
         coalesce(sum(part.holes), 0)::bigint       as holes,
         coalesce(sum(part.expired), 0)::bigint     as expired,
         coalesce(sum(part.outcomes), 0)::bigint    as outcomes,
         coalesce(sum(part.stored), 0)::bigint      as stored,
         coalesce(sum(part.duplicate), 0)::bigint   as duplicate,
         coalesce(sum(part.merged), 0)::bigint      as merged,
         coalesce(sum(part.quarantined), 0)::bigint as quarantined,
         coalesce(sum(part.ignored), 0)::bigint     as ignored,
         coalesce(sum(part.changed), 0)::bigint     as changed,
         coalesce(sum(part.unchanged), 0)::bigint   as unchanged,
         coalesce(sum(part.refused), 0)::bigint     as refused,
         job.started_at,
         job.updated_at,
         job.ended_at
from     normalizer.jobs as job
left join normalizer.job_parts as part using (job_id, run)
group by job.job_id, job.run;

comment on view projector.jobs is
    'Which jobs over history run or ran, how far and how fast are they, what throttled them, '
    'and what were the outcomes of their records?';

comment on column projector.jobs.job_id is 'id of the job; a run that continues keeps it';
comment on column projector.jobs.run is 'number of the run, from 1';
comment on column projector.jobs.kind is 'backfill, renormalize, redrive or redact';
comment on column projector.jobs.spec is 'its options';
comment on column projector.jobs.state is 'running, interrupted, or how it ended';
comment on column projector.jobs.reason is 'why it ended, if there is something to add';
comment on column projector.jobs.progress_ratio is
    'share of its source that is done, 0 to 1; null if that is not known';
comment on column projector.jobs.records_per_s is 'speed, in records per second';
comment on column projector.jobs.remaining_s is 'seconds that it still needs at this speed';
comment on column projector.jobs.throttled_by_lag_s is
    'seconds that it paused because the service lagged';
comment on column projector.jobs.throttled_by_rate_s is
    'seconds that it paused to keep to its rate limit';
comment on column projector.jobs.records is 'records read';
comment on column projector.jobs.holes is 'offsets without a record';
comment on column projector.jobs.expired is 'offsets that retention deleted before they were read';
comment on column projector.jobs.outcomes is 'outcomes of its records, in all';
comment on column projector.jobs.stored is 'outcomes that became rows';
comment on column projector.jobs.duplicate is 'outcomes that were stored already';
comment on column projector.jobs.merged is 'outcomes that changed an event that was stored already';
comment on column projector.jobs.quarantined is 'outcomes that were refused';
comment on column projector.jobs.ignored is 'outcomes that are no event';
comment on column projector.jobs.changed is 'stored rows that the job changed';
comment on column projector.jobs.unchanged is 'stored rows that the job left as they were';
comment on column projector.jobs.refused is 'stored rows that today''s rules would refuse';
comment on column projector.jobs.started_at is 'when it began';
comment on column projector.jobs.updated_at is 'when the runner last reported its progress';
comment on column projector.jobs.ended_at is 'when it ended; null while it runs';

-- The refused bytes are for the owner and for redrive only.
create view projector.quarantine_records as
select quarantine_id, projector.hour_of(quarantined_at) as hour, quarantined_at, reason, detail,
       sqlstate, shape, normalizer_version, source_topic as topic,
       source_incarnation as incarnation, source_partition as partition, source_offset,
       source_index, recorded_at, value_bytes, redriven_at, sample, execution_id
from   normalizer.quarantine;

comment on view projector.quarantine_records is
    'Which records were refused, why, what are their coordinates, and how do they begin? Put '
    'your time range on quarantined_at, because it reaches an index.';

comment on column projector.quarantine_records.quarantine_id is
    'id of the entry, for `normalizer quarantine show`';
comment on column projector.quarantine_records.hour is 'the hour of quarantined_at';
comment on column projector.quarantine_records.quarantined_at is 'when it was refused';
comment on column projector.quarantine_records.reason is 'reason, one of a fixed list';
comment on column projector.quarantine_records.detail is
    'reason in a sentence, with the path inside the record';
comment on column projector.quarantine_records.sqlstate is
    'SQLSTATE, if PostgreSQL refused the row';
comment on column projector.quarantine_records.shape is
    'wire shape of the record; empty if it was not recognized';
comment on column projector.quarantine_records.normalizer_version is
    'version of the rules that refused it';
comment on column projector.quarantine_records.topic is 'coordinates of the record';
comment on column projector.quarantine_records.incarnation is
    'how often the topic was deleted and created again';
comment on column projector.quarantine_records.partition is 'coordinates of the record';
comment on column projector.quarantine_records.source_offset is 'coordinates of the record';
comment on column projector.quarantine_records.source_index is
    'index of the event in the record, from 0';
comment on column projector.quarantine_records.recorded_at is 'when Kafka received it';
comment on column projector.quarantine_records.value_bytes is 'size of the value in bytes';
comment on column projector.quarantine_records.redriven_at is
    'when a redrive stored it; null if none did';
comment on column projector.quarantine_records.execution_id is
    'execution that the record names in its value, else in its key; null if neither can be read';
comment on column projector.quarantine_records.sample is
    'first 2 kB of the record, on its first refusal; null if they are not text, if anything in '
    'the record may be a secret, if it is larger than 8 MiB, or after the bytes were deleted';

grant select, insert, update on normalizer.jobs, normalizer.job_parts to normalizer_writer;
grant select, insert on normalizer.job_batches, normalizer.job_refusals, normalizer.redrive_attempts
    to normalizer_writer;
grant update (redriven_at) on normalizer.quarantine to normalizer_writer;
grant select on projector.jobs, projector.quarantine_records to normalizer_writer, projector_reader;

grant usage on schema normalizer to normalizer_redriver;
grant select on normalizer.quarantine_raw to normalizer_redriver;

insert into migrations.applied (version) values ('0011') on conflict do nothing;
