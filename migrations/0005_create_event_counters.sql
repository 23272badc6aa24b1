-- Tables that count events by minute and by hour, how late they arrived, and which of their values
-- were corrected. The counts by minute are for monitoring, and are deleted after two days. The
-- counts by hour are kept, unless `projector maintain --keep-hours` deletes them.


create table projector.event_minutes (
    minute             timestamptz                not null,
    event_type         text           collate "C" not null,
    status             text           collate "C" not null,
    attempts           integer                    not null,
    shard              smallint                   not null,
    events             bigint                     not null,
    attempts_defaulted bigint                     not null default 0,
    constraint event_minutes_pkey primary key (minute, event_type, status, attempts, shard),
    constraint event_minutes_possible check (
        minute <@ '[0001-01-01 00:00:00+00, 10000-01-01 00:00:00+00)'::tstzrange
        and (
            shard = 64
            or '[-72057594037927936, 72057594037927936]'::int8range
               @> all (array[events, attempts_defaulted])
        )
    )
) with (fillfactor = 70);

comment on table projector.event_minutes is
    'Private: events by minute of created_at. View: attempts_by_status.';
comment on column projector.event_minutes.minute is 'Start of the minute, UTC.';
comment on column projector.event_minutes.event_type is
    'Type of the event, in the producer''s spelling.';
comment on column projector.event_minutes.status is 'Canonical status, in capitals.';
comment on column projector.event_minutes.attempts is
    'Number of attempts before this one, so 0 is the first attempt.';
comment on column projector.event_minutes.shard is
    'Counter shard. Shard -1 counts deleted events. Only the sum over all shards is a count.';
comment on column projector.event_minutes.events is 'Number of events.';
comment on column projector.event_minutes.attempts_defaulted is
    'Number of them that do not say which attempt they are of.';


create table projector.event_hours (
    hour               timestamptz                not null,
    step               text           collate "C" not null,
    event_type         text           collate "C" not null,
    status             text           collate "C" not null,
    attempts           integer                    not null,
    shard              smallint                   not null,
    events             bigint                     not null,
    without_command    bigint                     not null default 0,
    attempts_defaulted bigint                     not null default 0,
    constraint event_hours_pkey primary key (hour, step, event_type, status, attempts, shard),
    constraint event_hours_possible check (
        hour <@ '[0001-01-01 00:00:00+00, 10000-01-01 00:00:00+00)'::tstzrange
        and (
            shard = 64
            or '[-72057594037927936, 72057594037927936]'::int8range
               @> all (array[events, without_command, attempts_defaulted])
        )
    )
) with (fillfactor = 70);

comment on table projector.event_hours is
    'Private: events by hour of created_at, with their step. Views: event_counts, '
    'attempts_by_status, calls_without_command.';
comment on column projector.event_hours.hour is 'Start of the hour, UTC.';
comment on column projector.event_hours.step is 'Name of the step, or empty if there is none.';
comment on column projector.event_hours.event_type is
    'Type of the event, in the producer''s spelling.';
comment on column projector.event_hours.status is 'Canonical status, in capitals.';
comment on column projector.event_hours.attempts is
    'Number of attempts before this one, so 0 is the first attempt.';
comment on column projector.event_hours.shard is
    'Counter shard. Shard -1 counts deleted events. Only the sum over all shards is a count.';
comment on column projector.event_hours.events is 'Number of events.';
comment on column projector.event_hours.without_command is
    'Number of them that name no command. Events of calls without a command belong to no call.';
comment on column projector.event_hours.attempts_defaulted is
    'Number of them that do not say which attempt they are of.';


