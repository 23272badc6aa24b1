-- Tables of calls, with one row for each attempt of a command, and tables that count attempts by
-- playbook and step, by worker, by error class, by duration, and by minute.


create table projector.call_facts (
    execution_id        bigint                     not null,
    command_id          text           collate "C" not null,
    attempts            integer                    not null,
    begun_at            timestamptz                not null,
    issued_at           timestamptz,
    claimed_at          timestamptz,
    started_at          timestamptz,
    finished_at         timestamptz,
    outcome_ranked      text           collate "C",
    duration_ranked     text           collate "C",
    error_ranked        text           collate "C",
    step_ranked         text           collate "C",
    worker_ranked       text           collate "C",
    max_attempts_ranked text           collate "C",
    iteration           integer,
    previous_failure_at timestamptz,
    is_numbered         boolean                    not null default false,
    may_be_retried      boolean                    not null default false,
    constraint call_facts_pkey primary key (execution_id, command_id, attempts),
    constraint call_facts_possible check (
        attempts between 0 and 32767
        and least(
            begun_at, issued_at, claimed_at, started_at, finished_at, previous_failure_at
        ) >= '0001-01-01 00:00:00+00'
        and greatest(
            begun_at, issued_at, claimed_at, started_at, finished_at, previous_failure_at
        ) < '10000-01-01 00:00:00+00'
    )
) with (fillfactor = 70);

comment on table projector.call_facts is
    'Private: what the events of each attempt of a command say about it. Only command.*, '
    'call.* and action_* events that name their command are used. Views: calls and others.';
comment on column projector.call_facts.execution_id is 'Id of the execution.';
comment on column projector.call_facts.command_id is 'Id of the command.';
comment on column projector.call_facts.attempts is
    'Number of attempts before this one, so 0 is the first attempt.';
comment on column projector.call_facts.begun_at is 'created_at of the first event of the attempt.';
comment on column projector.call_facts.issued_at is 'When the command was issued.';
comment on column projector.call_facts.claimed_at is 'When a worker claimed the command.';
comment on column projector.call_facts.started_at is 'When the worker started.';
comment on column projector.call_facts.finished_at is
    'When the attempt ended, or null while it runs.';
comment on column projector.call_facts.outcome_ranked is
    'The rank of the end that decides how the attempt ended (projector.end_rank): a failure before '
    'a cancellation before a completion, then the report of the call before that of its command, '
    'then the earlier. finished_at is the time in it.';
comment on column projector.call_facts.duration_ranked is
    'Who reported it (0 the call, 1 its command), when (projector.encode_time), then the duration '
    'in microseconds, in hex. The least wins. projector.ranked_value_as_bigint reads it.';
comment on column projector.call_facts.error_ranked is
    'The rank of an end other than a completion, as outcome_ranked, then its error text, at most '
    '1,000 characters. The least wins. projector.call_error reads it.';
comment on column projector.call_facts.step_ranked is
    'Ranked value (projector.encode_time: 17 characters that sort by time, then the value. The '
    'least wins): name of the step.';
comment on column projector.call_facts.worker_ranked is
    'Ranked value, as step_ranked: id of the worker.';
comment on column projector.call_facts.max_attempts_ranked is
    'Ranked value, as step_ranked: allowed attempts, in hex (projector.ranked_value_as_bigint).';
comment on column projector.call_facts.iteration is
    'Index in a loop, from 0, or null outside of loops.';
comment on column projector.call_facts.previous_failure_at is
    'When the failure before a retry ended: of the same command, or of the same step and '
    'iteration. Null for first attempts.';
comment on column projector.call_facts.is_numbered is
    'Whether an event of the attempt names its number.';
comment on column projector.call_facts.may_be_retried is
    'Whether anything hints at a second attempt of the command: a number above 0, or two issues, '
    'claims, or starts. If so, the command is rebuilt from all its events with each new one.';


