-- Tables of executions. Each execution has one row in execution_facts, which tells what began it,
-- how it ended, and whether its events agree.


create table projector.execution_facts (
    execution_id            bigint      not null,
    events                  bigint      not null,
    first_at                timestamptz,
    begin_at                timestamptz,
    last_at                 timestamptz,
    last_event_ranked       text[] collate "C",
    active_at               timestamptz,
    highest_attempts        integer,
    playbook_ranked         text[] collate "C",
    catalog_id              bigint,
    parent_execution_id     bigint,
    completed               bigint      not null,
    completed_at            timestamptz,
    failed                  bigint      not null,
    failed_at               timestamptz,
    cancelled               bigint      not null,
    cancelled_at            timestamptz,
    counted_playbook_ranked text[] collate "C",
    counted_begun           timestamptz,
    counted_outcome         text collate "C",
    counted_ended           timestamptz,
    constraint execution_facts_pkey primary key (execution_id),
    constraint execution_facts_possible check (
        least(
            first_at, begin_at, last_at, active_at, completed_at, failed_at, cancelled_at,
            counted_begun, counted_ended
        ) >= '0001-01-01 00:00:00+00'
        and greatest(
            first_at, begin_at, last_at, active_at, completed_at, failed_at, cancelled_at,
            counted_begun, counted_ended
        ) < '10000-01-01 00:00:00+00'
    )
) with (fillfactor = 70);

comment on table projector.execution_facts is
    'Private: what the events of each execution say about it, merged. Only lifecycle events '
    'end an execution. Views: executions and others.';
comment on column projector.execution_facts.execution_id is 'Id of the execution.';
comment on column projector.execution_facts.events is 'Number of events.';
comment on column projector.execution_facts.first_at is 'created_at of the first event.';
comment on column projector.execution_facts.begin_at is
    'created_at of the first event that begins it. Without such an event it is not counted as '
    'begun.';
comment on column projector.execution_facts.last_at is 'created_at of the last event.';
comment on column projector.execution_facts.last_event_ranked is
    'The last event: its time (projector.encode_time), type, step, and the topic and partition of '
    'its record. The greatest value wins.';
comment on column projector.execution_facts.active_at is
    'created_at of the last event that is neither an end nor the report of an end '
    '(command.completed and similar, workflow.*): those normally follow the end.';
comment on column projector.execution_facts.highest_attempts is 'Highest attempts of its events.';
comment on column projector.execution_facts.playbook_ranked is
    'Four texts: 0 if the playbook is the path that a begin event names, or 1 if it is the step of '
    'a lifecycle event, the time, the playbook (its first 200 characters, because it is part of '
    'keys), and its version. The least value wins.';
comment on column projector.execution_facts.catalog_id is 'Id of the playbook in the catalog.';
comment on column projector.execution_facts.parent_execution_id is
    'Id of the execution that started this one.';
comment on column projector.execution_facts.completed is
    'Number of events that end it as COMPLETED. Each outcome has its own count and first time.';
comment on column projector.execution_facts.completed_at is
    'created_at of the first event that ends it as COMPLETED.';
comment on column projector.execution_facts.failed is 'Number of events that end it as FAILED.';
comment on column projector.execution_facts.failed_at is
    'created_at of the first event that ends it as FAILED.';
comment on column projector.execution_facts.cancelled is
    'Number of events that end it as CANCELLED.';
comment on column projector.execution_facts.cancelled_at is
    'created_at of the first event that ends it as CANCELLED.';
comment on column projector.execution_facts.counted_playbook_ranked is
    'What roll-ups count the execution and its calls under now: this playbook, and in the next '
    'columns hour of the begin, outcome, and hour of the end.';
comment on column projector.execution_facts.counted_begun is
    'Hour of its begin that roll-ups count it under.';
comment on column projector.execution_facts.counted_outcome is
    'Outcome that roll-ups count it under, or empty while it runs.';
comment on column projector.execution_facts.counted_ended is
    'Hour of its end that roll-ups count it under.';


create table projector.execution_hours (
    hour       timestamptz                not null,
    playbook   text           collate "C" not null,
    outcome    text           collate "C" not null,
    shard      smallint                   not null,
    executions bigint                     not null,
    constraint execution_hours_pkey primary key (hour, playbook, outcome, shard),
    constraint execution_hours_outcome check (
        outcome in ('BEGUN', 'COMPLETED', 'FAILED', 'CANCELLED')
    ),
    constraint execution_hours_possible check (
        hour <@ '[0001-01-01 00:00:00+00, 10000-01-01 00:00:00+00)'::tstzrange
        and (shard = 64 or executions <@ '[-72057594037927936, 72057594037927936]'::int8range)
    )
) with (fillfactor = 70);

comment on table projector.execution_hours is
    'Private: executions that began and that ended, by hour and playbook. View: '
    'execution_outcomes.';
comment on column projector.execution_hours.hour is 'Start of the hour, UTC.';
comment on column projector.execution_hours.playbook is
    'Path of the playbook, or empty while it is not known.';