-- A batch updates most rows of the current hour. The fillfactor leaves half of each page free, so
-- that the new version of a row fits into the same page. Such an update needs no new index entries
-- (a HOT update).
create table projector.arrival_hours (
    hour               timestamptz                not null,
    shape              text           collate "C" not null,
    worker_id          text           collate "C" not null,
    lateness           smallint                   not null,
    shard              smallint                   not null,
    events             bigint                     not null,
    skew_us            numeric                    not null,
    attempts_defaulted bigint                     not null,
    status_from_name   bigint                     not null,
    time_from_log      bigint                     not null,
    constraint arrival_hours_pkey primary key (hour, shape, worker_id, lateness, shard),
    constraint arrival_hours_possible check (
        hour <@ '[0001-01-01 00:00:00+00, 10000-01-01 00:00:00+00)'::tstzrange
        and (
            shard = 64
            or '[-72057594037927936, 72057594037927936]'::int8range
               @> all (array[events, attempts_defaulted, status_from_name, time_from_log])
        )
        and skew_us between -1e30 and 1e30
    )
) with (fillfactor = 45);

comment on table projector.arrival_hours is
    'Private: events by hour of recorded_at (of created_at without a Kafka time), shape, '
    'worker and lateness. Views: late_arrivals, defaults_by_shape.';
comment on column projector.arrival_hours.hour is
    'Start of the hour of recorded_at, or of created_at without it, UTC.';
comment on column projector.arrival_hours.shape is 'Wire shape of the record that brought it.';
comment on column projector.arrival_hours.worker_id is
    'Id of the worker, or empty if the event names none.';
comment on column projector.arrival_hours.lateness is
    'Time from created_at to recorded_at. 0: not known. 1: created_at is more than 1 s later. 2: '
    'under 1 s. 3: under 10 s. 4: under 1 min. 5: under 10 min. 6: under 1 h. 7: under 1 day. 8: '
    'longer.';
comment on column projector.arrival_hours.shard is
    'Counter shard. Shard -1 counts deleted events. Only the sum over all shards is a count.';
comment on column projector.arrival_hours.events is 'Number of events.';
comment on column projector.arrival_hours.skew_us is
    'Sum of the times from created_at to recorded_at, in microseconds. A time under a second, or '
    'not known, counts as 0. Numeric: a bigint would overflow at 29 events of ten thousand years.';
comment on column projector.arrival_hours.attempts_defaulted is
    'Number of them that do not say which attempt they are of.';
comment on column projector.arrival_hours.status_from_name is
    'Number of them whose status was derived from their type.';
comment on column projector.arrival_hours.time_from_log is
    'Number of them whose time is Kafka''s, because the producer gave none.';


create table projector.coercion_hours (
    hour      timestamptz                not null,
    shape     text           collate "C" not null,
    rule      text           collate "C" not null,
    shard     smallint                   not null,
    coercions bigint                     not null,
    constraint coercion_hours_pkey primary key (hour, shape, rule, shard),
    constraint coercion_hours_possible check (
        hour <@ '[0001-01-01 00:00:00+00, 10000-01-01 00:00:00+00)'::tstzrange
        and (shard = 64 or coercions <@ '[-72057594037927936, 72057594037927936]'::int8range)
    )
) with (fillfactor = 70);

comment on table projector.coercion_hours is
    'Private: coercions by hour of recorded_at, shape and rule. View: coercions_by_rule.';
comment on column projector.coercion_hours.hour is
    'Start of the hour of recorded_at, or of created_at without it, UTC.';
comment on column projector.coercion_hours.shape is 'Wire shape of the record that brought it.';
comment on column projector.coercion_hours.rule is
    'Name of the rule that changed or guessed the value.';
comment on column projector.coercion_hours.shard is
    'Counter shard. Shard -1 counts deleted events. Only the sum over all shards is a count.';
comment on column projector.coercion_hours.coercions is 'Number of coercions.';


-- An index-only scan needs the time itself, too.
create index quarantine_by_hour
    on normalizer.quarantine (projector.to_hour(quarantined_at), reason, shape)
    include (quarantined_at);
comment on index normalizer.quarantine_by_hour is
    'Query: count the entries of some hours by reason and shape (quarantine_by_reason).';

insert into migrations.applied (version) values ('0005') on conflict do nothing;