-- An event of a command in doubt. A command is in doubt if it may have several attempts, and some
-- of its events don't say to which attempt they belong. resolve_attempts finds the attempt of each
-- event from these values:
--     nth_command      the position of its command in the list passed to derive_calls, from 1
--     role             issued, claimed, or started, or done if its call ended, or ended if its
--                      command did (event_kinds)
--     declared_number  the number of its attempt (column `attempts`), or null if the event doesn't
--                      say it
--     log_position     the offset of its record in Kafka and its index in the record, or null if
--                      they don't tell the order of events
--     end_slot         what the event ends: a call (its call_index) or the command (1,000,000,000).
--                      Null if the event isn't an end.
--     end_key          equal in all reports of the same end. It's the rank of the end (end_rank),
--                      so failures sort before completions, and the class of the event's type.
--     nth_attempt      the result: the position of its attempt among those of its command, from 1.
--                      Null until assign_events_by_time has found it.
-- For example, these are the events of a command that failed and was retried, before
-- assign_events_by_time:
--     event_id | nth_command | role   | created_at | log_position | end_slot | end_key
--           11 |           1 | issued | 09:00:00   | {1041,0}     |          |
--           12 |           1 | done   | 09:00:05   | {1042,0}     |        0 | 00..0call.error
--           13 |           1 | issued | 09:00:20   | {1043,0}     |          |
--           14 |           1 | done   | 09:00:25   | {1044,0}     |        0 | 20..3call.done
create type projector.call_event as (
    event_id        bigint,
    nth_command     integer,
    role            text collate "C",
    declared_number integer,
    created_at      timestamptz,
    log_position    bigint[],
    end_slot        integer,
    end_key         text collate "C",
    nth_attempt     integer
);


-- An attempt of a command in doubt:
--     nth_command          as in call_event
--     nth_attempt          its position among the attempts of its command, from 1
--     number               its number, as stored in the column `attempts`. It isn't nth_attempt - 1
--                          if the numbers that events declare have gaps.
--     begun_at             when it began, by the clock of a producer
--     log_position         where in Kafka it began, or null if no record shows that
--     unnumbered_issue_at  when it was issued, if the event that issued it declares no number
-- For example, the events above tell of these attempts:
--     nth_command | nth_attempt | number | begun_at | log_position | unnumbered_issue_at
--               1 |           1 |      0 | 09:00:00 | {1041,0}     | 09:00:00
--               1 |           2 |      1 | 09:00:20 | {1043,0}     | 09:00:20
create type projector.call_attempt as (
    nth_command         integer,
    nth_attempt         integer,
    number              integer,
    begun_at            timestamptz,
    log_position        bigint[],
    unnumbered_issue_at timestamptz
);

-- While an attempt runs, updates of its row change no indexed column. So PostgreSQL can make them
-- HOT updates, which need no new index entries, as long as the page has room.
create index calls_by_hour on projector.call_facts (
    projector.to_hour(coalesce(finished_at, begun_at))
);
comment on index projector.calls_by_hour is
    'Query: calls by hour of their end, or of their begin if they still run (view calls).';

create index calls_by_begin on projector.call_facts (projector.to_hour(begun_at))
    where finished_at is null;
comment on index projector.calls_by_begin is
    'Query: unfinished calls by hour of their begin (view open_calls).';

create index calls_unfinished on projector.call_facts (execution_id) where finished_at is null;
comment on index projector.calls_unfinished is
    'Query: the unfinished calls of an execution (view stuck_reasons).';

-- The view looks up a command_id alone, which is why this index begins with it. The two other
-- columns are here because the planner, as long as it has no statistics, may choose this index even
-- for a query that has all three values. With these columns, such a query is as fast as with the
-- primary key, even if many executions use the same command_id.
create index calls_by_command on projector.call_facts (command_id, execution_id, attempts);
comment on index projector.calls_by_command is
    'Query: the attempts of a command whose execution is not known (view calls).';


-- Returns the error class of an error text, so that texts which differ only in details are counted
-- together. For example, "code 12345 of row 7" becomes "code # of row #". Quoted parts, e-mail
-- addresses, and ids are removed. A word is an id if it has a digit, or consists of eight or more
-- letters from a to f. A code is kept, which is up to three digits after a word such as "code" or
-- "exit", or in front of the name of an HTTP error. An apostrophe within a word doesn't begin a
-- quote, and a quote that isn't closed reaches to the end of the text. In any database, only ASCII
-- letters are letters.
create function projector.classify_error(error text) returns text
    language plpgsql immutable parallel safe
as $$
declare
    class text collate "C" := translate(left(error, 400), chr(1), ' ');
