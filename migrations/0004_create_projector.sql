-- The schema projector holds the projections, which triggers update in the transaction that writes
-- the events. Its views are a contract with their readers. Its tables are private and may change in
-- any release. A function that is volatile, or that has the rights of its owner, is revoked from
-- public. The others only read, with the rights of their caller.
--
-- Each counter has a separate row in every shard, so that writers can count at the same time. A
-- transaction changes only the rows of shards that it has locked until it ends. The count is the
-- sum over all shards:
--     0 to 63   for the transactions that change events (take_shard)
--     64        for corrections by `projector repair`. A correction may be any number.
--     -1        for deleted events (delete_executions)
--
-- Most functions are in functions/. Those that an index, a constraint, or a column's default uses
-- are in versions such as this one, because versions are applied first, and because a new body
-- wouldn't update what an index or a row has stored.
--
-- A constraint whose name ends in _possible rejects only values that no event can lead to. It
-- allows every time within the calendar, every attempt that an event can have, and every sum that
-- the shard of repairs (64) can still correct. Keep constraints short, because PostgreSQL parses
-- those of a table again for each statement that writes to it.

create schema projector;

grant usage on schema projector to normalizer_writer, projector_reader;


-- The meaning of each event type, in every spelling that producers use.
-- normalizer/core/rules/event_types.py has the same meanings, and a test checks that the two agree.
create table projector.event_kinds (
    event_type  text not null,
    event_class text not null,
    subject     text not null,
    role        text not null,
    outcome     text not null,
    constraint event_kinds_pkey primary key (event_type),
    constraint event_kinds_subject check (subject in ('execution', 'call')),
    constraint event_kinds_role check (
        role in ('begins', 'ends', 'issued', 'claimed', 'started', 'ended', 'done')
    ),
    constraint event_kinds_outcome check (
        case
            when role in ('ends', 'ended', 'done')
            then outcome in ('COMPLETED', 'FAILED', 'CANCELLED')
            else outcome = ''
        end
    )
);

comment on table projector.event_kinds is
    'Private: what an event means for an execution or a call, by its type in every spelling. '
    'If several events end one call, end_rank decides.';
comment on column projector.event_kinds.event_type is
    'Type of the event, in the producer''s spelling.';
comment on column projector.event_kinds.event_class is
    'The one type that all its spellings stand for.';
comment on column projector.event_kinds.subject is 'What the event is about: execution or call.';
comment on column projector.event_kinds.role is
    'What it reports. An execution begins or ends. The command of a call is issued, claimed, '
    'started or ended, and done means that the call itself reported its end.';
comment on column projector.event_kinds.outcome is
    'Outcome that the type alone implies, or empty if it isn''t an end.';

insert into projector.event_kinds (event_class, subject, role, outcome, event_type)
values ('playbook.initialized', 'execution', 'begins', '', 'playbook.initialized'),
       ('playbook.initialized', 'execution', 'begins', '', 'playbook_initialized'),
       ('playbook.initialized', 'execution', 'begins', '', 'playbook.started'),
       ('playbook.initialized', 'execution', 'begins', '', 'playbook_started'),
       ('playbook.initialized', 'execution', 'begins', '', 'execution.started'),
       ('playbook.initialized', 'execution', 'begins', '', 'execution_start'),
       ('playbook.initialized', 'execution', 'begins', '', 'execution.start'),
       ('playbook.initialized', 'execution', 'begins', '', 'execution_started'),
       ('playbook.completed', 'execution', 'ends', 'COMPLETED', 'playbook.completed'),
       ('playbook.completed', 'execution', 'ends', 'COMPLETED', 'playbook_completed'),
       ('playbook.completed', 'execution', 'ends', 'COMPLETED', 'execution.completed'),
       ('playbook.completed', 'execution', 'ends', 'COMPLETED', 'execution_complete'),
       ('playbook.completed', 'execution', 'ends', 'COMPLETED', 'execution_completed'),
       ('playbook.failed', 'execution', 'ends', 'FAILED', 'playbook.failed'),
       ('playbook.failed', 'execution', 'ends', 'FAILED', 'playbook_failed'),
       ('playbook.failed', 'execution', 'ends', 'FAILED', 'execution.failed'),
       ('playbook.failed', 'execution', 'ends', 'FAILED', 'execution_error'),
       ('playbook.failed', 'execution', 'ends', 'FAILED', 'execution_failed'),
       ('playbook.cancelled', 'execution', 'ends', 'CANCELLED', 'playbook.cancelled'),
       ('playbook.cancelled', 'execution', 'ends', 'CANCELLED', 'playbook_cancelled'),
       ('playbook.cancelled', 'execution', 'ends', 'CANCELLED', 'execution.cancelled'),
       ('playbook.cancelled', 'execution', 'ends', 'CANCELLED', 'execution_cancelled'),
       ('command.issued', 'call', 'issued', '', 'command.issued'),
       ('command.issued', 'call', 'issued', '', 'command_issued'),
       ('command.claimed', 'call', 'claimed', '', 'command.claimed'),
       ('command.claimed', 'call', 'claimed', '', 'command_claimed'),
       ('command.started', 'call', 'started', '', 'command.started'),
       ('command.started', 'call', 'started', '', 'action_started'),
       ('command.started', 'call', 'started', '', 'command_started'),
       ('command.completed', 'call', 'ended', 'COMPLETED', 'command.completed'),
       ('command.completed', 'call', 'ended', 'COMPLETED', 'action_completed'),
       ('command.failed', 'call', 'ended', 'FAILED', 'command.failed'),
       ('command.failed', 'call', 'ended', 'FAILED', 'action_failed'),
       ('command.failed', 'call', 'ended', 'FAILED', 'command.timed_out'),
       ('command.failed', 'call', 'ended', 'FAILED', 'command.timeout'),
       ('command.cancelled', 'call', 'ended', 'CANCELLED', 'command.cancelled'),
       ('call.done', 'call', 'done', 'COMPLETED', 'call.done'),
       ('call.done', 'call', 'done', 'COMPLETED', 'action_done'),
       ('call.done', 'call', 'done', 'COMPLETED', 'call_done'),
       ('call.error', 'call', 'done', 'FAILED', 'call.error');


