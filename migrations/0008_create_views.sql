-- migrate:up

-- The views: one question each, in its comment. They are the contract; tables may change.
-- A view that counts or rates has its hour or minute among its columns: put your time range there,
-- it reaches an index. Rates come with numerator and denominator, so that hours can be added up.
-- No view has a CTE at its top: PostgreSQL would not pull it up, and no `where` would get inside.
-- Shares are compared in whole numbers: numeric is several times slower, and floats round.

create view projector.attempts_by_status as
select   minute, event_type, status, attempts, sum(events)::bigint as events
from     projector.event_minutes
where    minute >= (select kept_from from projector.horizon where rows_of = 'minutes')
group by minute, event_type, status, attempts
having   sum(events) <> 0;

comment on view projector.attempts_by_status is
    'How many events of each type ended in which status at which attempt (0 is the first try), by '
    'minute? Minutes are kept for two days; attempts_by_status_hourly goes back for ever.';

create view projector.attempts_by_status_hourly as
select   hour, step, event_type, status, attempts, sum(events)::bigint as events
from     projector.event_hours
group by hour, step, event_type, status, attempts
having   sum(events) <> 0;

comment on view projector.attempts_by_status_hourly is
    'How many events of each step and type ended in which status at which attempt, by hour?';

create view projector.event_counts as
select hour, step, event_type, status, attempts, events
from   projector.event_hours;

comment on view projector.event_counts is
    'What does attempts_by_status_hourly add up? Ask it for long windows: adding up once takes '
    'less time. Rows are parts: several have the same keys, some take back others, only sums are '
    'true.';

create view projector.events_per_second as
select   minute, event_type, sum(events)::bigint as events,
         sum(events)::double precision / 60 as events_per_s
from     projector.event_minutes
where    minute >= (select kept_from from projector.horizon where rows_of = 'minutes')
group by minute, event_type
having   sum(events) <> 0;

comment on view projector.events_per_second is
    'How many events a second are there, by type and minute? The running minute is not full yet.';


create view projector.call_outcomes_by_attempt as
select   hour, playbook, step, attempts, status, sum(calls)::bigint as calls
from     projector.call_hours
group by hour, playbook, step, attempts, status
having   sum(calls) <> 0;

comment on view projector.call_outcomes_by_attempt is
    'How did calls end, by attempt? One row counts tries by the hour they finished in.';

create view projector.first_attempt_success as
select   hour, playbook, step, sum(calls)::bigint as calls,
         coalesce(sum(calls) filter (where status = 'COMPLETED'), 0)::bigint as succeeded,
         coalesce(sum(calls) filter (where status = 'COMPLETED'), 0)::double precision
             / sum(calls)::double precision as success_rate
from     projector.call_hours
where    attempts = 0
group by hour, playbook, step
having   sum(calls) <> 0;

comment on view projector.first_attempt_success is
    'How often does the first try succeed, by step and hour? success_rate = succeeded / calls.';

create view projector.error_rate_by_attempt as
select   hour, playbook, step, attempts, sum(calls)::bigint as calls,
         coalesce(sum(calls) filter (where status <> 'COMPLETED'), 0)::bigint as failed,
         coalesce(sum(calls) filter (where status <> 'COMPLETED'), 0)::double precision
             / sum(calls)::double precision as error_rate
from     projector.call_hours
group by hour, playbook, step, attempts
having   sum(calls) <> 0;

comment on view projector.error_rate_by_attempt is
    'How often do calls fail at each attempt? error_rate = failed / calls; failed counts FAILED, '
    'ERROR and CANCELLED.';

create view projector.retry_recovery as
select   hour, playbook, step, attempts, sum(calls)::bigint as retries,
         coalesce(sum(calls) filter (where status = 'COMPLETED'), 0)::bigint as recovered,
         coalesce(sum(calls) filter (where status = 'COMPLETED'), 0)::double precision
             / sum(calls)::double precision as recovery_rate
from     projector.call_hours
where    attempts > 0
group by hour, playbook, step, attempts
having   sum(calls) <> 0;

comment on view projector.retry_recovery is
    'Is retrying worth it: how likely does attempt n succeed after attempt n - 1 has failed? '
    'recovery_rate = recovered / retries.';

create view projector.retry_exhaustion as
select   hour, playbook, step,
         coalesce(sum(calls) filter (where status <> 'COMPLETED'), 0)::bigint as failed,
         sum(exhausted)::bigint as exhausted,
         sum(exhausted)::double precision
             / nullif(sum(calls) filter (where status <> 'COMPLETED'), 0)::double precision
             as exhausted_rate
from     projector.call_hours
group by hour, playbook, step
having   sum(calls) filter (where status <> 'COMPLETED') <> 0;

comment on view projector.retry_exhaustion is
    'How many failed tries were the last one allowed? exhausted: attempts + 1 has reached '
    'max_attempts; exhausted_rate = exhausted / failed.';

create view projector.attempts_per_success as
select   hour, playbook, step, sum(calls)::bigint as tries,
         coalesce(sum(calls) filter (where status = 'COMPLETED'), 0)::bigint as succeeded,
         sum(calls)::double precision
             / nullif(sum(calls) filter (where status = 'COMPLETED'), 0)::double precision
             as attempts_per_success
from     projector.call_hours
group by hour, playbook, step
having   sum(calls) <> 0;

comment on view projector.attempts_per_success is
    'How many tries does a success cost? attempts_per_success = tries / succeeded, null where '
    'nothing succeeded.';