begin
    -- Look for what a pattern needs before you search with it, because searching costs most.
    if class like '%"%' or class like '%''%' then
        class := regexp_replace(
            class,
            '"[^"]*(?:"|$)|(?<![0-9A-Za-z])[bru]?''(?:[^'']|''(?=[0-9A-Za-z]))*(?:''|$)', '?', 'g'
        );
    end if;
    if class ~ '[0-9@]|[A-Fa-f]{8}' then
        class := regexp_replace(
            class,
            '[^\x01-\x20@"<>()\[\]{},;:=#|/\\?]+@(?:[0-9a-z-]+[.])+[a-z]{2,}'
            '|(\m(?:http(?:/[0-9](?:[.][0-9])?)?|status[ _]?(?:code)?|code'
            '|error|exit|exited with|errno|signal)'
            '[ :=#(]{0,3}[0-9]{1,3}(?![0-9a-z_])'
            '|\m[45][0-9]{2}(?= (?:bad|conflict|forbidden|gateway|gone|internal'
            '|method|not|payload|precondition|request|service|too|unauthorized'
            '|unprocessable)\M))'
            '|[0-9a-z]*[0-9][0-9a-z]*|(?<![0-9a-z])[a-f]{8,}(?![0-9a-z])',
            '\1' || chr(1), 'gi'
        );
        class := replace(
            regexp_replace(class, '([0-9a-z])' || chr(1), '\1', 'gi'), chr(1), '#'
        );
    end if;
    if class like '%#%' then
        class := regexp_replace(
            class, '#(?:[-._:/]?#)*(?:-[b-df-hj-np-tv-xz]{5}\M)?', '#', 'g'
        );
    end if;
    return btrim(left(regexp_replace(class, '[ \t-\r]+', ' ', 'g'), 120));
end
$$;

create index calls_by_error on projector.call_facts (
    projector.classify_error(coalesce(projector.call_error(error_ranked), '')), finished_at
) where finished_at is not null and projector.call_failed(outcome_ranked);
comment on index projector.calls_by_error is
    'Query: the first and the last failed call of an error class, with a sample (view '
    'error_groups).';

create index calls_retried on projector.call_facts (
    execution_id, projector.ranked_value(step_ranked), coalesce(iteration, -1), attempts, begun_at
) where attempts > 0;
comment on index projector.calls_retried is
    'Query: retries of one step and iteration that began after a failure (retries_to_recheck).';

create index calls_failed on projector.call_facts (
    execution_id, projector.ranked_value(step_ranked), coalesce(iteration, -1), attempts,
    finished_at
) where projector.call_failed(outcome_ranked);
comment on index projector.calls_failed is
    'Query: the failure before a retry, and the next failure after one ('
    'previous_failure_corrections, retries_to_recheck).';


create table projector.call_hours (
    hour      timestamptz                not null,
    playbook  text           collate "C" not null,
    step      text           collate "C" not null,
    attempts  integer                    not null,
    status    text           collate "C" not null,
    shard     smallint                   not null,
    calls     bigint                     not null,
    exhausted bigint                     not null,
    inferred  bigint                     not null default 0,
    constraint call_hours_pkey primary key (hour, playbook, step, attempts, status, shard),
    constraint call_hours_possible check (
        hour <@ '[0001-01-01 00:00:00+00, 10000-01-01 00:00:00+00)'::tstzrange
        and (
            shard = 64
            or '[-72057594037927936, 72057594037927936]'::int8range
               @> all (array[calls, exhausted, inferred])
        )
    )
) with (fillfactor = 70);

comment on table projector.call_hours is
    'Private: attempts by the hour of their end, playbook, step and status. View: '
    'call_outcomes_by_attempt.';
comment on column projector.call_hours.hour is 'Start of the hour, UTC.';
comment on column projector.call_hours.playbook is
    'Path of the playbook, or empty while it is not known.';
comment on column projector.call_hours.step is 'Name of the step, or empty if there is none.';
comment on column projector.call_hours.attempts is
    'Number of attempts before this one, so 0 is the first attempt.';
comment on column projector.call_hours.status is 'Canonical status, in capitals.';
comment on column projector.call_hours.shard is
    'Counter shard. Shard -1 counts deleted events. Only the sum over all shards is a count.';
comment on column projector.call_hours.calls is
    'Number of finished attempts (rows of projector.calls).';
