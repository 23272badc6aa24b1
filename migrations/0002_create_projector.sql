-- migrate:up

-- Schema projector: read models that move in the transaction of the events they tell of.
-- Views are the contract; the tables behind them may change.
--
-- How every projection works. Statement triggers on normalizer.events see the rows that were
-- really inserted, changed or deleted, in the transition tables `before` and `after`. They run in
-- the order of their names, the same for every writer:
--     project_1_executions   upserts the executions, ids ascending: this row is the lock that puts
--                           all that follows for one execution in a line. Whatever is read for an
--                           execution is read in a later statement, so it is what the writer
--                           before has committed.
--     project_2_calls        the tries of its commands, and the roll-ups that hang on them
--     project_3_counters     what is only counted
-- Counts move by -before +after. What is a first, least or greatest merges on insert; where a row
-- that was told of changed or went, it is folded anew from the events of just that key.
-- With projector.off set to on, a transaction's events go in and no projection follows: each place
-- that differs by that is noted (projector.project_off), and projector repair sees to it.
-- Counters are sharded: a transaction counts in a shard that it holds alone until it ends, so
-- writers never wait for each other's counters. Only the sum over shards means anything.

create schema projector;

grant usage on schema projector to normalizer_writer, projector_reader;


-- What an event says of an execution or a call, by its type in every spelling.
-- Filled from KINDS of normalizer/core/event_types.py; a test compares them.
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
    constraint event_kinds_outcome check (outcome in ('', 'COMPLETED', 'FAILED', 'CANCELLED'))
);

comment on table projector.event_kinds is
    'Which events begin and end an execution, and which tell of a call. done decides over ended. '
    'outcome: what the event''s name alone says.';

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


create function projector.minute_of(moment timestamptz) returns timestamptz
    language sql immutable parallel safe
    return date_bin('1 minute', moment, '2000-01-01 00:00:00+00');

create function projector.hour_of(moment timestamptz) returns timestamptz
    language sql immutable parallel safe
    return date_bin('1 hour', moment, '2000-01-01 00:00:00+00');

-- Text that sorts as the number does, from 0 on; and back.
create function projector.encode_bigint(number bigint) returns text
    language sql immutable parallel safe
    return encode(int8send(number), 'hex');

create function projector.decode_bigint(encoded text) returns bigint
    language sql immutable parallel safe
    return ('x' || encoded)::bit(64)::bigint;

-- The front of a dated value: 17 characters that sort values by time. A dated value is this and
-- the value itself, so the least dated value is the earliest one, and between equal times it is
-- the values' own bytes that decide: never an id.
create function projector.encode_time(moment timestamptz) returns text
    language sql immutable parallel safe
    return case when moment < '2000-01-01 00:00:00+00' then '0' else '1' end
           || encode(timestamptz_send(moment), 'hex');

-- The time in a dated value, and the value. Intervals are multiplied as floating-point numbers:
-- microseconds alone would be rounded from the year 2285 on, up to a second they are exact.
create function projector.ranked_time(ranked text) returns timestamptz
    language sql stable parallel safe
    return '2000-01-01 00:00:00+00'::timestamptz
           + projector.decode_bigint(substr(ranked, 2, 16)) / 1000000 * interval '1 second'
           + projector.decode_bigint(substr(ranked, 2, 16)) % 1000000 * interval '1 microsecond';

-- Bucket b of a histogram holds 2^(b/8) up to 2^((b+1)/8) microseconds: its middle is at most
-- 4.5 % off. Bucket -1 is zero. Buckets of any hours and keys can be added up.
create function projector.bucket_of(microseconds bigint) returns smallint
    language sql immutable parallel safe
    return case
        when microseconds > 0
        then floor(8 * ln(microseconds::double precision) / ln(2::double precision))
        else -1
    end::smallint;

create function projector.seconds_of(bucket integer) returns double precision
    language sql immutable parallel safe
    return case
        when bucket < 0 then 0
        else power(2::double precision, (bucket + 0.5::double precision) / 8) / 1000000
    end;

-- The seconds that so much of what a histogram counts stays under. Its state: the fraction, then the
-- count of each bucket from -1 on. Counts may be parts, which take back what others say.
create function projector.percentile_add(
    state double precision[], fraction double precision, bucket integer, calls bigint
) returns double precision[]
    language plpgsql immutable parallel safe