-- The minute, and the hour, that a moment lies in, UTC.
create function projector.to_minute(moment timestamptz) returns timestamptz
    language sql immutable parallel safe
    return date_bin('1 minute', moment, '2000-01-01 00:00:00+00');


create function projector.to_hour(moment timestamptz) returns timestamptz
    language sql immutable parallel safe
    return date_bin('1 hour', moment, '2000-01-01 00:00:00+00');


-- A ranked value of call_facts begins with its rank, and the value itself follows. These are the
-- three layouts, what reads the value of each, and an example, in which spaces separate the parts:
--     outcome_ranked, error_ranked: the rank of an end, 20 characters. functions/end_rank.sql has a
--     table of its positions. The value begins at 21: attempt_number_source, call_error
--         0 0 10002f93cbbf3060a 0 HTTP 500
--     duration_ranked: the reporter and the time, 18 characters. The value is 16 hex digits:
--     ranked_value_as_bigint
--         0 10002f93cbbf3060a 000000000007a120
--     step_ranked, worker_ranked, max_attempts_ranked: the time, 17 characters. The value begins at
--     18: ranked_value, or for max_attempts_ranked, which is 16 hex digits, ranked_value_as_bigint
--         10002f93cbbf3060a fetch

-- The name of a step or worker, after the time at which it was said.
create function projector.ranked_value(ranked text) returns text
    language sql immutable parallel safe
    return substr(ranked, 18); -- after encode_time


create function projector.call_error(error_ranked text) returns text
    language sql immutable parallel safe
    return substr(error_ranked, 21); -- what follows the rank in end_rank


-- Returns whether the attempt ended FAILED, ERROR, or CANCELLED, according to the rank of the end
-- that decides (end_rank). In functions and views, a failed attempt or a failure may always be a
-- cancelled one.
create function projector.call_failed(outcome_ranked text) returns boolean
    language sql immutable parallel safe
    return left(outcome_ranked, 1) <> '2'; -- class of the outcome in end_rank


-- A transaction takes a shard by locking its row here. An advisory lock wouldn't be safe, because
-- any role could take it.
create table projector.shards (
    shard smallint not null,
    constraint shards_pkey primary key (shard)
);

comment on table projector.shards is
    'Private: the counter shards. A transaction counts in the shard whose row it has locked. '
    'Shard -1 counts deleted events. The rows never change.';
comment on column projector.shards.shard is 'Number of the shard.';

insert into projector.shards (shard)
select generate_series(-1, 63);


-- Stands in for a missing transition table, and is always empty. The same trigger functions run
-- after insert, update, and delete, and always read the transition tables `before` and `after`.
-- PostgreSQL provides only `after` for an insert, and only `before` for a delete. The other name
-- then refers to an empty table like this one, because the schema is in the search path.
create table projector.before (like normalizer.events including comments);

alter table projector.before add constraint before_is_empty check (false);

comment on table projector.before is
    'Private: always empty. Stands in for the rows before a statement if it has none.';


create table projector.after (like normalizer.events including comments);

alter table projector.after add constraint after_is_empty check (false);

