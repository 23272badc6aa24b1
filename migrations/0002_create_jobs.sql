-- Tables of the jobs that process history: backfill, renormalize, redrive, and redact. A job writes
-- events just as the service does, so it has positions and totals too. Its positions and totals
-- change in the same transaction as the rows, so they always match what was written.


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
comment on column normalizer.jobs.job_id is 'Id of the job, made from its kind and its options.';
comment on column normalizer.jobs.run is 'Number of the run, from 1.';
comment on column normalizer.jobs.kind is 'backfill, renormalize, redrive or redact.';
comment on column normalizer.jobs.spec is 'Options of the job, as JSON.';
comment on column normalizer.jobs.owner is 'Process that runs the job.';
comment on column normalizer.jobs.lock_key is
    'Key of the advisory lock that the runner holds on a connection of its own. Without the lock '
    'there is no runner.';
comment on column normalizer.jobs.epoch is
    'Number of the claim, which grows with each claim. A transaction with a lower epoch fails.';
comment on column normalizer.jobs.state is 'running, or how the run ended.';
comment on column normalizer.jobs.reason is
    'Why the run ended, or empty if there is nothing to add.';
comment on column normalizer.jobs.progress_ratio is
    'Share of the source that is done, 0 to 1, or null if that is not known.';
comment on column normalizer.jobs.records_per_s is 'Speed, in records per second.';
comment on column normalizer.jobs.throttled_by_lag_s is
    'Seconds that the run paused because the service lagged.';
comment on column normalizer.jobs.throttled_by_rate_s is
    'Seconds that the run paused to keep to its rate limit.';
comment on column normalizer.jobs.started_at is 'When the run started.';
comment on column normalizer.jobs.updated_at is 'When the runner last wrote this row.';
comment on column normalizer.jobs.ended_at is 'When the run ended, or null while it runs.';


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
    rejected      bigint  not null default 0,
    constraint job_parts_pkey primary key (job_id, run, topic, incarnation, partition),
    constraint job_parts_of_job foreign key (job_id, run) references normalizer.jobs (job_id, run),
    constraint job_parts_offsets_balance check (next_offset - start_offset = records + holes),
    constraint job_parts_outcomes_balance check (
        outcomes = stored + duplicate + merged + quarantined + ignored
                 + changed + unchanged + rejected
    ),
    constraint job_parts_never_negative check (
        least(records, holes, expired, outcomes, stored, duplicate, merged, quarantined, ignored,
              changed, unchanged, rejected) >= 0
    )
) with (fillfactor = 50);

comment on table normalizer.job_parts is
    'Private: the position of a job in one part of its source: a partition, a file or a table. '
    'Offsets are Kafka offsets, line numbers or row numbers.';
comment on column normalizer.job_parts.job_id is
    'Id of the job, made from its kind and its options.';
comment on column normalizer.job_parts.run is 'Number of the run, from 1.';
comment on column normalizer.job_parts.topic is
    'Kafka topic, or the name of a file or table that a job reads.';
comment on column normalizer.job_parts.incarnation is
    'How often the topic was deleted and created again, from 0.';
comment on column normalizer.job_parts.partition is 'Partition of the topic.';
comment on column normalizer.job_parts.start_offset is 'Offset of the first record to read.';
comment on column normalizer.job_parts.next_offset is 'Offset of the next record to read.';
comment on column normalizer.job_parts.end_offset is
    'Offset to stop before, or null if the end is not known.';
comment on column normalizer.job_parts.cursor is
    'Key of the last row that was read, if offsets only count rows.';
comment on column normalizer.job_parts.records is 'Number of records that were read.';
comment on column normalizer.job_parts.holes is 'Number of offsets without a record.';
comment on column normalizer.job_parts.expired is
    'Number of the holes that retention deleted before they were read.';
comment on column normalizer.job_parts.outcomes is
    'Number of outcomes, the sum of the columns that follow.';