comment on column projector.execution_hours.outcome is 'BEGUN, or how the executions ended.';
comment on column projector.execution_hours.shard is
    'Counter shard. Shard -1 counts deleted events. Only the sum over all shards is a count.';
comment on column projector.execution_hours.executions is 'Number of executions.';


-- The table has no unique key. With one, a writer would have to wait for any other writer that's
-- storing the same version. Without one, two writers that store the first execution of a version at
-- the same time both add a row. That does no harm, because the view shows the earlier time.
create table projector.deployment_marks (
    playbook text        collate "C" not null,
    version  text        collate "C" not null,
    first_at timestamptz             not null,
    constraint deployment_marks_possible check (
        first_at <@ '[0001-01-01 00:00:00+00, 10000-01-01 00:00:00+00)'::tstzrange
    )
);

comment on table projector.deployment_marks is
    'Private: when the first execution of each version of a playbook began. A mark stays when '
    'retention deletes that execution. View: deployments.';
comment on column projector.deployment_marks.playbook is 'Path of the playbook.';
comment on column projector.deployment_marks.version is
    'Version of the playbook, as the event that begins the execution names it, or empty without '
    'one.';
comment on column projector.deployment_marks.first_at is
    'When an execution began that is earlier than every row of this version before it.';

create index deployment_marks_by_version
    on projector.deployment_marks (playbook, version, first_at);
comment on index projector.deployment_marks_by_version is
    'Query: whether a version was seen before (record_deployments).';


-- An execution that the roll-ups must count under other values than before. The columns that begin
-- with `was_` hold the values under which it's counted so far. The columns with the same names but
-- without `was_` hold the new values.
create type projector.execution_recount as (
    execution_id        bigint,
    was_playbook_ranked text[],
    was_begun           timestamptz,
    was_outcome         text,
    was_ended           timestamptz,
    playbook_ranked     text[],
    begun               timestamptz,
    outcome             text,
    ended               timestamptz,
    begin_at            timestamptz
);


-- What one row of the table events says about its execution. `sign` is 1 for a row as it is after a
-- statement, and -1 for a row as it was before the statement.
create type projector.execution_report as (
    sign                integer,
    execution_id        bigint,
    attempts            integer,
    created_at          timestamptz,
    catalog_id          bigint,
    parent_execution_id bigint,
    last_event_ranked   text[]      collate "C",
    begin_at            timestamptz,
    active_at           timestamptz,
    playbook_ranked     text[]      collate "C",
    outcome             text
);


-- What a set of events reports about one execution. The set is either all stored events of the
-- execution, or the events that one statement changes. In the second case, `events` is the number
-- of events after the statement minus the number before it.
create type projector.execution_change as (
    execution_id        bigint,
    events              bigint,
    first_at            timestamptz,
    begin_at            timestamptz,
    last_at             timestamptz,
    last_event_ranked   text[]      collate "C",
    active_at           timestamptz,
    highest_attempts    integer,
    playbook_ranked     text[]      collate "C",
    catalog_id          bigint,
    parent_execution_id bigint,
    completed           bigint,
    completed_at        timestamptz,
    failed              bigint,
    failed_at           timestamptz,
    cancelled           bigint,
    cancelled_at        timestamptz
);

-- No index may contain a column that changes with each event. Otherwise an update would need new
-- index entries, and couldn't be a HOT update.
create index executions_by_hour on projector.execution_facts (projector.to_hour(first_at));
comment on index projector.executions_by_hour is
    'Query: executions by hour of the first event (view executions).';

create index executions_running on projector.execution_facts (projector.to_hour(first_at))
    where completed_at is null and failed_at is null and cancelled_at is null;
comment on index projector.executions_running is
    'Query: running executions, however old (view stuck_executions).';

create index executions_by_end on projector.execution_facts (
    projector.to_hour(least(completed_at, failed_at, cancelled_at))
) where projector.to_hour(least(completed_at, failed_at, cancelled_at)) is not null;
comment on index projector.executions_by_end is
    'Query: executions that ended in an hour (contradicting_executions, '
    'completed_with_failures, verify).';

-- These statistics tell the planner how many executions ended in a time window. Without them, it
-- assumes that only one did, and looks up each execution to check the filter. That's slow if many
-- executions ended in the window.
create statistics projector.ends_of_executions
    on (least(completed_at, failed_at, cancelled_at)) from projector.execution_facts;
comment on statistics projector.ends_of_executions is
    'Tells the planner how many executions ended in a window.';

create index executions_by_begin on projector.execution_facts
    using brin (projector.to_hour(begin_at) timestamptz_minmax_multi_ops)
    with (pages_per_range = 32);
comment on index projector.executions_by_begin is
    'Query: executions that began in an hour (verify only). Block ranges are as fast as a tree of '
    '25 times the size. They have several ranges for each block, because some events arrive long '
    'after (measured: 400,000 executions, 2 % late).';

create index executions_by_parent on projector.execution_facts (parent_execution_id)
    where parent_execution_id is not null;
comment on index projector.executions_by_parent is
    'Query: executions that one execution started (API: the tree of an execution, and lists by '
    'parent).';

insert into migrations.applied (version) values ('0006') on conflict do nothing;