create view projector.call_counts as
select hour, playbook, step, attempts, status, calls,
       case when status = 'COMPLETED' then calls else 0 end as succeeded,
       case when status <> 'COMPLETED' then calls else 0 end as failed,
       exhausted
from   projector.call_hours;

comment on view projector.call_counts is
    'What do the views of outcomes, rates and retries add up? Ask it for long windows. Rows are '
    'parts, as in event_counts.';


create view projector.retries_by_minute as
select   minute, step, sum(retries)::bigint as retries
from     projector.retry_minutes
where    minute >= (select kept_from from projector.horizon where rows_of = 'minutes')
group by minute, step
having   sum(retries) <> 0;

comment on view projector.retries_by_minute is
    'How many retries began in each minute, by step? Minutes are kept for two days.';

create view projector.retry_storms as
select   step, max(minute) as minute,
         coalesce(sum(retries) filter (where minute >= now() - interval '5 minutes'), 0)::bigint
             as retries_now,
         coalesce(sum(retries) filter (where minute < now() - interval '5 minutes'), 0)::bigint
             as retries_before,
         coalesce(sum(retries) filter (where minute >= now() - interval '5 minutes'), 0)
             ::double precision / 5 as per_minute_now,
         coalesce(sum(retries) filter (where minute < now() - interval '5 minutes'), 0)
             ::double precision / 60 as per_minute_before,
         coalesce(sum(retries) filter (where minute >= now() - interval '5 minutes'), 0)
             ::double precision * 12
             / nullif(sum(retries) filter (where minute < now() - interval '5 minutes'), 0)
             ::double precision as times_usual
from     projector.retry_minutes
where    minute >= now() - interval '65 minutes'
and      minute <= now()
group by step
having   sum(retries) <> 0;

comment on view projector.retry_storms is
    'Which steps retry more now than usual? The last 5 minutes against the 60 before them; '
    'times_usual is null where there was nothing before. Over 3 with more than a few retries is a '
    'storm.';


create view projector.call_duration_histogram as
select   hour, playbook, step, attempts, status, bucket, projector.seconds_of(bucket) as duration_s,
         sum(calls)::bigint as calls
from     projector.call_times
where    measure = 'duration'
group by hour, playbook, step, attempts, status, bucket
having   sum(calls) <> 0;

comment on view projector.call_duration_histogram is
    'How are the durations of calls distributed? Buckets can be added up over hours and steps; '
    'duration_s, the middle of a bucket, is at most 4.5 % off.';

create view projector.call_durations_by_attempt as
select   hour, step, attempts, max(total) as calls,
         projector.seconds_of(min(bucket) filter (where 2 * up_to >= total)) as p50_s,
         projector.seconds_of(min(bucket) filter (where 20 * up_to >= 19 * total)) as p95_s,
         projector.seconds_of(min(bucket) filter (where 100 * up_to >= 99 * total)) as p99_s
from     (
             select   hour, step, attempts, bucket,
                      (sum(sum(calls)::bigint) over (
                          partition by hour, step, attempts order by bucket
                      ))::bigint as up_to,
                      (sum(sum(calls)::bigint) over (
                          partition by hour, step, attempts
                      ))::bigint as total
             from     projector.call_times
             where    measure = 'duration'
             group by hour, step, attempts, bucket
             having   sum(calls) <> 0
         ) as cumulated
group by hour, step, attempts;

comment on view projector.call_durations_by_attempt is
    'How long do calls take, by step and attempt: median, 95th and 99th percentile, at most 4.5 % '
    'off? For more than an hour add up call_duration_histogram.';

create view projector.call_queue_waits as
select   hour, step, max(total) as calls,
         projector.seconds_of(min(bucket) filter (where 2 * up_to >= total)) as p50_s,
         projector.seconds_of(min(bucket) filter (where 20 * up_to >= 19 * total)) as p95_s,
         projector.seconds_of(min(bucket) filter (where 100 * up_to >= 99 * total)) as p99_s
from     (
             select   hour, step, bucket,
                      (sum(sum(calls)::bigint) over (
                          partition by hour, step order by bucket
                      ))::bigint as up_to,
                      (sum(sum(calls)::bigint) over (partition by hour, step))::bigint as total
             from     projector.call_times
             where    measure = 'queue'
             group by hour, step, bucket
             having   sum(calls) <> 0
         ) as cumulated
group by hour, step;

comment on view projector.call_queue_waits is
    'How long do commands wait from issued to claimed, by step? Those of calls that finished in '
    'the hour; what still waits is in open_calls.';

create view projector.retry_backoffs as
select   hour, step, attempts, max(total) as retries,
         projector.seconds_of(min(bucket) filter (where 2 * up_to >= total)) as p50_s,
         projector.seconds_of(min(bucket) filter (where 20 * up_to >= 19 * total)) as p95_s,
         projector.seconds_of(min(bucket) filter (where 100 * up_to >= 99 * total)) as p99_s
from     (
             select   hour, step, attempts, bucket,
                      (sum(sum(calls)::bigint) over (
                          partition by hour, step, attempts order by bucket
                      ))::bigint as up_to,
                      (sum(sum(calls)::bigint) over (
                          partition by hour, step, attempts
                      ))::bigint as total
             from     projector.call_times
             where    measure = 'backoff'
             group by hour, step, attempts, bucket
             having   sum(calls) <> 0
         ) as cumulated
group by hour, step, attempts;

comment on view projector.retry_backoffs is
    'How long is waited between a failure and the retry after it, by step and attempt?';

