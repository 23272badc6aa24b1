-- Creates the projections' views in ClickHouse, with the same names and columns as in PostgreSQL,
-- from the events of events.sql. It needs the function execution_calls (functions.xml).
--     clickhouse-client --multiquery < deploy/clickhouse/figures.sql
--
-- A later event can change which attempt an earlier event belongs to. So an execution with new
-- events is computed again from all of its events, into a new row, and the views count only the
-- newest row of each. No count ever has to be corrected.

create table projector.folded_executions (
    execution_id Int64,
    playbook     LowCardinality(String),
    calls        Array(Tuple(
        command_id  String,
        attempts    UInt16,
        step        String,
        status      Nullable(String),
        error       Nullable(String),
        error_class Nullable(String),
        begun_us    Int64,
        issued_us   Nullable(Int64),
        claimed_us  Nullable(Int64),
        started_us  Nullable(Int64),
        finished_us Nullable(Int64),
        duration_us Nullable(Int64),
        queue_us    Nullable(Int64),
        exhausted   Bool,
        attribution String,
        failed_us   Nullable(Int64)
    )) comment 'times are microseconds since 1970; failed_us: when the failure before it ended',
    folded_to    DateTime64(3, 'UTC') comment 'when the last of its events arrived'
)
engine = ReplacingMergeTree(folded_to)
order by execution_id;

-- Computes the executions with events that arrived after the last run. An insert becomes visible a
-- little after its timestamp, so each run also reads the minute before again. After a pause it
-- continues where it stopped.
create materialized view projector.fold_executions
refresh every 1 minute append
to projector.folded_executions as
with   (select max(folded_to) from projector.folded_executions) as read_to
select execution_id,
       -- The path that the event which begins it names, or else the step of a lifecycle event.
       tupleElement(
           minIf(
               if(
                   begins and path <> '',
                   (0, created_at, substringUTF8(path, 1, 200)),
                   (1, created_at, substringUTF8(step, 1, 200))
               ),
               begins and path <> '' or (begins or ends) and step <> ''
           ),
           3
       ) as playbook,
       execution_calls(
           groupArrayIf(
               (
                   command_id, event_type, toUnixTimestamp64Micro(created_at),
                   if(attempts_declared, attempts, null), status, step, max_attempts, duration,
                   error, pending_callback, call_index, nullIf(place, '')
               ),
               is_of_call and command_id <> ''
           )
       ) as calls,
       max(arrived_at) as folded_to
from   (
           select *,
                  event_type in (
                      'playbook.initialized', 'playbook_initialized', 'playbook.started',
                      'playbook_started', 'execution.started', 'execution_start',
                      'execution.start', 'execution_started'
                  ) as begins,
                  event_type in (
                      'playbook.completed', 'playbook_completed', 'execution.completed',
                      'execution_complete', 'execution_completed', 'playbook.failed',
                      'playbook_failed', 'execution.failed', 'execution_error',
                      'execution_failed', 'playbook.cancelled', 'playbook_cancelled',
                      'execution.cancelled', 'execution_cancelled'
                  ) as ends,
                  event_type in (
                      'command.issued', 'command_issued', 'command.claimed',
                      'command_claimed', 'command.started', 'action_started',
                      'command_started', 'command.completed', 'action_completed',
                      'command.failed', 'action_failed', 'command.timed_out',
                      'command.timeout', 'command.cancelled', 'call.done', 'action_done',
                      'call_done', 'call.error'
                  ) as is_of_call,
                  multiIf(
                      not begins,
                      '',
                      JSONType(line, 'context', 'path') = 'String'
                      and JSONExtractString(line, 'context', 'path') <> '',
                      JSONExtractString(line, 'context', 'path'),
                      JSONType(line, 'result', 'context', 'path') = 'String',
                      JSONExtractString(line, 'result', 'context', 'path'),
                      ''
                  ) as path,
                  is_of_call
                  and (
                      JSONExtractRaw(line, 'context', 'pending_callback') = 'true'
                      or JSONExtractRaw(line, 'result', 'context', 'pending_callback') = 'true'
                  ) as pending_callback,
                  -- Which call of its command this is: an integer of up to nine digits, or else 0.
                  if(
                      is_of_call,
                      coalesce(
                          toInt32OrNull(extract(
                              JSONExtractRaw(line, 'context', 'call_index'), '^[0-9]{1,9}$'
                          )),
                          toInt32OrNull(extract(
                              JSONExtractRaw(line, 'result', 'context', 'call_index'),
                              '^[0-9]{1,9}$'
                          )),
                          0
                      ),
                      0
                  ) as call_index
           from   normalizer.events final
           where  execution_id in (
                      select execution_id
                      from   normalizer.events
                      where  arrived_at > read_to - interval 1 minute
                  )
       )