comment on column projector.call_hours.exhausted is
    'Number of failed attempts that were the last allowed one.';
comment on column projector.call_hours.inferred is
    'Number of attempts whose attribution in calls is inferred.';

create index call_hours_by_step on projector.call_hours (step, hour);
comment on index projector.call_hours_by_step is
    'Query: which steps there are, and the calls of a few of them (API: search).';


create table projector.call_times (
    hour     timestamptz                not null,
    measure  text           collate "C" not null,
    playbook text           collate "C" not null,
    step     text           collate "C" not null,
    attempts integer                    not null,
    status   text           collate "C" not null,
    bucket   smallint                   not null,
    shard    smallint                   not null,
    calls    bigint                     not null,
    constraint call_times_pkey primary key (
        hour, measure, playbook, step, attempts, status, bucket, shard
    ),
    constraint call_times_measure check (measure in ('duration', 'queue', 'backoff')),
    constraint call_times_possible check (
        hour <@ '[0001-01-01 00:00:00+00, 10000-01-01 00:00:00+00)'::tstzrange
        and (shard = 64 or calls <@ '[-72057594037927936, 72057594037927936]'::int8range)
    )
) with (fillfactor = 70);

comment on table projector.call_times is
    'Private: histograms of how long attempts took (duration), waited to be claimed (queue), '
    'and waited after the failure before them (backoff), by the hour of their end. View: '
    'call_time_histogram.';
comment on column projector.call_times.hour is 'Start of the hour, UTC.';
comment on column projector.call_times.measure is 'What was measured: duration, queue or backoff.';
comment on column projector.call_times.playbook is
    'Path of the playbook, or empty while it is not known.';
comment on column projector.call_times.step is 'Name of the step, or empty if there is none.';
comment on column projector.call_times.attempts is
    'Number of attempts before this one, so 0 is the first attempt.';
comment on column projector.call_times.status is 'Canonical status, in capitals.';
comment on column projector.call_times.bucket is
    'Bucket b holds 2^(b/8) up to 2^((b+1)/8) microseconds, -1 holds zero '
    '(projector.duration_bucket).';
comment on column projector.call_times.shard is
    'Counter shard. Shard -1 counts deleted events. Only the sum over all shards is a count.';
comment on column projector.call_times.calls is
    'Number of finished attempts (rows of projector.calls).';


create table projector.worker_hours (
    hour        timestamptz                not null,
    worker_id   text           collate "C" not null,
    status      text           collate "C" not null,
    shard       smallint                   not null,
    calls       bigint                     not null,
    timed       bigint                     not null,
    duration_us numeric                    not null,
    constraint worker_hours_pkey primary key (hour, worker_id, status, shard),
    constraint worker_hours_possible check (
        hour <@ '[0001-01-01 00:00:00+00, 10000-01-01 00:00:00+00)'::tstzrange
        and (
            shard = 64
            or '[-72057594037927936, 72057594037927936]'::int8range
               @> all (array[calls, timed])
        )
        and duration_us between -1e30 and 1e30
    )
) with (fillfactor = 70);

comment on table projector.worker_hours is
    'Private: attempts by worker and the hour of their end. View: worker_failures.';
comment on column projector.worker_hours.hour is 'Start of the hour, UTC.';
comment on column projector.worker_hours.worker_id is 'Id of the worker.';
comment on column projector.worker_hours.status is 'Canonical status, in capitals.';
comment on column projector.worker_hours.shard is
    'Counter shard. Shard -1 counts deleted events. Only the sum over all shards is a count.';
comment on column projector.worker_hours.calls is
    'Number of finished attempts (rows of projector.calls).';
comment on column projector.worker_hours.timed is 'Number of attempts with a known duration.';
comment on column projector.worker_hours.duration_us is
    'Sum of the known durations, in microseconds. Numeric: a bigint would overflow at 3.5 million '
    'calls of 30 days.';


create table projector.error_hours (
    hour        timestamptz                not null,
    step        text           collate "C" not null,
    attempts    integer                    not null,
    status      text           collate "C" not null,
    error_class text           collate "C" not null,
    shard       smallint                   not null,
    calls       bigint                     not null,
    constraint error_hours_pkey primary key (hour, step, attempts, status, error_class, shard),
    constraint error_hours_possible check (
        hour <@ '[0001-01-01 00:00:00+00, 10000-01-01 00:00:00+00)'::tstzrange
        and (shard = 64 or calls <@ '[-72057594037927936, 72057594037927936]'::int8range)
    )
) with (fillfactor = 70);

