-- One row for each attempt of a command, and the roll-ups of attempts: by playbook and step, by
-- worker, by error class, how long they took, and first attempts and retries by minute.

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
    failed_before       timestamptz,
    is_numbered         boolean                    not null default false,
    may_be_retried      boolean                    not null default false,
    constraint call_facts_pkey primary key (execution_id, command_id, attempts)
) with (fillfactor = 70);

comment on table projector.call_facts is
    'Private: what the events of each attempt of a command say about it. Only command.*, '
    'call.* and action_* events that name their command are used. Views: calls and others.';
comment on column projector.call_facts.outcome_ranked is
    'The rank of the end that decides how the attempt ended (projector.end_rank): a failure '
    'before a cancellation before a completion, then the report of the call before that of '
    'its command, then the earlier. finished_at is the time in it.';
comment on column projector.call_facts.is_numbered is
    'Whether an event of the attempt names its number.';
comment on column projector.call_facts.may_be_retried is
    'Whether anything hints at a second attempt of the command: a number, or two issues, claims, '
    'or starts. If so, the command is rebuilt from all its events with each new one.';
comment on column projector.call_facts.failed_before is
    'When the failure before a retry ended: of the same command, or of the same step and '
    'iteration. Null for first attempts.';


-- An event of a call, as attempts are computed from it. reporter and the ranked values: see
-- report_on_call. number: the attempts that the event declares. call_index: which call of its
-- command an end is of. It's 0 if the event doesn't say. log and in_log: where its record lies, if
-- that tells when the event happened (knows_its_place).
create type projector.call_event as (
    event_id            bigint,
    execution_id        bigint,
    command_id          text collate "C",
    event_class         text collate "C",
    role                text collate "C",
    reporter            text collate "C",
    number              integer,
    created_at          timestamptz,
    outcome_ranked      text collate "C",
    duration_ranked     text collate "C",
    error_ranked        text collate "C",
    step_ranked         text collate "C",
    worker_ranked       text collate "C",
    max_attempts_ranked text collate "C",
    iteration           integer,
    call_index          integer,
    log                 text collate "C",
    in_log              bigint[]
);


-- No index holds a column that changes before an attempt ends, so updates are HOT until then.
create index calls_by_hour on projector.call_facts (
    projector.hour_of(coalesce(finished_at, begun_at))
);
comment on index projector.calls_by_hour is
    'Query: calls by hour of their end, or of their begin if they still run (view calls).';
create index calls_by_begin on projector.call_facts (projector.hour_of(begun_at))
    where finished_at is null;
comment on index projector.calls_by_begin is
    'Query: unfinished calls by hour of their begin (view open_calls).';


-- With the execution and the attempts, although the query names neither: where command_id is the
-- same in many executions, or a command has many attempts, this index is no worse than the key for
-- what names all three, and without statistics it may be chosen for that.
create index calls_by_command on projector.call_facts (command_id, execution_id, attempts);
comment on index projector.calls_by_command is
    'Query: the attempts of a command whose execution is not known (view calls).';


create function projector.microseconds_between(earlier timestamptz, later timestamptz)
    returns bigint
    language sql immutable parallel safe
    return case
        when later >= earlier then (date_part('epoch', later - earlier) * 1000000)::bigint
    end;