create view projector.call_time_counts as
select hour, measure, playbook, step, attempts, status, bucket, calls
from   projector.call_times;

comment on view projector.call_time_counts is
    'What do the views of durations, queue waits and backoffs add up? Ask it for long windows. Rows '
    'are parts, as in event_counts; projector.seconds_of(bucket) is the middle of a bucket.';

create view projector.failures_by_error as
select   hour, step, attempts, status, error_class, sum(calls)::bigint as calls
from     projector.error_hours
group by hour, step, attempts, status, error_class
having   sum(calls) <> 0;

comment on view projector.failures_by_error is
    'What do calls fail of, by attempt? error_class is the error text without its numbers, ids and '
    'quoted parts.';

create view projector.worker_failures as
select   hour, worker_id, sum(calls)::bigint as calls,
         coalesce(sum(calls) filter (where status <> 'COMPLETED'), 0)::bigint as failed,
         coalesce(sum(calls) filter (where status <> 'COMPLETED'), 0)::double precision
             / sum(calls)::double precision as error_rate,
         sum(duration_us)::double precision / 1000000
             / nullif(sum(timed), 0)::double precision as mean_duration_s
from     projector.worker_hours
group by hour, worker_id
having   sum(calls) <> 0;

comment on view projector.worker_failures is
    'Which worker fails more than others? error_rate = failed / calls.';


create view projector.executions as
select execution_id, hour, playbook, version, status, catalog_id, parent_execution_id, first_at,
       last_at, ended_at, extract(epoch from ended_at - first_at)::double precision as duration_s,
       events, highest_attempts,
       (
           select count(*)
           from   projector.call_facts as failure
           where  failure.execution_id = facts.execution_id
           and    substr(failure.told_outcome, 19) <> 'COMPLETED'
           and    coalesce(projector.undated(failure.told_step), '') <> '__orchestrate__'
       ) as failed_calls,
       completed, failed, cancelled,
       (completed > 0)::integer + (failed > 0)::integer + (cancelled > 0)::integer > 1
           as contradicting,
       coalesce(active_at > ended_at, false) as active_after_end,
       last_told[2] as last_event_type, last_told[3] as last_step,
       least_event_id, greatest_event_id, least_derived_id, greatest_derived_id, least_hashed_id,
       greatest_hashed_id, archived
from   (
           select execution_id, events, first_at, last_at, active_at, least_event_id,
                  greatest_event_id, least_derived_id, greatest_derived_id, least_hashed_id,
                  greatest_hashed_id, highest_attempts, catalog_id, parent_execution_id, completed,
                  failed, cancelled, archived,
                  projector.hour_of(first_at) as hour,
                  projector.playbook_of(told_playbook) as playbook,
                  projector.version_of(told_playbook) as version,
                  last_told,
                  least(completed_at, failed_at, cancelled_at) as ended_at,
                  coalesce(
                      nullif(projector.outcome_of(completed_at, failed_at, cancelled_at), ''),
                      'RUNNING'
                  ) as status
           from   projector.execution_facts
           where  not forgotten
       ) as facts;


comment on view projector.executions is
    'How does each execution stand? status is RUNNING, or how its earliest lifecycle end says; '
    'contradicting: its ends disagree; active_after_end: something still happened later. hour is '
    'that of its first event.';

create view projector.execution_outcomes as
select   hour, playbook, outcome as status, sum(executions)::bigint as executions
from     projector.execution_hours
where    outcome <> 'BEGUN'
group by hour, playbook, outcome
having   sum(executions) <> 0;

comment on view projector.execution_outcomes is
    'How many executions ended in which status, over time? By the hour of their end.';

create view projector.executions_begun as
select   hour, playbook, sum(executions)::bigint as executions
from     projector.execution_hours
where    outcome = 'BEGUN'
group by hour, playbook
having   sum(executions) <> 0;

comment on view projector.executions_begun is
    'How many executions began, over time? By the hour of the event that began them.';

create view projector.execution_counts as
select hour, playbook, outcome, executions
from   projector.execution_hours;

comment on view projector.execution_counts is
    'What do execution_outcomes and executions_begun add up? Ask it for long windows. Rows are '
    'parts, as in event_counts.';

create view projector.freshness as
select known.topic, known.partition, position.generation,
       case
           when position.topic is null then 'unclaimed'
           when position.cluster_id = 'file' then 'file'
           when told.heartbeat_at is null or told.heartbeat_at < now() - interval '10 seconds'
           then 'dead'
           when told.stopped then 'stopped'
           when told.end_seen_at < now() - interval '10 seconds' then 'broker_away'
           when position.next_offset >= told.log_end then 'quiet'
           when told.behind_since < told.heartbeat_at - interval '10 seconds' then 'behind'
           else 'reading'
       end as state,
       position.next_offset, told.log_end,
       greatest(told.log_end - coalesce(position.next_offset, told.log_start), 0) as unread,
       case
           when told.heartbeat_at is not null then coalesce(told.behind_since, told.end_seen_at)
           else to_timestamp(position.last_recorded_ms / 1000.0)
       end as as_of,
       extract(epoch from told.heartbeat_at - coalesce(told.behind_since, told.heartbeat_at))
           ::double precision as behind_s,
       told.heartbeat_at, told.end_seen_at,
       position.records, position.stored, position.joined, position.duplicate,
       position.quarantined, position.ignored,
       to_timestamp(position.last_recorded_ms / 1000.0) as last_recorded_at,
       position.committed_at as last_committed_at,
       extract(epoch from position.committed_at)::double precision
           - position.last_recorded_ms / 1000.0::double precision as delay_s,
       extract(epoch from now() - position.committed_at)::double precision as silent_s