comment on table projector.error_hours is
    'Private: failed attempts by error class and the hour of their end. View: '
    'failures_by_error.';
comment on column projector.error_hours.hour is 'Start of the hour, UTC.';
comment on column projector.error_hours.step is 'Name of the step, or empty if there is none.';
comment on column projector.error_hours.attempts is
    'Number of attempts before this one, so 0 is the first attempt.';
comment on column projector.error_hours.status is 'Canonical status, in capitals.';
comment on column projector.error_hours.error_class is
    'Error text without ids, e-mail addresses and quoted parts (projector.classify_error).';
comment on column projector.error_hours.shard is
    'Counter shard. Shard -1 counts deleted events. Only the sum over all shards is a count.';
comment on column projector.error_hours.calls is
    'Number of finished attempts (rows of projector.calls).';


create table projector.retry_minutes (
    minute      timestamptz                not null,
    step        text           collate "C" not null,
    shard       smallint                   not null,
    first_tries bigint                     not null,
    retries     bigint                     not null,
    constraint retry_minutes_pkey primary key (minute, step, shard),
    constraint retry_minutes_possible check (
        minute <@ '[0001-01-01 00:00:00+00, 10000-01-01 00:00:00+00)'::tstzrange
        and (
            shard = 64
            or '[-72057594037927936, 72057594037927936]'::int8range
               @> all (array[first_tries, retries])
        )
    )
) with (fillfactor = 70);

comment on table projector.retry_minutes is
    'Private: first attempts and retries by the minute of their end. Views: retries_by_minute, '
    'retry_storms.';
comment on column projector.retry_minutes.minute is 'Start of the minute, UTC.';
comment on column projector.retry_minutes.step is 'Name of the step, or empty if there is none.';
comment on column projector.retry_minutes.shard is
    'Counter shard. Shard -1 counts deleted events. Only the sum over all shards is a count.';
comment on column projector.retry_minutes.first_tries is 'Number of attempts with attempts = 0.';
comment on column projector.retry_minutes.retries is 'Number of attempts with attempts > 0.';


create type projector.call_id as (
    execution_id bigint,
    command_id   text collate "C",
    attempts     integer
);


-- The changes that a statement makes to the first attempt of a command. Usually they're merged into
-- the stored row. A merge could give a wrong result if an event was changed or deleted, or if the
-- command was issued, claimed, or started more than once. Nor can a retry that declares its number
-- be merged, because it isn't the first attempt. In these cases `must_rebuild` is true, and the
-- command is rebuilt from all of its events.
create type projector.call_change as (
    execution_id        bigint,
    command_id          text collate "C",
    begun_at            timestamptz,
    issued_at           timestamptz,
    claimed_at          timestamptz,
    started_at          timestamptz,
    outcome_ranked      text collate "C",
    duration_ranked     text collate "C",
    error_ranked        text collate "C",
    step_ranked         text collate "C",
    worker_ranked       text collate "C",
    max_attempts_ranked text collate "C",
    iteration           integer,
    is_numbered         boolean,
    must_rebuild        boolean
);


-- An attempt with the values under which the roll-ups count it. `sign` is 1 to add the attempt to
-- the roll-ups, and -1 to subtract it, for example because it must be counted under other values.
create type projector.call_delta as (
    sign         integer,
    execution_id bigint,
    command_id   text collate "C",
    attempts     integer,
    playbook     text collate "C",
    step         text collate "C",
    finished_at  timestamptz,
    status       text collate "C",
    worker_id    text collate "C",
    error        text collate "C",
    duration_us  bigint,
    queue_us     bigint,
    backoff_us   bigint,
    exhausted    boolean,
    inferred     boolean
);


create type projector.call_command as (
    execution_id bigint,
    command_id   text collate "C"
);


-- A failed attempt. Retries find it by its step and its iteration, which is -1 if it has none.
create type projector.call_failure as (
    execution_id bigint,
    command_id   text collate "C",
    attempts     integer,
    step         text collate "C",
    iteration    integer,
    finished_at  timestamptz
);

insert into migrations.applied (version) values ('0007') on conflict do nothing;