-- The error class of a text: the text without quoted parts, e-mail addresses, and ids, which are
-- words with a digit or of eight and more letters from a to f. Codes stay: up to three digits after
-- a word such as "code" or "exit", and the number of an HTTP error before its name. An apostrophe
-- within a word is no quote, and a quote without an end reaches to the end of the text.
create function projector.error_class_of(error text) returns text
    language sql immutable parallel safe
    return btrim(
        left(
            regexp_replace(
                regexp_replace(
                    replace(
                        regexp_replace(
                            regexp_replace(
                                regexp_replace(
                                    translate(left(error, 400), chr(1), ' '),
                                    '"[^"]*(?:"|$)|(?<![0-9A-Za-z])[bru]?'
                                    '''(?:[^'']|''(?=[0-9A-Za-z]))*(?:''|$)', '?', 'g'
                                ),
                                '[^\x01-\x20@"<>()\[\]{},;:=#|/\\?]+@(?:[0-9a-z-]+[.])+[a-z]{2,}'
                                '|(\m(?:http(?:/[0-9](?:[.][0-9])?)?|status[ _]?(?:code)?|code'
                                '|error|exit|exited with|errno|signal)'
                                '[ :=#(]{0,3}[0-9]{1,3}(?![0-9a-z_])'
                                '|\m[45][0-9]{2}(?= (?:bad|conflict|forbidden|gateway|gone|internal'
                                '|method|not|payload|precondition|request|service|too|unauthorized'
                                '|unprocessable)\M))'
                                '|[0-9a-z]*[0-9][0-9a-z]*|(?<![0-9a-z])[a-f]{8,}(?![0-9a-z])',
                                '\1' || chr(1), 'gi'
                            ),
                            '([0-9a-z])' || chr(1), '\1', 'gi'
                        ),
                        chr(1), '#'
                    ),
                    '#(?:[-._:/]?#)*(?:-[b-df-hj-np-tv-xz]{5}\M)?', '#', 'g'
                ),
                '[ \t-\r]+', ' ', 'g'
            ),
            120
        )
    );

create index calls_by_error on projector.call_facts (
    projector.error_class_of(coalesce(projector.call_error(error_ranked), '')), finished_at
) where finished_at is not null and projector.call_failed(outcome_ranked);
comment on index projector.calls_by_error is
    'Query: the first and the last failed call of an error class, with a sample (view '
    'error_groups).';


-- Finished attempts, as roll-ups count them. Calls that the engine makes between two steps are left
-- out.
create view projector.counted_calls as
select execution_id, command_id, attempts, step, begun_at, finished_at, status, worker_id, error,
       coalesce(reported_duration_us, projector.microseconds_between(started_at, finished_at))
           as duration_us,
       projector.microseconds_between(issued_at, claimed_at) as queue_us,
       projector.microseconds_between(failed_before, begun_at) as backoff_us,
       coalesce(status <> 'COMPLETED' and attempts + 1 >= max_attempts, false) as exhausted,
       attribution = 'inferred' as inferred
from   (
           -- Not a CTE: PostgreSQL does not pull up a query with a CTE, and then no key would reach
           -- an index.
           select execution_id, command_id, attempts, begun_at, issued_at, claimed_at, started_at,
                  finished_at, failed_before,
                  coalesce(projector.ranked_value(step_ranked), '') as step,
                  coalesce(projector.call_outcome(outcome_ranked), '') as status,
                  projector.call_duration_us(duration_ranked) as reported_duration_us,
                  projector.call_error(error_ranked) as error,
                  coalesce(projector.ranked_value(worker_ranked), '') as worker_id,
                  projector.decode_bigint(projector.ranked_value(max_attempts_ranked))
                      as max_attempts,
                  projector.call_attribution(outcome_ranked, is_numbered, may_be_retried)
                      as attribution
           from   projector.call_facts
       ) as reported
where  finished_at is not null
and    step <> '__orchestrate__';

comment on view projector.counted_calls is
    'Private: what do roll-ups count each attempt under? Read projector.calls instead: this '
    'view is granted to nobody and may change.';


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
    constraint call_hours_pkey primary key (hour, playbook, step, attempts, status, shard)
) with (fillfactor = 70);

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
    constraint call_times_measure check (measure in ('duration', 'queue', 'backoff'))
) with (fillfactor = 70);

create table projector.worker_hours (
    hour        timestamptz                not null,
    worker_id   text           collate "C" not null,
    status      text           collate "C" not null,
    shard       smallint                   not null,
    calls       bigint                     not null,
    timed       bigint                     not null,
    duration_us numeric                    not null,
    constraint worker_hours_pkey primary key (hour, worker_id, status, shard)
) with (fillfactor = 70);

create table projector.error_hours (
    hour        timestamptz                not null,
    step        text           collate "C" not null,
    attempts    integer                    not null,
    status      text           collate "C" not null,
    error_class text           collate "C" not null,
    shard       smallint                   not null,
    calls       bigint                     not null,
    constraint error_hours_pkey primary key (hour, step, attempts, status, error_class, shard)
) with (fillfactor = 70);

create table projector.retry_minutes (
    minute      timestamptz                not null,
    step        text           collate "C" not null,
    shard       smallint                   not null,
    first_tries bigint                     not null,
    retries     bigint                     not null,
    constraint retry_minutes_pkey primary key (minute, step, shard)
) with (fillfactor = 70);

comment on column projector.worker_hours.duration_us is
    'Sum of the known durations, in microseconds. Numeric: a bigint would overflow at 3.5 '
    'million calls of 30 days.';
comment on table projector.call_hours is
    'Private: attempts by the hour of their end, playbook, step and status. View: '
    'call_outcomes_by_attempt.';
comment on table projector.call_times is
    'Private: histograms of how long attempts took (duration), waited to be claimed (queue), '
    'and waited after the failure before them (backoff), by the hour of their end. View: '
    'call_time_histogram.';
comment on table projector.worker_hours is
    'Private: attempts by worker and the hour of their end. View: worker_failures.';
comment on table projector.error_hours is
    'Private: failed attempts by error class and the hour of their end. View: '
    'failures_by_error.';
comment on table projector.retry_minutes is
    'Private: first attempts and retries by the minute of their end. Views: retries_by_minute, '
    'retry_storms.';


create type projector.call_id as (
    execution_id bigint,
    command_id   text,
    attempts     integer
);

-- What the rows of a statement say about the first attempt of a command. is_changed: they say more
-- than can be merged into it.
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
    is_changed          boolean
);

-- An attempt with what it is counted under: sign 1 adds it, sign -1 removes it.
create type projector.call_count as (
    sign         integer,
    execution_id bigint,
    command_id   text,
    attempts     integer,
    playbook     text,
    step         text,
    begun_at     timestamptz,
    finished_at  timestamptz,
    status       text,
    worker_id    text,
    error        text,
    duration_us  bigint,
    queue_us     bigint,
    backoff_us   bigint,
    exhausted    boolean,
    inferred     boolean
);


-- Returns what these attempts are counted under now.
create function projector.call_counts(sign integer, ids projector.call_id[])
    returns setof projector.call_count
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
as $$
#variable_conflict use_column
begin
    return query
        select call_counts.sign, counted.execution_id, counted.command_id, counted.attempts,
               playbook_of(execution.counted_playbook_ranked), counted.step, counted.begun_at,
               counted.finished_at, counted.status, counted.worker_id, counted.error,
               counted.duration_us, counted.queue_us, counted.backoff_us, counted.exhausted,
               counted.inferred
        from   unnest(call_counts.ids) as wanted
        cross join lateral (
            select *
            from   counted_calls
            where  counted_calls.execution_id = wanted.execution_id
            and    counted_calls.command_id = wanted.command_id collate "C"
            and    counted_calls.attempts = wanted.attempts
        ) as counted
        left join execution_facts as execution on execution.execution_id = counted.execution_id;
end
$$;


-- Sums the counts and moves the roll-ups by the result, in the given shard or else in the shard of
-- this transaction. New rows are inserted in the order of their keys, so that a time range occupies
-- few pages. `max(hour)` is the hour of the group. Ordering by the hour itself would sort all
-- calls, not only their sums:
--     1. sum equal counts
--     2. attempts by hour
--     3. histograms
--     4. attempts by worker
--     5. failures by error class
--     6. retries by minute
create function projector.count_calls(
    counts projector.call_count[], into_shard smallint default null
) returns void
    language plpgsql volatile
    set search_path = pg_catalog, projector, pg_temp
as $$
declare
    own_shard constant smallint := coalesce(into_shard, take_shard());
begin
    -- 1. Equal counts cancel out.
    with moved as materialized (
        select   sum(sign) as calls, playbook, step, attempts, begun_at, finished_at, status,
                 worker_id, error, duration_us, queue_us, backoff_us, exhausted,
                 inferred, hour_of(finished_at) as hour
        from     unnest(count_calls.counts)
        group by playbook, step, attempts, begun_at, finished_at, status, worker_id, error,
                 duration_us, queue_us, backoff_us, exhausted, inferred
        having   sum(sign) <> 0
    ),
    -- 2. Attempts by hour.
    in_hours as (
        insert into call_hours as counted (
            hour, playbook, step, attempts, status, shard, calls, exhausted, inferred
        )
        select   hour, playbook collate "C", step collate "C", attempts, status collate "C",
                 own_shard, sum(calls), coalesce(sum(calls) filter (where exhausted), 0),
                 coalesce(sum(calls) filter (where inferred), 0)
        from     moved
        where    finished_at is not null
        group by 1, 2, 3, 4, 5
        order by max(hour), 2, 3
        on conflict (hour, playbook, step, attempts, status, shard)
        do update set
            calls     = counted.calls + excluded.calls,
            exhausted = counted.exhausted + excluded.exhausted,
            inferred  = counted.inferred + excluded.inferred
    ),
    -- 3. Histograms.
    in_times as (
        insert into call_times as counted (
            hour, measure, playbook, step, attempts, status, bucket, shard, calls
        )
        select   moved.hour, taken.measure collate "C", moved.playbook collate "C",
                 moved.step collate "C", moved.attempts, moved.status collate "C",
                 bucket_of(taken.microseconds), own_shard, sum(moved.calls)
        from     moved
        cross join lateral (
            values ('duration', moved.duration_us), ('queue', moved.queue_us),
                   ('backoff', moved.backoff_us)
        ) as taken (measure, microseconds)
        where    moved.finished_at is not null
        and      taken.microseconds is not null
        group by 1, 2, 3, 4, 5, 6, 7
        having   sum(moved.calls) <> 0
        order by max(moved.hour), 2, 3, 4
        on conflict (hour, measure, playbook, step, attempts, status, bucket, shard)
        do update set calls = counted.calls + excluded.calls
    ),
    -- 4. Attempts by worker.
    in_workers as (
        insert into worker_hours as counted (
            hour, worker_id, status, shard, calls, timed, duration_us
        )
        select   hour, worker_id collate "C", status collate "C", own_shard, sum(calls),
                 coalesce(sum(calls) filter (where duration_us is not null), 0),
                 coalesce(sum(calls::numeric * duration_us), 0)
        from     moved
        where    finished_at is not null
        group by 1, 2, 3
        order by max(hour), 2
        on conflict (hour, worker_id, status, shard)
        do update set
            calls       = counted.calls + excluded.calls,
            timed       = counted.timed + excluded.timed,
            duration_us = counted.duration_us + excluded.duration_us
    ),
    -- 5. Failures by error class.
    in_errors as (
        insert into error_hours as counted (
            hour, step, attempts, status, error_class, shard, calls
        )
        select   hour, step collate "C", attempts, status collate "C",
                 coalesce(error_class_of(error), '') collate "C", own_shard, sum(calls)
        from     moved
        where    finished_at is not null
        and      status <> 'COMPLETED'
        group by 1, 2, 3, 4, 5
        having   sum(calls) <> 0
        order by max(hour), 2
        on conflict (hour, step, attempts, status, error_class, shard)
        do update set calls = counted.calls + excluded.calls
    )
    -- 6. Retries by minute.
    insert into retry_minutes as counted (minute, step, shard, first_tries, retries)
    select   minute_of(finished_at), step collate "C", own_shard,
             coalesce(sum(calls) filter (where attempts = 0), 0),
             coalesce(sum(calls) filter (where attempts > 0), 0)
    from     moved
    where    finished_at >= (select kept_from from maintenance_state where subject = 'minutes')
    group by 1, 2
    order by max(minute_of(finished_at)), 2
    on conflict (minute, step, shard)
    do update set
        first_tries = counted.first_tries + excluded.first_tries,
        retries     = counted.retries + excluded.retries;
end
$$;

insert into migrations.applied (version) values ('0005') on conflict do nothing;