comment on column normalizer.job_parts.stored is 'Number of events that became rows.';
comment on column normalizer.job_parts.duplicate is
    'Number of events that were stored already and added nothing.';
comment on column normalizer.job_parts.merged is
    'Number of events that were stored already and changed the row.';
comment on column normalizer.job_parts.quarantined is 'Number of rejected records and events.';
comment on column normalizer.job_parts.ignored is
    'Number of records and events that need no row: tombstones, empty batches, expired events.';
comment on column normalizer.job_parts.changed is 'Number of stored rows that the job changed.';
comment on column normalizer.job_parts.unchanged is
    'Number of stored rows that the job left as they were.';
comment on column normalizer.job_parts.rejected is
    'Number of stored rows that today''s rules would reject.';


create table normalizer.job_batches (
    batch_id bigint  not null,
    job_id   text    not null,
    run      integer not null,
    constraint job_batches_pkey primary key (batch_id)
);

comment on table normalizer.job_batches is
    'Private: transactions that a job wrote. Their rows are in the totals of the job, not in '
    'source_positions.';
comment on column normalizer.job_batches.batch_id is
    'Number of the transaction that wrote the row.';
comment on column normalizer.job_batches.job_id is
    'Id of the job, made from its kind and its options.';
comment on column normalizer.job_batches.run is 'Number of the run, from 1.';

create index job_batches_by_run on normalizer.job_batches (job_id, run, batch_id);
comment on index normalizer.job_batches_by_run is
    'Query: the last batch of a run (ledger verify), and delete those of a deleted run.';


create table normalizer.job_rejections (
    job_id   text    not null,
    run      integer not null,
    event_id bigint  not null,
    reason   text    not null,
    detail   text    not null,
    constraint job_rejections_pkey primary key (job_id, run, event_id)
);

comment on table normalizer.job_rejections is
    'Private: stored events that renormalize left as they were, because today''s rules would '
    'reject them, give them another key, or change a row merged from several records.';
comment on column normalizer.job_rejections.job_id is
    'Id of the job, made from its kind and its options.';
comment on column normalizer.job_rejections.run is 'Number of the run, from 1.';
comment on column normalizer.job_rejections.event_id is 'Id of the event.';
comment on column normalizer.job_rejections.reason is
    'A reason of normalizer.quarantine, or not_one_event, key_changes or merged_row.';
comment on column normalizer.job_rejections.detail is 'The reason in a sentence.';


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
    constraint redrive_attempts_outcome check (outcome in ('redriven', 'rejected', 'gone'))
);

comment on table normalizer.redrive_attempts is
    'Private: every try to redrive a rejected record: who, when, under which rules, and the '
    'outcome.';
comment on column normalizer.redrive_attempts.quarantine_id is 'Number of the entry.';
comment on column normalizer.redrive_attempts.tried_at is 'When it was tried.';
comment on column normalizer.redrive_attempts.tried_by is 'Who started the redrive.';
comment on column normalizer.redrive_attempts.normalizer_version is
    'Version of the rules of the try.';
comment on column normalizer.redrive_attempts.outcome is
    'redriven, rejected or gone: retention or an erasure took it.';
comment on column normalizer.redrive_attempts.detail is 'The outcome in a sentence.';
comment on column normalizer.redrive_attempts.job_id is
    'Id of the job, made from its kind and its options.';
comment on column normalizer.redrive_attempts.run is 'Number of the run, from 1.';

grant select, insert, update on normalizer.jobs, normalizer.job_parts to normalizer_writer;
grant select, insert
    on normalizer.job_batches, normalizer.job_rejections, normalizer.redrive_attempts
    to normalizer_writer;
grant update (redriven_at) on normalizer.quarantine to normalizer_writer;
grant usage on schema normalizer to normalizer_redriver;
grant select on normalizer.quarantine_raw to normalizer_redriver;

insert into migrations.applied (version) values ('0002') on conflict do nothing;