as $$
begin
    state[1] := fraction;
    if bucket is not null and calls is not null then
        state[bucket + 3] := coalesce(state[bucket + 3], 0) + calls;
    end if;
    return state;
end
$$;

create function projector.percentile_found(state double precision[]) returns double precision
    language sql immutable parallel safe
    return (
        select projector.seconds_of(
                   (min(slot) filter (where 1e6 * up_to >= round(state[1] * 1e6) * total) - 3)
                   ::integer
               )
        from   (
                   select slot, sum(calls) over (order by slot) as up_to, sum(calls) over () as total
                   from   unnest(state) with ordinality as counted (calls, slot)
                   where  slot > 1 and calls <> 0
               ) as cumulated
    );

create aggregate projector.percentile(
    fraction double precision, bucket integer, calls bigint
) (
    sfunc     = projector.percentile_add,
    stype     = double precision[],
    initcond  = '{}',
    finalfunc = projector.percentile_found,
    parallel  = safe
);

create function projector.ranked_value(ranked text) returns text
    language sql immutable parallel safe
    return substr(ranked, 18);

-- Of an end, one more digit stands before that: 0 where the call itself reported it, 1 where its
-- command did. The value, and the time.
create function projector.end_value(ranked text) returns text
    language sql immutable parallel safe
    return substr(ranked, 19);

create function projector.end_time(ranked text) returns timestamptz
    language sql stable parallel safe
    return projector.ranked_time(substr(ranked, 2));


-- The counter shards. Rows, as anybody may take an advisory lock: readers have no right to these.
create table projector.shards (
    shard smallint not null,
    constraint shards_pkey primary key (shard)
);

comment on table projector.shards is
    'A transaction counts in the shard whose row it holds. The rows never change.';

insert into projector.shards (shard)
select generate_series(0, 63);


-- A transaction's own counter shard, held until it ends: the lowest that nobody holds, else the last
-- one as soon as it is free. So a single writer uses one, and writers, jobs and hands beside each
-- other never meet in a row.
create function projector.take_shard() returns smallint
    language plpgsql volatile
as $$
declare
    taken smallint;
begin
    select   shards.shard
    into     taken
    from     projector.shards
    order by shards.shard
    limit    1
    for update skip locked;
    if taken is null then
        select shards.shard into taken from projector.shards where shards.shard = 63 for update;
    end if;
    return taken;
end
$$;


-- Locks executions in the order of their ids, as every trigger does: for retention, which then reads
-- what it lets go.
create function projector.lock_executions(execution_ids bigint[]) returns void
    language plpgsql volatile security definer
    set search_path = pg_catalog, projector, pg_temp
as $$
begin
    perform
    from     execution_facts
    where    execution_id = any(lock_executions.execution_ids)
    order by execution_id
    for update;
end
$$;

-- Whoever may call it holds up writers: for projector maintain only.
revoke execute on function projector.lock_executions(bigint[]) from public;


-- What the transition tables are called. A statement that has only one of them finds these in the
-- other's place, always empty: so one function serves insert, update and delete.
create table projector.before (like normalizer.events);
create table projector.after (like normalizer.events);

alter table projector.before add constraint before_is_empty check (false);
alter table projector.after add constraint after_is_empty check (false);

comment on table projector.before is
    'Empty for ever: stands in for the rows before a statement where it has none.';
comment on table projector.after is
    'Empty for ever: stands in for the rows after a statement where it has none.';


-- How far projector maintain has come: rows before kept_from are dropped, or will be, and neither
-- counted, shown nor verified; before compacted_to shards were added up, and at full_scan_at those of all
-- times were looked for.
create table projector.maintenance_state (
    subject      text        not null,
    kept_from    timestamptz not null default '-infinity',
    compacted_to timestamptz not null default '-infinity',
    full_scan_at timestamptz not null default '-infinity',
    constraint maintenance_state_pkey primary key (subject)
);

insert into projector.maintenance_state (subject) values ('minutes'), ('hours'), ('merged_records');

insert into migrations.applied (version) values ('0002') on conflict do nothing;

-- migrate:down
