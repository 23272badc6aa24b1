-- Schema projector holds read models, which change in the transaction of the events. Its views are
-- the contract. Its tables are private and may change.
--
-- How every projection works. Statement triggers on normalizer.events see the rows that were
-- inserted, changed or deleted in the transition tables `before` and `after`. They run in the order
-- of their names, the same for every writer:
--     project_1_executions   upserts the executions, ids ascending. This row is the lock that
--                            serializes all that follows for one execution. A later statement reads
--                            the execution's rows, so it sees what the previous writer committed.
--     project_2_calls        the attempts of its commands, and their roll-ups
--     project_3_counters     counters
-- Counters move by the rows of `after` minus the rows of `before`. Firsts, minimums and maximums
-- are merged on insert. If a reported row changed or was deleted, its key is rebuilt from the
-- events of just that key.
-- If projector.off is on, a transaction stores events and moves no projection.
-- projector.project_off notes which projections differ from then on, and projector repair corrects
-- them.
-- Counters are sharded: a transaction counts in a shard that it alone holds until it ends, so
-- writers never wait for each other's counters. Only the sum over all shards means anything.

create schema projector;

grant usage on schema projector to normalizer_writer, projector_reader;


-- The meaning of events, in every spelling of normalizer/core/rules/event_types.py. A test compares them.
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
    'Private: what an event means for an execution or a call, by its type in every spelling. '
    'If both done and ended events exist, done decides.';

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

-- Text that sorts like the number, for numbers from 0, and the inverse, which is null for a text
-- that isn't a number, because one damaged row must not fail a query over all others.
create function projector.encode_bigint(number bigint) returns text
    language sql immutable parallel safe
    return encode(int8send(number), 'hex');

create function projector.decode_bigint(encoded text) returns bigint
    language sql immutable parallel safe
    return case
        when translate(encoded, '0123456789abcdef', '') = ''
        then ('x' || encoded)::bit(64)::bigint
    end;

-- A ranked value is text: 17 characters that sort by time, and then the value. So the least ranked
-- value is the earliest one, and of two at the same time the bytes of the values decide, never an
-- id. encode_time gives the 17 characters.
create function projector.encode_time(moment timestamptz) returns text
    language sql immutable parallel safe
    return case when moment < '2000-01-01 00:00:00+00' then '0' else '1' end
           || encode(timestamptz_send(moment), 'hex');

-- Bucket b of a histogram holds 2^(b/8) up to 2^((b+1)/8) microseconds, so its middle is at most
-- 4.5 % off. Bucket -1 holds zero. Buckets of different hours and keys can be added up.
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

-- The seconds that this fraction of the calls of a histogram stays under. Its state: the fraction,
-- then the count of each bucket from -1 on. Counts may be parts, which take back what others say.
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
                   select slot, sum(calls) over (order by slot) as up_to,
                          sum(calls) over () as total
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

-- The value in a ranked value.
create function projector.ranked_value(ranked text) returns text
    language sql immutable parallel safe
    return substr(ranked, 18);

-- The rank of an end of an attempt. The least rank decides how the attempt ended:
--     1. its class: 0 for FAILED and ERROR, 1 for CANCELLED, 2 for COMPLETED
--     2. who reported it: 0 for the call itself, 1 for its command
--     3. when (encode_time)
--     4. its outcome, the worse first: 0 for FAILED, 1 for ERROR, 2 and 3 for the others
-- outcome_ranked of an attempt also has a last character: 0 if the end names its attempt, else 1.
-- Null for an event that is no end, for which `reporter` is null.
create function projector.end_rank(reporter text, moment text, outcome text) returns text
    language sql immutable parallel safe
    return case outcome
        when 'COMPLETED' then '2' || reporter || moment || '3'
        when 'CANCELLED' then '1' || reporter || moment || '2'
        when 'ERROR' then '0' || reporter || moment || '1'
        else '0' || reporter || moment || '0'
    end;

-- These read the rank of the deciding end: the outcome, when the attempt ended, and whether it
-- failed.
create function projector.call_outcome(outcome_ranked text) returns text
    language sql immutable parallel safe
    return case substr(outcome_ranked, 20, 1)
        when '0' then 'FAILED' when '1' then 'ERROR' when '2' then 'CANCELLED'
        when '3' then 'COMPLETED'
    end;