from   (
           select topic, partition
           from   normalizer.source_position
           union
           select topic, generate_series(0, partition_count - 1)
           from   normalizer.source_log
       ) as known (topic, partition)
left join lateral (
    select   *
    from     normalizer.source_position as latest
    where    latest.topic = known.topic and latest.partition = known.partition
    order by generation desc
    limit    1
) as position on true
left join normalizer.source_log as told
       on  told.topic = known.topic and told.partition = known.partition
       and told.generation = position.generation;

comment on view projector.freshness is
    'How fresh is what all views show, and who keeps it so? state: quiet (all of the log is here), '
    'reading, behind (by more than 10 s), dead (no heartbeat for 10 s: no process), broker_away (a '
    'heartbeat, but the broker does not say where the log ends), stopped (the process leaves it '
    'alone), unclaimed (nobody ever read it), file (played from one). as_of: all that the log held '
    'then is in every view.';

-- What is silent or waits is measured on the log that its execution's last event came from.
create view projector.stuck_executions as
select facts.execution_id, projector.hour_of(facts.first_at) as hour,
       projector.playbook_of(facts.told_playbook) as playbook, facts.first_at, facts.last_at,
       extract(epoch from log.as_of - facts.first_at)::double precision as age_s,
       extract(epoch from log.as_of - facts.last_at)::double precision as silent_s,
       facts.last_told[2] as last_event_type, facts.last_told[3] as last_step,
       facts.events, facts.highest_attempts
from   projector.execution_facts as facts
join   projector.freshness as log
       on  log.topic = facts.last_told[4]
       and log.partition = facts.last_told[5]::integer
where  facts.completed_at is null
and    facts.failed_at is null
and    facts.cancelled_at is null
and    not facts.forgotten
and    facts.last_at < log.as_of - interval '5 minutes';

comment on view projector.stuck_executions is
    'Which executions have not ended and say nothing any more, since when, and what was their last '
    'event? Silent for at least 5 minutes of the time of the partition that it came from: while '
    'nobody reads that, nothing becomes stuck. hour is that of the first event.';

create view projector.executions_without_end as
select facts.execution_id, projector.hour_of(facts.first_at) as hour,
       projector.playbook_of(facts.told_playbook) as playbook, tries.calls,
       tries.last_finished_at, facts.last_at,
       extract(epoch from log.as_of - facts.last_at)::double precision as silent_s
from   projector.execution_facts as facts
cross join lateral (
    select count(*) as calls, max(finished_at) as last_finished_at,
           bool_and(finished_at is not null) as all_finished
    from   projector.call_facts
    where  call_facts.execution_id = facts.execution_id
    and    coalesce(projector.undated(told_step), '') <> '__orchestrate__'
) as tries
left join projector.freshness as log
       on  log.topic = facts.last_told[4]
       and log.partition = facts.last_told[5]::integer
where  facts.completed_at is null
and    facts.failed_at is null
and    facts.cancelled_at is null
and    not facts.forgotten
and    tries.all_finished;

comment on view projector.executions_without_end is
    'Which executions have finished all their calls and yet no end of their own? hour is that of '
    'the first event.';

create view projector.contradicting_executions as
select hour, execution_id, playbook, status, ended_at, completed_at, failed_at, cancelled_at,
       active_at as last_activity_at, contradicting, active_after_end
from   (
           select projector.hour_of(least(completed_at, failed_at, cancelled_at)) as hour,
                  execution_id, projector.playbook_of(told_playbook) as playbook,
                  projector.outcome_of(completed_at, failed_at, cancelled_at) as status,
                  least(completed_at, failed_at, cancelled_at) as ended_at,
                  completed_at, failed_at, cancelled_at, active_at,
                  (completed > 0)::integer + (failed > 0)::integer + (cancelled > 0)::integer > 1
                      as contradicting,
                  coalesce(active_at > least(completed_at, failed_at, cancelled_at), false)
                      as active_after_end
           from   projector.execution_facts
           where  not forgotten
       ) as facts
where  contradicting or active_after_end;

comment on view projector.contradicting_executions is
    'Which executions ended in two ways, or went on after their end? hour is that of the end. A '
    'command.completed after the end is normal and counts for nothing here.';

create view projector.completed_with_failures as
select projector.hour_of(least(facts.completed_at, facts.failed_at, facts.cancelled_at)) as hour,
       facts.execution_id, projector.playbook_of(facts.told_playbook) as playbook,
       least(facts.completed_at, facts.failed_at, facts.cancelled_at) as ended_at,
       failures.failed_calls, failures.last_failed_at
from   projector.execution_facts as facts
cross join lateral (
    select count(*) as failed_calls, max(finished_at) as last_failed_at
    from   projector.call_facts as failure
    where  failure.execution_id = facts.execution_id
    and    substr(failure.told_outcome, 19) <> 'COMPLETED'
    and    coalesce(projector.undated(failure.told_step), '') <> '__orchestrate__'
) as failures
where  projector.outcome_of(facts.completed_at, facts.failed_at, facts.cancelled_at) = 'COMPLETED'
and    not facts.forgotten
and    failures.failed_calls > 0;

comment on view projector.completed_with_failures is
    'Which executions completed although a call of theirs failed? A failure that a retry made good '
    'counts too. hour is that of the end.';