comment on table projector.after is
    'Private: always empty. Stands in for the rows after a statement if it has none.';


create table projector.maintenance_state (
    subject      text        not null,
    kept_from    timestamptz not null default '-infinity',
    compacted_to timestamptz not null default '-infinity',
    full_scan_at timestamptz not null default '-infinity',
    constraint maintenance_state_pkey primary key (subject)
);

comment on table projector.maintenance_state is
    'Private: how far `projector maintain` has got.';
comment on column projector.maintenance_state.subject is
    'What the row is about: minutes, hours or merged_records.';
comment on column projector.maintenance_state.kept_from is
    'Only for minutes: earlier ones are neither counted, shown, nor verified, and get deleted.';
comment on column projector.maintenance_state.compacted_to is
    'Shards of earlier times were added up.';
comment on column projector.maintenance_state.full_scan_at is
    'When all times were last searched for shards to add up.';

insert into projector.maintenance_state (subject) values ('minutes'), ('hours'), ('merged_records');


create table projector.verifications (
    verification_id bigint      not null generated always as identity,
    projection      text        not null,
    scope           text        not null,
    verdict         text        not null,
    compared        bigint      not null,
    divergent       bigint      not null,
    archived        bigint      not null,
    detail          text        not null,
    since           timestamptz,
    until           timestamptz,
    verified_at     timestamptz not null default now(),
    took_s          double precision not null,
    constraint verifications_pkey primary key (verification_id),
    constraint verifications_verdict check (verdict in ('match', 'divergent', 'inconclusive')),
    constraint verifications_scope check (scope in ('all', 'range', 'sample'))
);

comment on table projector.verifications is
    'Private: results of projector verify: whether each projection agreed with the events, and '
    'how much was compared. View: agreement.';
comment on column projector.verifications.verification_id is 'Number of the comparison.';
comment on column projector.verifications.projection is 'Name of the compared projection.';
comment on column projector.verifications.scope is
    'What was compared: all, a range of hours, or a sample.';
comment on column projector.verifications.verdict is 'match, divergent or inconclusive.';
comment on column projector.verifications.compared is
    'Number of rows that were compared, or 0 if there was nothing to compare.';
comment on column projector.verifications.divergent is 'Number of rows that differed.';
comment on column projector.verifications.archived is
    'Number of events that were not compared because they are deleted.';
comment on column projector.verifications.detail is 'What differed, or why there is no verdict.';
comment on column projector.verifications.since is
    'First hour that was compared, or null without a limit.';
comment on column projector.verifications.until is
    'End of the last hour that was compared, or null without a limit.';
comment on column projector.verifications.verified_at is 'When the comparison ended.';
comment on column projector.verifications.took_s is 'Seconds that the comparison took.';


create table projector.divergences (
    divergence_id bigint      not null generated always as identity,
    projection    text        not null,
    execution_id  bigint,
    hour          timestamptz,
    noted_by      text        not null,
    noted_at      timestamptz not null default clock_timestamp(),
    ended_at      timestamptz,
    constraint divergences_pkey primary key (divergence_id),
    constraint divergences_location check (execution_id is null or hour is null),
    constraint divergences_noted_by check (noted_by in ('verify', 'repair', 'off'))
);

comment on table projector.divergences is
    'Private: where projections are known to differ from the log: one execution, one hour, or, '
    'if both are null, anywhere. A divergence is open until a comparison of just that '
    'execution or hour finds agreement. View: agreement.';
comment on column projector.divergences.divergence_id is 'Number of the divergence.';
comment on column projector.divergences.projection is 'Name of the compared projection.';
comment on column projector.divergences.execution_id is
    'Execution whose row differs, or null if another kind of row does.';
comment on column projector.divergences.hour is
    'Hour whose counts differ, or null if another kind of row does.';
comment on column projector.divergences.noted_by is
    'verify: a comparison found it. repair: an execution was rebuilt, so its roll-ups may differ. '
    'off: events were stored without their projections.';
comment on column projector.divergences.noted_at is 'When the divergence was noted.';
comment on column projector.divergences.ended_at is
    'When a later comparison found that the projection agrees. Null while the divergence is open. '
    'Retention then deletes nothing of that execution.';

create index divergences_open on projector.divergences (projection, execution_id, hour)
    where ended_at is null;
comment on index projector.divergences_open is
    'Query: open divergences (view agreement, projector repair).';


-- An event that a search has found, either by its trace id or by the offset of its record in Kafka.
create type projector.located_event as (
    event_id     bigint,
    execution_id bigint,
    event_type   text,
    step         text,
    status       text,
    created_at   timestamptz,
    source_index integer,
    merged       boolean
);

insert into migrations.applied (version) values ('0004') on conflict do nothing;
