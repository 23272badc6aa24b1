-- A search, and the pages of an error and of a quarantined record, read this: where an event is, by
-- its trace or the coordinates of its record, the calls of one error, and the tries to redrive a
-- record.

-- Both functions act for their owner, because readers may not read the log itself.
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

-- The events that a record reported, of any incarnation of the topic:
--     1. rows that it stored
--     2. rows of other records that its report was merged into, by blocks of 4,096 offsets. A
--        partition that only jobs have read, or whose position was deleted, has no position.
create function projector.locate_record(topic text, partition integer, source_offset bigint)
    returns setof projector.located_event
    language sql stable security definer
    set search_path = pg_catalog, projector, pg_temp
as $$
    -- 1. Coordinates are in a BRIN index: it finds blocks, not rows.
    select event_id, execution_id, event_type, step, status, created_at, source_index, false
    from   normalizer.events
    where  source_topic = locate_record.topic
    and    source_partition = locate_record.partition
    and    source_offset = locate_record.source_offset
    union all
    -- 2. Merged reports.
    select found.event_id, found.execution_id, found.event_type, found.step, found.status,
           found.created_at, entry.source_index::integer, true
    from   normalizer.merged_records as merged
    cross join lateral unnest(
        merged.source_offsets, merged.source_indexes, merged.event_ids
    ) as entry (source_offset, source_index, event_id)
    cross join lateral events_at(array[entry.event_id]) as found
    where  merged.source_topic = locate_record.topic
    and    merged.source_incarnation in (
               select position.incarnation
               from   normalizer.source_positions as position
               where  position.topic = locate_record.topic
               and    position.partition = locate_record.partition
               union
               select horizon.incarnation
               from   normalizer.dedup_horizon as horizon
               where  horizon.topic = locate_record.topic
               and    horizon.partition = locate_record.partition
           )
    and    merged.source_partition = locate_record.partition
    and    merged.offset_block = locate_record.source_offset >> 12
    and    entry.source_offset = locate_record.source_offset
$$;

-- Only events that carry a trace are in it. By hash, because trace ids are random, and this is half
-- as large.
create index events_by_trace on normalizer.events (hashtext(trace_id)) where trace_id is not null;
comment on index normalizer.events_by_trace is
    'Query: the executions of a trace (search).';

-- Events of this trace, at most a thousand.
create function projector.locate_trace(trace_id text) returns setof projector.located_event
    language sql stable security definer
    set search_path = pg_catalog, pg_temp
as $$
    select event_id, execution_id, event_type, step, status, created_at, source_index, false
    from   normalizer.events
    where  trace_id is not null
    and    hashtext(trace_id) = hashtext(locate_trace.trace_id)
    and    trace_id = locate_trace.trace_id
    limit  1000
$$;

revoke execute on function projector.locate_trace(text) from public;
revoke execute on function projector.locate_record(text, integer, bigint) from public;
grant execute on function
    projector.locate_trace(text), projector.locate_record(text, integer, bigint)
    to projector_reader;


create view projector.failed_calls as
select projector.hour_of(finished_at) as hour, finished_at,
       projector.error_class_of(coalesce(projector.call_error(error_ranked), '')) as error_class,
       projector.call_error(error_ranked) as error, execution_id,
       (
           select projector.playbook_of(execution.playbook_ranked)
           from   projector.execution_facts as execution
           where  execution.execution_id = call_facts.execution_id
       ) as playbook,
       coalesce(projector.ranked_value(step_ranked), '') as step, command_id, attempts,
       projector.call_outcome(outcome_ranked) as status,
       projector.ranked_value(worker_ranked) as worker_id
from   projector.call_facts
where  finished_at is not null
and    projector.call_failed(outcome_ranked)
and    coalesce(projector.ranked_value(step_ranked), '') <> '__orchestrate__';

comment on view projector.failed_calls is
    'Which calls failed with one error? Put the error on error_class and your time range on '
    'finished_at, because both reach one index. calls has every call. Calls of the step '
    '__orchestrate__ are left out.';


create view projector.redrive_attempts as
select quarantine_id, tried_at, projector.hour_of(tried_at) as hour, tried_by, outcome, detail,
       normalizer_version, job_id, run
from   normalizer.redrive_attempts;

comment on view projector.redrive_attempts is
    'Which rejected records did somebody try to redrive, when, under which rules, and what was '
    'the outcome? Filter by quarantine_id. A dry run writes nothing, so it is not here.';
-- As in view calls.
do $$
declare
    meant record;
begin
    for meant in
        select described.column_name,
               col_description('projector.calls'::regclass, attnum) as meaning
        from   information_schema.columns as described
        join   pg_attribute on attrelid = 'projector.calls'::regclass
                           and attname = described.column_name
        where  described.table_schema = 'projector' and described.table_name = 'failed_calls'
    loop
        execute format(
            'comment on column projector.failed_calls.%I is %L', meant.column_name, meant.meaning
        );
    end loop;
end
$$;

comment on column projector.failed_calls.finished_at is 'when it ended';
comment on column projector.failed_calls.status is 'FAILED, ERROR or CANCELLED';
comment on column projector.failed_calls.error_class is
    'error text without quoted parts, e-mail addresses and ids, which are words with a digit or of '
    'eight or more letters from a to f; codes stay; empty without an error text';
comment on column projector.failed_calls.error is
    'error text, at most 1,000 characters; null if no event has one';
comment on column projector.redrive_attempts.quarantine_id is
    'id of the entry, as in quarantine_records';
comment on column projector.redrive_attempts.tried_at is 'when it was tried';
comment on column projector.redrive_attempts.hour is 'the hour of tried_at';
comment on column projector.redrive_attempts.tried_by is 'the database user who tried it';
comment on column projector.redrive_attempts.outcome is
    'redriven, refused again, or gone: retention or an erasure took it';
comment on column projector.redrive_attempts.detail is 'why it was refused again';
comment on column projector.redrive_attempts.normalizer_version is
    'version of the rules that tried it';
comment on column projector.redrive_attempts.job_id is 'id of the redrive';
comment on column projector.redrive_attempts.run is 'number of its run, from 1';

grant select on projector.failed_calls, projector.redrive_attempts
    to normalizer_writer, projector_reader;

insert into migrations.applied (version) values ('0016') on conflict do nothing;