create view projector.calls as
select hour, execution_id,
       (
           select projector.playbook_of(execution.told_playbook)
           from   projector.execution_facts as execution
           where  execution.execution_id = facts.execution_id
       ) as playbook,
       step, command_id, iteration, attempts, status, begun_at, issued_at, claimed_at, started_at,
       finished_at,
       coalesce(told_duration_us, projector.microseconds_between(started_at, finished_at))
           / 1000000::double precision as duration_s,
       projector.microseconds_between(issued_at, claimed_at) / 1000000::double precision as queue_s,
       projector.microseconds_between(failed_before, begun_at) / 1000000::double precision
           as backoff_s,
       max_attempts,
       status in ('FAILED', 'ERROR', 'CANCELLED') and coalesce(attempts + 1 >= max_attempts, false)
           as exhausted,
       worker_id, error
from   (
           select execution_id, attempts, iteration, begun_at, issued_at, claimed_at, started_at,
                  finished_at, failed_before,
                  projector.hour_of(coalesce(finished_at, begun_at)) as hour,
                  projector.command_of(call_key) as command_id,
                  coalesce(projector.undated(told_step), '') as step,
                  case
                      when finished_at is not null then substr(told_outcome, 19)
                      when started_at is not null then 'RUNNING'
                      when claimed_at is not null then 'CLAIMED'
                      else 'PENDING'
                  end as status,
                  projector.unsorted(substr(told_duration, 19)) as told_duration_us,
                  case
                      when substr(told_outcome, 19) is distinct from 'COMPLETED'
                      then substr(told_error, 19)
                  end as error,
                  projector.undated(told_worker) as worker_id,
                  projector.unsorted(projector.undated(told_limit)) as max_attempts
           from   projector.call_facts
       ) as facts
where  step <> '__orchestrate__';

comment on view projector.calls is
    'What became of each try of each command? hour is that of its end, or of its begin while it '
    'runs; attempts 0 is the first try.';

create view projector.open_calls as
select facts.hour, facts.execution_id, projector.playbook_of(execution.told_playbook) as playbook,
       facts.step, facts.command_id, facts.iteration, facts.attempts, facts.worker_id,
       facts.waits_for, facts.since,
       extract(epoch from log.as_of - facts.since)::double precision as waiting_s
from   (
           select execution_id, attempts, iteration, projector.hour_of(begun_at) as hour,
                  projector.command_of(call_key) as command_id,
                  coalesce(projector.undated(told_step), '') as step,
                  projector.undated(told_worker) as worker_id,
                  case
                      when started_at is not null then 'finish'
                      when claimed_at is not null then 'start'
                      else 'claim'
                  end as waits_for,
                  coalesce(started_at, claimed_at, issued_at, begun_at) as since
           from   projector.call_facts
           where  finished_at is null
       ) as facts
left join projector.execution_facts as execution on execution.execution_id = facts.execution_id
left join projector.freshness as log
       on  log.topic = execution.last_told[4]
       and log.partition = execution.last_told[5]::integer
where  facts.step <> '__orchestrate__';

comment on view projector.open_calls is
    'Which calls were issued and never claimed, claimed and never started, started and never '
    'finished, and for how long? hour is that of their begin.';

create view projector.tries_in_order as
select facts.execution_id, projector.hour_of(facts.first_at) as hour, tries.step, tries.iteration,
       tries.ordinal, tries.attempts, tries.command_id, tries.begun_at, tries.status
from   projector.execution_facts as facts
cross join lateral (
    select coalesce(projector.undated(told_step), '') as step, iteration, attempts,
           projector.command_of(call_key) as command_id, begun_at,
           coalesce(substr(told_outcome, 19), 'RUNNING') as status,
           row_number() over (
               partition by projector.undated(told_step), iteration
               order by begun_at, attempts, call_key
           ) - 1 as ordinal
    from   projector.call_facts
    where  call_facts.execution_id = facts.execution_id
    and    coalesce(projector.undated(told_step), '') <> '__orchestrate__'
) as tries;

comment on view projector.tries_in_order is
    'Which tries were made of each step and iteration of an execution, in order? ordinal counts '
    'them from 0, attempts is what their events declare: where ordinal is greater, a command was '
    'issued anew, or a loop does not number its iterations. hour is that of the first event.';


create view projector.execution_timeline as
select event.execution_id, event.created_at, event.event_id, event.event_type, event.step,
       event.status, event.attempts, event.command_id, event.iteration, event.worker_id,
       event.max_attempts, event.duration, event.error, event.node_type, event.catalog_id,
       event.parent_event_id, event.parent_execution_id, event.context, event.result, event.meta,
       event.extra, event.coercions, event.evidence, event.shape, event.normalizer_version,
       event.source_topic, event.source_generation, event.source_partition, event.source_offset,
       event.source_index, event.headers, event.trace_id, event.recorded_at, event.ingested_at
from   projector.execution_facts as facts
join   normalizer.events as event
       on  event.execution_id = facts.execution_id
       and (
               event.event_id between facts.least_event_id and facts.greatest_event_id
               or event.event_id between facts.least_derived_id and facts.greatest_derived_id
               or event.event_id between facts.least_hashed_id and facts.greatest_hashed_id
           );

comment on view projector.execution_timeline is
    'What happened in one execution, event by event? Always name the execution_id: this is the one '
    'view that reads the log itself.';


create view projector.quarantine_by_reason as
select   hour, reason, shape, sum(refused)::bigint as refused
from     projector.quarantine_hours
group by hour, reason, shape
having   sum(refused) <> 0;

comment on view projector.quarantine_by_reason is
    'What was refused, why, and in which shape, by hour? `normalizer quarantine list` shows each.';