-- How the number of an attempt is known: the end that decides names it (or, while the attempt
-- runs, any event), nothing hints at another attempt of its command, or it was inferred.
create function projector.call_attribution(
    outcome_ranked text, is_numbered boolean, may_be_retried boolean
)
    returns text
    language sql immutable parallel safe
    return case
        when coalesce(substr(outcome_ranked, 21) = '0', is_numbered) then 'declared'
        when may_be_retried then 'inferred'
        else 'only'
    end;

-- Null for a time outside the calendar, which no event has. Seconds and microseconds are added
-- separately: an interval is multiplied as a floating-point number, which would round microseconds
-- from the year 2285 on.
create function projector.call_finished_at(outcome_ranked text) returns timestamptz
    language sql stable parallel safe
    return case
        when projector.decode_bigint(substr(outcome_ranked, 4, 16))
             between -63082281600000000 and 252455615999999999
        then '2000-01-01 00:00:00+00'::timestamptz
             + projector.decode_bigint(substr(outcome_ranked, 4, 16)) / 1000000
             * interval '1 second'
             + projector.decode_bigint(substr(outcome_ranked, 4, 16)) % 1000000
             * interval '1 microsecond'
    end;

create function projector.call_failed(outcome_ranked text) returns boolean
    language sql immutable parallel safe
    return left(outcome_ranked, 1) <> '2';

-- The error text after the rank of its end, and the duration after who reported it and when.
create function projector.call_error(error_ranked text) returns text
    language sql immutable parallel safe
    return substr(error_ranked, 21);

create function projector.call_duration_us(duration_ranked text) returns bigint
    language sql immutable parallel safe
    return projector.decode_bigint(substr(duration_ranked, 19));


-- Rows and not advisory locks, because anybody may take an advisory lock.
create table projector.shards (
    shard smallint not null,
    constraint shards_pkey primary key (shard)
);

comment on table projector.shards is
    'Private: the counter shards. A transaction counts in the shard whose row it has locked. '
    'Shard -1 counts deleted events. The rows never change.';

insert into projector.shards (shard)
select generate_series(-1, 63);


-- Takes a counter shard for this transaction, until it ends: the lowest free one, or else the last
-- one once it is free. A single writer uses one shard. Concurrent writers and jobs never update the
-- same row.
create function projector.take_shard() returns smallint
    language plpgsql volatile
as $$
declare
    taken smallint;
begin
    select   shards.shard
    into     taken
    from     projector.shards
    where    shards.shard >= 0
    order by shards.shard
    limit    1
    for update skip locked;
    if taken is null then
        select shards.shard into taken from projector.shards where shards.shard = 63 for update;
    end if;
    return taken;
end
$$;


-- Locks the executions that nobody else has locked, and returns their ids. A caller that deletes
-- executions calls it before it reads what it will delete.
--
-- It locks shard -1 first, so that one transaction at a time adds to the archived part: two would
-- update the same rows of the counters, each in its own order. It waits for that lock only, while
-- the transaction holds nothing that a writer may need.
create function projector.lock_executions(execution_ids bigint[]) returns bigint[]
    language plpgsql volatile security definer
    set search_path = pg_catalog, projector, pg_temp
as $$
begin
    perform from shards where shards.shard = -1 for update;
    return array(
        select   execution_id
        from     execution_facts
        where    execution_id = any(lock_executions.execution_ids)
        order by execution_id
        for update skip locked
    );
end
$$;

-- A caller blocks writers, so only projector maintain may call it.
revoke execute on function projector.lock_executions(bigint[]) from public;


-- Stand-ins for the transition tables. A trigger has only one of the two on insert and delete. Its
-- function then finds this empty table under the other name. So one function serves insert, update
-- and delete.
create table projector.before (like normalizer.events including comments);
create table projector.after (like normalizer.events including comments);

alter table projector.before add constraint before_is_empty check (false);
alter table projector.after add constraint after_is_empty check (false);

comment on table projector.before is
    'Private: always empty. Stands in for the rows before a statement if it has none.';
comment on table projector.after is
    'Private: always empty. Stands in for the rows after a statement if it has none.';


create table projector.maintenance_state (
    subject      text        not null,
    kept_from    timestamptz not null default '-infinity',
    compacted_to timestamptz not null default '-infinity',
    full_scan_at timestamptz not null default '-infinity',
    constraint maintenance_state_pkey primary key (subject)
);

insert into projector.maintenance_state (subject) values ('minutes'), ('hours'), ('merged_records');

comment on table projector.maintenance_state is
    'Private: how far `projector maintain` has got. Rows before kept_from are neither counted, '
    'shown nor verified.';
insert into migrations.applied (version) values ('0002') on conflict do nothing;