group by execution_id;


-- How did each attempt of each command go?
create view projector.calls as
select toStartOfHour(coalesce(finished_at, begun_at)) as hour,
       execution_id,
       playbook,
       call.step as step,
       call.command_id as command_id,
       call.attempts as attempts,
       multiIf(
           call.status is not null, assumeNotNull(call.status),
           call.started_us is not null, 'RUNNING',
           call.claimed_us is not null, 'CLAIMED',
           'PENDING'
       ) as status,
       fromUnixTimestamp64Micro(call.begun_us, 'UTC') as begun_at,
       fromUnixTimestamp64Micro(call.issued_us, 'UTC') as issued_at,
       fromUnixTimestamp64Micro(call.claimed_us, 'UTC') as claimed_at,
       fromUnixTimestamp64Micro(call.started_us, 'UTC') as started_at,
       fromUnixTimestamp64Micro(call.finished_us, 'UTC') as finished_at,
       call.duration_us / 1e6 as duration_s,
       call.queue_us / 1e6 as queue_s,
       if(call.begun_us >= call.failed_us, (call.begun_us - call.failed_us) / 1e6, null)
           as backoff_s,
       call.exhausted as exhausted,
       call.attribution as attribution,
       call.error as error,
       call.error_class as error_class
from   projector.folded_executions final
array join calls as call
where  call.step <> '__orchestrate__';


-- How many events of each type ended in which status at which attempt, by hour?
create view projector.attempts_by_status as
select   toStartOfHour(created_at) as bucket_start, 3600 as bucket_s, event_type, status,
         attempts, count() as events, countIf(not attempts_declared) as attempts_defaulted
from     normalizer.events final
group by bucket_start, event_type, status, attempts;

-- The same with the step.
create view projector.event_counts as
select   toStartOfHour(created_at) as hour, step, event_type, status, attempts, count() as events,
         countIf(not attempts_declared) as attempts_defaulted
from     normalizer.events final
group by hour, step, event_type, status, attempts;

-- How did calls end, by attempt, in the hour of their end?
create view projector.call_outcomes_by_attempt as
select   hour, playbook, step, attempts, status, count() as calls,
         countIf(status = 'COMPLETED') as succeeded, countIf(status <> 'COMPLETED') as failed,
         countIf(exhausted) as exhausted, countIf(attribution = 'inferred') as inferred
from     projector.calls
where    finished_at is not null
group by hour, playbook, step, attempts, status;

-- Which errors do calls fail with, by attempt?
create view projector.failures_by_error as
select   hour, step, attempts, status, error_class, count() as calls
from     projector.calls
where    finished_at is not null and status <> 'COMPLETED'
group by hour, step, attempts, status, error_class;

-- How long do calls take, wait to be claimed, and wait after the failure before them?
create view projector.call_time_histogram as
select   hour, measured.1 as measure, playbook, step, attempts, status,
         toInt16(if(
             measured.2 > 0, floor(8 * log(round(measured.2 * 1e6)) / log(2.)), -1
         )) as bucket,
         count() as calls
from     projector.calls
array join [
    ('duration', duration_s), ('queue', queue_s), ('backoff', backoff_s)
] as measured
where    finished_at is not null and measured.2 is not null
group by hour, measure, playbook, step, attempts, status, bucket;