create view projector.coercions_by_rule as
select   hour, shape, rule, sum(coercions)::bigint as coercions
from     projector.coercion_hours
group by hour, shape, rule
having   sum(coercions) <> 0;

comment on view projector.coercions_by_rule is
    'Which values had their meaning changed or guessed, by which rule, in which shape? By the hour '
    'the log got them.';

create view projector.defaults_by_shape as
select   hour, shape, sum(events)::bigint as events,
         coalesce(sum(events) filter (where evidence / 100 = 0), 0)::bigint as attempts_defaulted,
         coalesce(sum(events) filter (where evidence / 10 % 10 = 0), 0)::bigint as status_from_name,
         coalesce(sum(events) filter (where evidence % 10 = 0), 0)::bigint as time_from_log
from     projector.arrival_hours
group by hour, shape
having   sum(events) <> 0;

comment on view projector.defaults_by_shape is
    'How much did producers leave unsaid, by shape: which try it was, how it went, when it '
    'happened? Each of events; by the hour the log got them.';

create view projector.late_arrivals as
select   hour, shape,
         (
             array['unknown', 'clock ahead', 'under 1 s', 'under 10 s', 'under 1 min',
                   'under 10 min', 'under 1 h', 'under 1 day', 'over 1 day']
         )[lateness + 1] as lateness,
         lateness in (0, 2) as on_time, sum(events)::bigint as events
from     projector.arrival_hours
group by hour, shape, lateness
having   sum(events) <> 0;

comment on view projector.late_arrivals is
    'How late after they happened do events reach the log? By the hour they got there. clock '
    'ahead: the producer said a time more than a second after the log''s.';

create view projector.gaps as
select topic, partition, generation, first_offset, next_offset,
       offsets, reason, found_at, projector.hour_of(found_at) as hour
from   normalizer.gap;

comment on view projector.gaps is
    'How many offsets between these two gave no record, and why? hole: none was there (markers of '
    'transactions share a row with their neighbours); expired: retention was faster; skipped: an '
    'operator said so.';

create view projector.agreement as
with latest as (
    select distinct on (projection) *
    from   projector.verification
    order by projection, verified_at desc, verification_id desc
),
differed as (
    select distinct on (projection) projection, detail
    from   projector.verification
    where  verdict = 'divergent'
    order by projection, verified_at desc, verification_id desc
),
scoped as (
    select   projection,
             max(verified_at) filter (where scope = 'all')    as all_verified_at,
             max(verified_at) filter (where scope = 'range')  as range_verified_at,
             max(verified_at) filter (where scope = 'sample') as sample_verified_at
    from     projector.verification
    where    verdict <> 'cannot tell'
    group by projection
),
standing as (
    select   projection, count(distinct (execution_id, hour)) as divergent,
             min(noted_at) as divergent_since
    from     projector.divergent
    where    ended_at is null
    group by projection
)
select projection,
       case
           when standing.divergent > 0 then 'divergent'
           when latest.verdict = 'divergent' then 'match'
           else latest.verdict
       end as verdict,
       coalesce(latest.scope, '') as scope, coalesce(latest.compared, 0) as compared,
       coalesce(standing.divergent, 0) as divergent, standing.divergent_since,
       coalesce(latest.archived, 0) as archived,
       case when standing.divergent > 0 then coalesce(differed.detail, '') else latest.detail end
           as detail,
       latest.verified_at, latest.took_s,
       extract(epoch from now() - latest.verified_at)::double precision as age_s,
       scoped.all_verified_at, scoped.range_verified_at, scoped.sample_verified_at
from   latest
full join standing using (projection)
left join differed using (projection)
left join scoped using (projection);

comment on view projector.agreement is
    'Do the views agree with the log? divergent: places of a projection known to differ, until a '
    'comparison that covers them finds that they agree; else what `projector verify` found last. '
    'When each scope was compared last: all, a range of hours, a sample.';


-- What each column means: a name means one thing everywhere, but for those that name their view.
do $$
declare
    meant record;
begin
    for meant in
        with meaning (view, name, meaning) as (
            values ('', 'active_after_end',
                    'whether anything but a report of an end is later than ended_at'),
                   ('', 'archived', 'how many of its events retention has taken'),
                   ('', 'as_of', 'all that the log held at this time is in every view'),
                   ('', 'attempts', 'how many retries came before: 0 is the first try'),
                   ('', 'attempts_defaulted', 'events that do not say which try they tell of'),
                   ('', 'attempts_per_success', 'tries / succeeded'),
                   ('', 'backoff_s',
                    'seconds from the failure before this retry to its begin; null for a first '
                    'try'),
                   ('', 'begun_at', 'the first that was heard of the try'),
                   ('', 'behind_s',
                    'seconds from as_of to the heartbeat, 0 where all was here'),
                   ('', 'bucket',
                    'number of the histogram''s bucket: 2^(bucket/8) microseconds and up'),
                   ('', 'calls', 'tries of commands'),
                   ('', 'cancelled', 'how many events end it as CANCELLED'),
                   ('', 'cancelled_at', 'the first event that ends it as CANCELLED'),
                   ('', 'catalog_id', 'the playbook''s entry in the catalog'),
                   ('', 'claimed_at', 'when a worker took it'),
                   ('', 'coercions', 'values whose meaning was changed or guessed'),
                   ('', 'command_id', 'the command''s id; null where producers gave none'),
                   ('', 'compared', 'rows compared'),
                   ('', 'completed', 'how many events end it as COMPLETED'),
                   ('', 'completed_at', 'the first event that ends it as COMPLETED'),
                   ('', 'context', 'the producer''s JSON'),
                   ('', 'contradicting', 'whether its ends disagree'),
                   ('', 'created_at', 'when it happened, as its producer says'),
                   ('', 'delay_s',
                    'seconds from the log''s time of the last record to its commit here'),
                   ('', 'detail', 'what differs, or why it cannot be told'),
                   ('', 'divergent',
                    'executions or hours known to differ and not compared again since'),
                   ('', 'divergent_since', 'when the oldest of them was noted'),
                   ('', 'all_verified_at', 'when all of it was compared last'),
                   ('', 'range_verified_at', 'when a range of it was compared last'),
                   ('', 'sample_verified_at', 'when a sample of it was compared last'),
                   ('', 'duplicate', 'outcomes that were there already'),
                   ('', 'duration', 'seconds, where the producer told them'),
                   ('', 'duration_s', 'seconds it took: as told, else from its start to its end'),
                   ('', 'ended_at', 'the earliest lifecycle end; null while it runs'),
                   ('', 'end_seen_at', 'when the broker last said where the log ends'),
                   ('', 'error', 'error text, its first 1,000 characters; null where it completed'),
                   ('', 'error_class', 'the error text without quoted parts, numbers and ids'),
                   ('', 'error_rate', 'failed / calls'),
                   ('', 'event_id', 'id of the event'),
                   ('', 'event_type', 'as its producer wrote it'),
                   ('', 'events', 'events'),
                   ('', 'events_per_s', 'events / 60'),
                   ('', 'evidence',
                    'three digits: where attempts, status and created_at came from'),
                   ('', 'execution_id', 'id of the execution'),
                   ('', 'executions', 'executions'),
                   ('', 'exhausted', 'failed tries that were the last one allowed'),
                   ('', 'exhausted_rate', 'exhausted / failed'),
                   ('', 'extra', 'what the producer sent beyond the envelope'),
                   ('', 'failed', 'tries that ended FAILED, ERROR or CANCELLED'),
                   ('', 'failed_at', 'the first event that ends it as FAILED'),
                   ('', 'failed_calls', 'its tries that ended FAILED, ERROR or CANCELLED'),
                   ('', 'finished_at', 'when it was over; null while it runs'),
                   ('', 'first_at', 'its first event'),
                   ('', 'first_offset', 'the first offset without a record'),
                   ('', 'found_at', 'when the gap was met'),
                   ('', 'generation', 'how often the topic was made anew'),
                   ('', 'greatest_derived_id', 'bounds of its derived ids, 2^62 and more'),
                   ('', 'greatest_event_id', 'bounds of its ids below 2^62, to find them fast'),
                   ('', 'greatest_hashed_id', 'bounds of its hashed ids, 2^62 + 2^61 and more'),
                   ('', 'headers', 'the record''s headers, redacted'),
                   ('', 'heartbeat_at', 'when the process that owns the partition last said it lives'),
                   ('', 'highest_attempts', 'the most retries any of its events speaks of'),
                   ('', 'hour', 'the hour, UTC'),
                   ('', 'ignored',
                    'outcomes that are no event: tombstones, empty batches, expired ones'),
                   ('', 'ingested_at', 'when it was stored'),
                   ('', 'issued_at', 'when the command was issued'),
                   ('', 'iteration', 'number in a loop; null outside one'),
                   ('', 'joined', 'outcomes that told more of an event that was there'),
                   ('', 'last_activity_at',
                    'the last event that is neither an end nor the report of one'),
                   ('', 'last_at', 'its last event'),
                   ('', 'last_committed_at', 'when the last batch was committed'),
                   ('', 'last_event_type', 'type of its last event'),
                   ('', 'last_failed_at', 'when the last of them failed'),
                   ('', 'last_finished_at', 'when the last of its calls was over'),
                   ('', 'last_recorded_at', 'the log''s time of the last record read'),
                   ('', 'last_step', 'step of its last event'),
                   ('', 'lateness', 'how long after it happened the log got it'),
                   ('', 'least_derived_id', 'bounds of its derived ids, 2^62 and more'),
                   ('', 'least_event_id', 'bounds of its ids below 2^62, to find them fast'),
                   ('', 'least_hashed_id', 'bounds of its hashed ids, 2^62 + 2^61 and more'),
                   ('', 'log_end', 'the offset after the last committed record of the log'),
                   ('', 'max_attempts', 'how many tries are allowed in all'),
                   ('', 'mean_duration_s', 'mean of the durations that are known'),
                   ('', 'meta', 'the producer''s JSON, with attempts'),
                   ('', 'measure', 'what was timed: duration, queue or backoff'),
                   ('', 'minute', 'the minute, UTC'),
                   ('', 'next_offset', 'the offset that is read next'),
                   ('', 'node_type', 'what kind of step'),
                   ('', 'normalizer_version', 'version of the rules that made the row'),
                   ('', 'offsets', 'how many offsets'),
                   ('', 'on_time', 'under a second, or not to be told'),
                   ('', 'ordinal', 'which try of this step and iteration it was, by time, from 0'),
                   ('', 'outcome', 'BEGUN, or how they ended: COMPLETED, FAILED or CANCELLED'),
                   ('', 'p50_s', 'median, seconds'),
                   ('', 'p95_s', '95th percentile, seconds'),
                   ('', 'p99_s', '99th percentile, seconds'),
                   ('', 'parent_event_id', 'the event that caused it'),
                   ('', 'parent_execution_id', 'the execution that began it'),
                   ('', 'partition', 'partition of the topic'),
                   ('', 'per_minute_before', 'retries a minute in the 60 minutes before those'),
                   ('', 'per_minute_now', 'retries a minute in the last 5 minutes'),
                   ('', 'playbook', 'path of the playbook; empty while it is not known'),
                   ('', 'projection', 'what was compared'),
                   ('', 'quarantined', 'outcomes that were refused'),
                   ('', 'queue_s', 'seconds from issued to claimed'),
                   ('', 'reason', 'why'),
                   ('', 'recorded_at', 'when the log got it'),
                   ('', 'records', 'records read'),
                   ('', 'recovered', 'retries that completed'),
                   ('', 'recovery_rate', 'recovered / retries'),
                   ('', 'refused', 'records and events that went to quarantine'),
                   ('', 'result', 'the producer''s JSON'),
                   ('', 'retries', 'tries with attempts above 0'),
                   ('', 'retries_before', 'retries in the 60 minutes before those'),
                   ('', 'retries_now', 'retries in the last 5 minutes'),
                   ('', 'rule', 'name of the rule'),
                   ('', 'scope', 'everything, range or sample'),
                   ('', 'shape', 'which producer''s envelope brought it'),
                   ('', 'silent_s', 'seconds since then'),
                   ('', 'since', 'since when it waits'),
                   ('', 'source_generation', 'coordinates of the record'),
                   ('', 'source_index', 'coordinates of the record'),
                   ('', 'source_offset', 'coordinates of the record'),
                   ('', 'source_partition', 'coordinates of the record'),
                   ('', 'source_topic', 'coordinates of the record'),
                   ('', 'started_at', 'when the worker began'),
                   ('', 'state', 'how the partition stands'),
                   ('', 'status', 'canonical status'),
                   ('', 'status_from_name', 'events whose status only their name tells'),
                   ('', 'step', 'step; empty where no event names one'),
                   ('', 'stored', 'outcomes that became rows'),
                   ('', 'succeeded', 'tries that completed'),
                   ('', 'success_rate', 'succeeded / calls'),
                   ('', 'time_from_log', 'events whose time is only the log''s'),
                   ('', 'times_usual', 'per_minute_now / per_minute_before'),
                   ('', 'took_s', 'seconds it took to compare'),
                   ('', 'topic', 'topic'),
                   ('', 'trace_id', 'trace the record was part of'),
                   ('', 'tries', 'all tries that finished'),
                   ('', 'unread', 'offsets from next_offset to log_end'),
                   ('', 'verdict', 'match, divergent, or cannot tell'),
                   ('', 'verified_at', 'when it was compared'),
                   ('', 'version',
                    'version of the playbook, where the event that began it says one'),
                   ('', 'waiting_s',
                    'seconds it has waited, by the log''s time; null where nobody reads that'),
                   ('', 'waits_for', 'what it waits for: claim, start or finish'),
                   ('', 'worker_id', 'the worker'),
                   ('agreement', 'age_s', 'seconds since then'),
                   ('stuck_executions', 'age_s', 'seconds since its first event'),
                   ('agreement', 'archived',
                    'rows left alone because some of their events were dropped'),
                   ('calls', 'exhausted', 'whether it failed and was the last try allowed'),
                   ('executions', 'failed', 'how many events end it as FAILED'),
                   ('executions', 'status', 'RUNNING, COMPLETED, FAILED or CANCELLED'),
                   ('execution_outcomes', 'status', 'COMPLETED, FAILED or CANCELLED'),
                   ('calls', 'status',
                    'COMPLETED, FAILED, ERROR or CANCELLED; before that PENDING, CLAIMED or '
                    'RUNNING'),
                   ('call_duration_histogram', 'duration_s', 'the bucket''s middle, in seconds'),
                   ('executions', 'duration_s', 'seconds from its first event to its end'),
                   ('executions_without_end', 'calls', 'how many calls it made'),
                   ('execution_timeline', 'error', 'error text'),
                   ('execution_timeline', 'coercions',
                    'values whose meaning was changed or guessed, with the original'),
                   ('executions_without_end', 'silent_s',
                    'seconds since its last event, by the log''s time; null where nobody reads that'),
                   ('stuck_executions', 'silent_s', 'seconds since its last event'),
                   ('retry_storms', 'minute', 'the last minute with a retry'),
                   ('gaps', 'next_offset', 'the offset after the last one without a record'),
                   ('retry_backoffs', 'retries', 'retries whose failure before is known')
        )
        select   distinct on (shown.table_name, shown.column_name)
                 shown.table_name, shown.column_name, meaning.meaning
        from     information_schema.columns as shown
        join     pg_views on pg_views.schemaname = shown.table_schema
                         and pg_views.viewname = shown.table_name
        join     meaning on meaning.name = shown.column_name
                        and meaning.view in ('', shown.table_name)
        where    shown.table_schema = 'projector'
        order by shown.table_name, shown.column_name, meaning.view desc
    loop
        execute format(
            'comment on column projector.%I.%I is %L',
            meant.table_name, meant.column_name, meant.meaning
        );
    end loop;
end
$$;

do $$
declare
    name text;
begin
    for name in
        select viewname from pg_views where schemaname = 'projector' and viewname <> 'counted_calls'
    loop
        execute format('grant select on projector.%I to normalizer_writer, projector_reader', name);
    end loop;
end
$$;

insert into migrations.applied (version) values ('0008') on conflict do nothing;

-- migrate:down
