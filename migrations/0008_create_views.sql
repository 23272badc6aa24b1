-- The views are the contract. Tables may change. Each view answers one question, which is its
-- comment. A view of counts or rates has an hour or a minute among its columns (bucket_start if it
-- mixes both): put your time range there, because it reaches an index. Rates come with numerator
-- and denominator, so that hours can be added up.
--
-- No view of many rows has a CTE at its top, because PostgreSQL wouldn't pull it up, and no `where`
-- would reach the tables. Shares are compared as whole numbers, because numeric is several times
-- slower, and floating-point numbers round.

create view projector.attempts_by_status as
select   minute as bucket_start, 60 as bucket_s, event_type, status, attempts,
         sum(events)::bigint as events, sum(attempts_defaulted)::bigint as attempts_defaulted
from     projector.event_minutes
where    minute >= projector.hour_of(now()) - interval '48 hours'
group by minute, event_type, status, attempts
having   sum(events) <> 0
union all
select   hour, 3600, event_type, status, attempts, sum(events)::bigint,
         sum(attempts_defaulted)::bigint
from     projector.event_hours
where    hour < projector.hour_of(now()) - interval '48 hours'
group by hour, event_type, status, attempts
having   sum(events) <> 0;

comment on view projector.attempts_by_status is
    'How many events of each type ended in which status at which attempt (0 is the first), over '
    'time? Each event is in one bucket: of a minute for the last 48 full hours and the running '
    'one, of an hour before that. events / bucket_s is the rate per second. The running minute '
    'is not complete yet. attempts is the number that the event itself was sent with, and 0 if '
    'it was sent with none: attempts_defaulted says how many of these events were. So don''t '
    'read calls from it: a retry whose worker sends no number is in the row of attempt 0 here, '
    'and under its own number in call_outcomes_by_attempt, which counts calls. Events of the '
    'step __orchestrate__ count here. event_counts can leave them out.';

create view projector.event_counts as
select hour, step, event_type, status, attempts, events, attempts_defaulted
from   projector.event_hours
where  events <> 0 or attempts_defaulted <> 0;

comment on view projector.event_counts is
    'How many events of each step and type ended in which status at which attempt, by hour? Rows '
    'are parts: several have the same keys, and some are negative, so only sums are true. '
    'attempts and attempts_defaulted are as in attempts_by_status. Events of the step '
    '__orchestrate__, calls of the engine itself, count here. Add step <> ''__orchestrate__'' to '
    'leave them out, as views of calls do.';


-- One view counts attempts of commands, and one counts how long they took. The reader sums the
-- parts: summing here too would do it twice for long ranges.
create view projector.call_outcomes_by_attempt as
select hour, playbook, step, attempts, status, calls,
       case when status = 'COMPLETED' then calls else 0 end as succeeded,
       case when status <> 'COMPLETED' then calls else 0 end as failed,
       exhausted, inferred
from   projector.call_hours
where  calls <> 0 or exhausted <> 0 or inferred <> 0;

comment on view projector.call_outcomes_by_attempt is
    'How did calls end, by attempt? Each row counts attempts by the hour of their end. failed '
    'are FAILED, ERROR and CANCELLED; exhausted are the failed ones that were the last allowed '
    'attempt. inferred are those whose attribution in calls is inferred. Rates are sums divided by sums. Rows are parts, as in event_counts. For minutes, '
    'count calls by finished_at. Calls of the step __orchestrate__ are left out.';


create view projector.retries_by_minute as
select   minute, step, sum(first_tries)::bigint as first_tries, sum(retries)::bigint as retries
from     projector.retry_minutes
where    minute >= (select kept_from from projector.maintenance_state where subject = 'minutes')
group by minute, step
having   sum(first_tries) <> 0 or sum(retries) <> 0;

comment on view projector.retries_by_minute is
    'How many first attempts and how many retries ended in each minute, by step? Minutes are '
    'kept for two days. Calls of the step __orchestrate__ are left out.';

create view projector.retry_storms as
select step, minute, first_tries_now, retries_now, first_tries_baseline, retries_baseline,
       retries_now / minutes_now as per_minute_now,
       retries_baseline::double precision / 60 as per_minute_baseline,
       ratio_now, ratio_baseline, ratio_now / nullif(ratio_baseline, 0) as ratio_vs_baseline,
       retries_now >= 20
           and 10 * retries_now >= 3 * greatest(first_tries_now, 1)
           and retries_now * greatest(first_tries_baseline, 1)
               >= 3 * retries_baseline * greatest(first_tries_now, 1) as storm
from   (
           select step, minute, first_tries_now, retries_now, first_tries_baseline,
                  retries_baseline, minutes_now,
                  retries_now::double precision / greatest(first_tries_now, 1) as ratio_now,
                  case
                      when first_tries_baseline + retries_baseline > 0
                      then retries_baseline::double precision / greatest(first_tries_baseline, 1)
                  end as ratio_baseline
           from   (
                      select   step, max(minute) filter (where retries <> 0) as minute,
                               coalesce(sum(first_tries) filter (where minute >= since), 0)::bigint
                                   as first_tries_now,
                               coalesce(sum(retries) filter (where minute >= since), 0)::bigint
                                   as retries_now,
                               coalesce(sum(first_tries) filter (where minute < since), 0)::bigint
                                   as first_tries_baseline,
                               coalesce(sum(retries) filter (where minute < since), 0)::bigint
                                   as retries_baseline,
                               extract(epoch from now() - min(since))::double precision / 60
                                   as minutes_now
                      from     projector.retries_by_minute
                      cross join (
                          select projector.minute_of(now()) - interval '5 minutes' as since
                      ) as latest
                      where    minute >= projector.minute_of(now()) - interval '65 minutes'
                      and      minute <= now()
                      group by step
                      having   sum(retries) <> 0
                  ) as counted
       ) as rated;

comment on view projector.retry_storms is
    'Which steps retry more now than usual? Compares retries per first attempt of the last 5 '
    'minutes and the running one with the 60 minutes before. storm: at least 20 retries now, and '
    'at least 3 times the usual ratio (0.1 if it is lower or not known). More traffic alone is '
    'not a storm. Calls of the step __orchestrate__ are left out.';


create view projector.call_time_histogram as
select hour, measure, playbook, step, attempts, status, bucket, calls
from   projector.call_times
where  calls <> 0;

comment on view projector.call_time_histogram is
    'How long do calls take (measure duration), how long do commands wait from issued to claimed '
    '(queue), and how long do retries wait after the failure before them (backoff)? By the hour '
    'of their end; what still waits is in open_calls. projector.percentile(0.95, bucket, calls) '
    'gives seconds, over any hours and keys; projector.seconds_of(bucket) is the middle of a '
    'bucket, at most 4.5 % off. Rows are parts, as in event_counts. Calls of the step '
    '__orchestrate__ are left out.';

create view projector.failures_by_error as
select   hour, step, attempts, status, error_class, sum(calls)::bigint as calls
from     projector.error_hours
group by hour, step, attempts, status, error_class
having   sum(calls) <> 0;

comment on view projector.failures_by_error is
    'Which errors do calls fail with, by attempt? error_class is the error text without its ids, '
    'e-mail addresses and quoted parts; HTTP and exit codes stay. Calls of the step '
    '__orchestrate__ are left out.';

create view projector.error_groups as
with recursive class as (
    -- Jumps from one class to the next by the index, so the cost depends on the number of classes.
    (
        select   projector.error_class_of(coalesce(projector.call_error(error_ranked), ''))
                     as error_class
        from     projector.call_facts
        where    finished_at is not null
        and      projector.call_failed(outcome_ranked)
        order by 1
        limit    1
    )
    union all
    select (
               select   projector.error_class_of(coalesce(projector.call_error(error_ranked), ''))
               from     projector.call_facts
               where    finished_at is not null
               and      projector.call_failed(outcome_ranked)
               and      projector.error_class_of(coalesce(projector.call_error(error_ranked), ''))
                        > class.error_class
               order by 1
               limit    1
           )
    from   class
    where  error_class is not null
)
select class.error_class, first.finished_at as first_seen_at, last.finished_at as last_seen_at,
       last.execution_id, last.step, last.attempts, last.error
from   class
cross join lateral (
    select   finished_at
    from     projector.call_facts
    where    finished_at is not null
    and      projector.call_failed(outcome_ranked)
    and      projector.error_class_of(coalesce(projector.call_error(error_ranked), ''))
             = class.error_class
    and      coalesce(projector.ranked_value(step_ranked), '') <> '__orchestrate__'
    order by finished_at
    limit    1
) as first
cross join lateral (
    select   finished_at, execution_id, attempts, projector.call_error(error_ranked) as error,
             coalesce(projector.ranked_value(step_ranked), '') as step
    from     projector.call_facts
    where    finished_at is not null
    and      projector.call_failed(outcome_ranked)
    and      projector.error_class_of(coalesce(projector.call_error(error_ranked), ''))
             = class.error_class
    and      coalesce(projector.ranked_value(step_ranked), '') <> '__orchestrate__'
    order by finished_at desc
    limit    1
) as last;

comment on view projector.error_groups is
    'Which error classes exist, when did each occur first and last, and where is a sample? Of '
    'the stored calls; the sample is the latest. failures_by_error has the counts. Calls of the '
    'step __orchestrate__ are left out.';

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
    'Which worker fails more than others? error_rate = failed / calls. Calls of the step '
    '__orchestrate__ are left out.';


create view projector.executions as
select execution_id, hour, playbook, version, status, catalog_id, parent_execution_id, first_at,
       begun_at, last_at, ended_at,
       extract(epoch from ended_at - first_at)::double precision as duration_s,
       events, highest_attempts,
       (
           select count(*)
           from   projector.call_facts as failure
           where  failure.execution_id = facts.execution_id
           and    projector.call_failed(failure.outcome_ranked)
           and    coalesce(projector.ranked_value(failure.step_ranked), '') <> '__orchestrate__'
       ) as failed_calls,
       completed, failed, cancelled,
       (completed > 0)::integer + (failed > 0)::integer + (cancelled > 0)::integer > 1
           as contradicting,
       coalesce(active_at > ended_at, false) as active_after_end,
       last_event_ranked[2] as last_event_type, last_event_ranked[3] as last_step
from   (
           select execution_id, events, first_at, begin_at as begun_at, last_at, active_at,
                  highest_attempts, catalog_id, parent_execution_id, completed, failed, cancelled,
                  projector.hour_of(first_at) as hour,
                  projector.playbook_of(playbook_ranked) as playbook,
                  projector.version_of(playbook_ranked) as version,
                  last_event_ranked,
                  least(completed_at, failed_at, cancelled_at) as ended_at,
                  coalesce(
                      nullif(projector.outcome_of(completed_at, failed_at, cancelled_at), ''),
                      'RUNNING'
                  ) as status
           from   projector.execution_facts
       ) as facts;


comment on view projector.executions is
    'What is the state of each execution? status is RUNNING, or the outcome of its earliest '
    'lifecycle end. contradicting: its ends disagree. active_after_end: something else happened '
    'after the end. hour is the hour of its first event. failed_calls leaves out calls of the '
    'step __orchestrate__.';

create view projector.execution_outcomes as
select hour, playbook, outcome, executions
from   projector.execution_hours
where  executions <> 0;

comment on view projector.execution_outcomes is
    'How many executions began, and how many ended in which status, over time? BEGUN is '
    'counted in the hour of the begin, the others in the hour of the end. Rows are parts, as '
    'in event_counts. For minutes, count executions by begun_at and ended_at.';

create view projector.playbook_versions as
select   hour, playbook, version, count(*) as executions,
         count(*) filter (where status = 'COMPLETED') as completed,
         count(*) filter (where status = 'FAILED') as failed,
         count(*) filter (where status = 'CANCELLED') as cancelled,
         extract(epoch from sum(ended_at - first_at))::double precision as total_duration_s
from     projector.executions
group by hour, playbook, version;

comment on view projector.playbook_versions is
    'How do versions of a playbook compare? By the hour of the first event; total_duration_s '
    'is of those that ended.';

create view projector.loops as
select facts.execution_id, projector.hour_of(facts.first_at) as hour, looped.step,
       looped.issued, looped.done, looped.failed
from   projector.execution_facts as facts
cross join lateral (
    select   step, count(*) as issued, count(*) filter (where completed) as done,
             count(*) filter (where finished and not completed) as failed
    from     (
                 select   coalesce(projector.ranked_value(step_ranked), '') as step, iteration,
                          coalesce(
                              bool_or(not projector.call_failed(outcome_ranked)), false
                          ) as completed,
                          bool_and(finished_at is not null) as finished
                 from     projector.call_facts
                 where    call_facts.execution_id = facts.execution_id
                 and      iteration is not null
                 group by 1, 2
             ) as iterations
    where    step <> '__orchestrate__'
    group by step
) as looped;

comment on view projector.loops is
    'How far is each loop: how many of its issued iterations are done? failed: iterations whose '
    'attempts have all ended, none of them COMPLETED. hour is the hour of the execution''s first '
    'event. Calls of the step __orchestrate__ are left out.';

-- A claim raises the epoch, so it takes a position back that an operator retired.
create view projector.freshness as
with retired as (
    select topic, incarnation, partition
    from   normalizer.source_positions
    join   normalizer.position_changes using (topic, incarnation, partition, epoch)
    where  action = 'retire'
)
select known.topic, known.partition, position.incarnation,
       case
           when position.topic is null then 'unclaimed'
           when coalesce(reported.heartbeat_at < now() - interval '10 seconds', true) then 'dead'
           when reported.stopped then 'stopped'
           when reported.log_end is null then 'reading'
           when reported.end_seen_at < now() - interval '10 seconds' then 'broker_away'
           when position.next_offset >= reported.log_end then 'caught_up'
           when least(reported.behind_since, read.as_of)
                < reported.heartbeat_at - interval '10 seconds'
           then 'behind'
           else 'reading'
       end as state,
       position.next_offset, reported.log_end,
       reported.log_end - least(position.next_offset, reported.log_end) as unread,
       read.as_of,
       extract(
           epoch from
           reported.heartbeat_at
           - case when reported.behind_since is null and reported.log_end is not null
                  then reported.heartbeat_at else read.as_of end
       )::double precision as behind_s,
       reported.heartbeat_at, reported.end_seen_at,
       position.records, position.stored, position.merged, position.duplicate,
       position.quarantined, position.ignored,
       to_timestamp(position.last_recorded_ms / 1000.0) as last_recorded_at,
       position.committed_at as last_committed_at,
       extract(epoch from position.committed_at)::double precision
           - position.last_recorded_ms / 1000.0::double precision as delay_s,
       extract(epoch from now() - position.committed_at)::double precision as silent_s
from   (
           select topic, partition
           from   normalizer.source_positions
           union
           select topic, generate_series(0, partition_count - 1)
           from   normalizer.source_heartbeats
           where  (topic, incarnation, partition) not in (
                      select topic, incarnation, partition from retired
                  )
       ) as known (topic, partition)
left join lateral (
    select   *
    from     normalizer.source_positions as latest
    where    latest.topic = known.topic and latest.partition = known.partition
    order by incarnation desc
    limit    1
) as position on true
left join normalizer.source_heartbeats as reported
       on  reported.topic = known.topic and reported.partition = known.partition
       and reported.incarnation = position.incarnation
-- If a log was never read to a known end, only the last record's time is known.
cross join lateral (
    select coalesce(
               case
                   when reported.behind_since is null then reported.end_seen_at
                   else nullif(reported.behind_since, reported.mark_at)
               end,
               to_timestamp(position.last_recorded_ms / 1000.0)
           ) as as_of
) as read
where  not exists (
           select
           from   retired
           where  (retired.topic, retired.incarnation, retired.partition)
                = (position.topic, position.incarnation, position.partition)
       );

comment on view projector.freshness is
    'How fresh is what all views show, and is a process keeping it fresh? state: caught_up '
    '(all of the log is stored), reading, behind (by more than 10 s), dead (no heartbeat '
    'for 10 s: no process), broker_away (a heartbeat, but the broker does not report '
    'the end of the log), stopped (the process leaves the partition alone), unclaimed (never '
    'read). as_of: every record that the log held at this time is in every view. Until a log '
    'was read to an end that was seen, that is the time of the last record that was read. '
    'A partition that an operator retired is left out until a process claims it.';

-- Not joined again by each view that measures silence or waiting.
create view projector.timed_executions as
select facts.*, case when log.topic is null then newest.as_of else log.as_of end as as_of
from   projector.execution_facts as facts
left join projector.freshness as log
       on  log.topic = facts.last_event_ranked[4]
       and log.partition::text = facts.last_event_ranked[5]
cross join (select max(as_of) as as_of from projector.freshness) as newest;

comment on view projector.timed_executions is
    'Private: up to what time has the log of each execution been read? as_of is that of the '
    'partition of its last event. If that has no position, for example because a backfill took the '
    'event from a file or a table, it is the newest as_of of the partitions of Kafka. This view is '
    'granted to nobody and may change.';

create view projector.stuck_executions as
select facts.execution_id, facts.begin_at is not null as begun,
       case
           when facts.as_of - facts.last_at < interval '1 hour' then 'under 1 h'
           when facts.as_of - facts.last_at < interval '24 hours' then 'under 1 day'
           when facts.as_of - facts.last_at < interval '168 hours' then 'under 7 days'
           else '7 days and more'
       end as silent_for,
       projector.hour_of(facts.first_at) as hour,
       projector.playbook_of(facts.playbook_ranked) as playbook, facts.first_at, facts.last_at,
       extract(epoch from facts.as_of - facts.first_at)::double precision as age_s,
       extract(epoch from facts.as_of - facts.last_at)::double precision as silent_s,
       facts.last_event_ranked[2] as last_event_type, facts.last_event_ranked[3] as last_step,
       facts.events, facts.highest_attempts
from   projector.timed_executions as facts
where  facts.completed_at is null
and    facts.failed_at is null
and    facts.cancelled_at is null
and    facts.last_at < facts.as_of - interval '5 minutes';

comment on view projector.stuck_executions is
    'Which executions have not ended and are silent, since when, and what was their last '
    'event? Silent for at least 5 minutes, by the as_of of the partition of the last event: '
    'while nobody reads that partition, nothing becomes stuck. If a backfill took the last event '
    'from a file or a table, by the newest as_of of the partitions of Kafka. begun is false for '
    'strays: no event that begins them was ever read. hour is the hour of the first event.';

create view projector.executions_without_end as
select facts.execution_id, projector.hour_of(facts.first_at) as hour,
       projector.playbook_of(facts.playbook_ranked) as playbook, tries.calls,
       tries.last_finished_at, facts.last_at,
       extract(epoch from facts.as_of - least(facts.last_at, facts.as_of))::double precision
           as silent_s
from   projector.timed_executions as facts
cross join lateral (
    select count(*) as calls, max(finished_at) as last_finished_at,
           bool_and(finished_at is not null) as all_finished
    from   projector.call_facts
    where  call_facts.execution_id = facts.execution_id
    and    coalesce(projector.ranked_value(step_ranked), '') <> '__orchestrate__'
) as tries
left join projector.freshness as log
       on  log.topic = facts.last_event_ranked[4]
       and log.partition::text = facts.last_event_ranked[5]
where  facts.completed_at is null
and    facts.failed_at is null
and    facts.cancelled_at is null
and    tries.all_finished;

comment on view projector.executions_without_end is
    'Which executions have finished all their calls but did not end? hour is the hour of the '
    'first event. Calls of the step __orchestrate__ are left out.';

create view projector.contradicting_executions as
select hour, execution_id, playbook, status, ended_at, completed_at, failed_at, cancelled_at,
       active_at as last_activity_at, contradicting, active_after_end
from   (
           select projector.hour_of(least(completed_at, failed_at, cancelled_at)) as hour,
                  execution_id, projector.playbook_of(playbook_ranked) as playbook,
                  projector.outcome_of(completed_at, failed_at, cancelled_at) as status,
                  least(completed_at, failed_at, cancelled_at) as ended_at,
                  completed_at, failed_at, cancelled_at, active_at,
                  (completed > 0)::integer + (failed > 0)::integer + (cancelled > 0)::integer > 1
                      as contradicting,
                  coalesce(active_at > least(completed_at, failed_at, cancelled_at), false)
                      as active_after_end
           from   projector.execution_facts
       ) as facts
where  contradicting or active_after_end;

comment on view projector.contradicting_executions is
    'Which executions ended in two ways, or continued after their end? hour is the hour of the '
    'end. A command.completed after the end is normal and does not count.';

create view projector.completed_with_failures as
select projector.hour_of(least(facts.completed_at, facts.failed_at, facts.cancelled_at)) as hour,
       facts.execution_id, projector.playbook_of(facts.playbook_ranked) as playbook,
       least(facts.completed_at, facts.failed_at, facts.cancelled_at) as ended_at,
       failures.failed_calls, failures.last_failed_at
from   projector.execution_facts as facts
cross join lateral (
    select count(*) as failed_calls, max(finished_at) as last_failed_at
    from   projector.call_facts as failure
    where  failure.execution_id = facts.execution_id
    and    projector.call_failed(failure.outcome_ranked)
    and    coalesce(projector.ranked_value(failure.step_ranked), '') <> '__orchestrate__'
) as failures
where  projector.outcome_of(facts.completed_at, facts.failed_at, facts.cancelled_at) = 'COMPLETED'
and    failures.failed_calls > 0;

comment on view projector.completed_with_failures is
    'Which executions completed although one of their calls failed? A failure counts even if a '
    'retry succeeded. hour is the hour of the end. Calls of the step __orchestrate__ are left '
    'out.';


create view projector.calls as
select hour, execution_id,
       (
           select projector.playbook_of(execution.playbook_ranked)
           from   projector.execution_facts as execution
           where  execution.execution_id = facts.execution_id
       ) as playbook,
       (
           select projector.version_of(execution.playbook_ranked)
           from   projector.execution_facts as execution
           where  execution.execution_id = facts.execution_id
       ) as version,
       (
           select execution.parent_execution_id
           from   projector.execution_facts as execution
           where  execution.execution_id = facts.execution_id
       ) as parent_execution_id,
       step, command_id, iteration, attempts, status, begun_at, issued_at, claimed_at, started_at,
       finished_at,
       coalesce(reported_duration_us, projector.microseconds_between(started_at, finished_at))
           / 1000000::double precision as duration_s,
       projector.microseconds_between(issued_at, claimed_at) / 1000000::double precision as queue_s,
       projector.microseconds_between(failed_before, begun_at) / 1000000::double precision
           as backoff_s,
       max_attempts,
       status in ('FAILED', 'ERROR', 'CANCELLED') and coalesce(attempts + 1 >= max_attempts, false)
           as exhausted,
       worker_id, error,
       case
           when status in ('FAILED', 'ERROR', 'CANCELLED')
           then coalesce(projector.error_class_of(error), '')
       end as error_class,
       attribution
from   (
           select execution_id, attempts, iteration, begun_at, issued_at, claimed_at, started_at,
                  finished_at, failed_before,
                  projector.hour_of(coalesce(finished_at, begun_at)) as hour,
                  command_id,
                  coalesce(projector.ranked_value(step_ranked), '') as step,
                  case
                      when finished_at is not null then projector.call_outcome(outcome_ranked)
                      when started_at is not null then 'RUNNING'
                      when claimed_at is not null then 'CLAIMED'
                      else 'PENDING'
                  end as status,
                  projector.call_duration_us(duration_ranked) as reported_duration_us,
                  projector.call_error(error_ranked) as error,
                  projector.ranked_value(worker_ranked) as worker_id,
                  projector.decode_bigint(projector.ranked_value(max_attempts_ranked))
                      as max_attempts,
                  projector.call_attribution(outcome_ranked, is_numbered, may_be_retried)
                      as attribution
           from   projector.call_facts
       ) as facts
where  step <> '__orchestrate__';

comment on view projector.calls is
    'How did each attempt of each command go? hour is the hour of its end, or of its begin while '
    'it runs. attempts 0 is the first attempt. If several events report the end of one attempt, '
    'the worst decides: FAILED or ERROR, then CANCELLED, then COMPLETED. For example, a call '
    'whose tool succeeds and whose command then fails is FAILED. An error that a later call of '
    'the same command handles still counts as one. A call that waits for a callback is open only '
    'if its command.completed says pending_callback, as noetl/worker does from 5.93.0 on. Under '
    'an older worker it is COMPLETED from the handover until the callback reports. Calls of the '
    'step __orchestrate__ are left out.';

create view projector.calls_without_command as
select   hour, step, event_type, status, sum(without_command)::bigint as events
from     projector.event_hours
where    event_type in (select event_type from projector.event_kinds where subject = 'call')
group by hour, step, event_type, status
having   sum(without_command) <> 0;

comment on view projector.calls_without_command is
    'How many events of calls name no command? They are counted as events, and belong to no '
    'call.';

create view projector.open_calls as
select facts.hour, facts.execution_id, projector.playbook_of(execution.playbook_ranked) as playbook,
       facts.step, facts.command_id, facts.iteration, facts.attempts, facts.begun_at,
       facts.worker_id, facts.waits_for, facts.since,
       extract(epoch from execution.as_of - least(facts.since, execution.as_of))::double precision
           as waiting_s
from   (
           select execution_id, attempts, iteration, begun_at,
                  projector.hour_of(begun_at) as hour, command_id,
                  coalesce(projector.ranked_value(step_ranked), '') as step,
                  projector.ranked_value(worker_ranked) as worker_id,
                  case
                      when started_at is not null then 'finish'
                      when claimed_at is not null then 'start'
                      else 'claim'
                  end as waits_for,
                  coalesce(started_at, claimed_at, issued_at, begun_at) as since
           from   projector.call_facts
           where  finished_at is null
       ) as facts
left join projector.timed_executions as execution on execution.execution_id = facts.execution_id
where  facts.step <> '__orchestrate__';

comment on view projector.open_calls is
    'Which calls were issued and never claimed, claimed and never started, or started and never '
    'finished, and for how long? hour is the hour of their begin. Calls of the step '
    '__orchestrate__ are left out.';

create view projector.attempts_in_order as
select facts.execution_id, projector.hour_of(facts.first_at) as hour, tries.step, tries.iteration,
       tries.ordinal, tries.attempts, tries.command_id, tries.begun_at, tries.status
from   projector.execution_facts as facts
cross join lateral (
    select step, iteration, attempts, command_id, begun_at, status,
           row_number() over (
               partition by step, iteration order by begun_at, attempts, command_id
           ) - 1 as ordinal
    from   projector.calls
    where  calls.execution_id = facts.execution_id
) as tries;

comment on view projector.attempts_in_order is
    'Which attempts were made of each step and iteration of an execution, in order? ordinal '
    'counts them from 0, attempts is what their events declare. If ordinal is greater, a command '
    'was issued again, or a loop does not number its iterations. hour is the hour of the first '
    'event. Calls of the step __orchestrate__ are left out.';


create view projector.execution_timeline as
select facts.execution_id, event.created_at, event.event_id, event.event_type, event.step,
       event.status, event.attempts, event.command_id, event.iteration, event.worker_id,
       event.max_attempts, event.duration, event.error, event.node_type, event.catalog_id,
       event.parent_event_id, event.parent_execution_id, event.context, event.result, event.meta,
       event.extra, event.coercions, event.evidence, event.shape, event.normalizer_version,
       event.source_topic, event.source_incarnation, event.source_partition, event.source_offset,
       event.source_index, event.headers, event.trace_id, event.recorded_at, event.ingested_at
from   projector.execution_facts as facts
cross join lateral projector.events_of(array[facts.execution_id]) as event;

comment on view projector.execution_timeline is
    'What happened in one execution, event by event? Always filter by execution_id: only this '
    'view reads the table of events.';


create view projector.quarantine_by_reason as
select   hour, reason, shape, sum(refused)::bigint as refused
from     projector.quarantine_hours
group by hour, reason, shape
having   sum(refused) <> 0;

comment on view projector.quarantine_by_reason is
    'What was refused, why, and in which shape, by hour? `normalizer quarantine list` shows '
    'each entry.';

create view projector.coercions_by_rule as
select   hour, shape, rule, sum(coercions)::bigint as coercions
from     projector.coercion_hours
group by hour, shape, rule
having   sum(coercions) <> 0;

comment on view projector.coercions_by_rule is
    'Which values had their meaning changed or guessed, by which rule, in which shape? By the '
    'hour in which Kafka received them.';

create view projector.defaults_by_shape as
select   hour, shape, sum(events)::bigint as events,
         sum(attempts_defaulted)::bigint as attempts_defaulted,
         sum(status_from_name)::bigint as status_from_name,
         sum(time_from_log)::bigint as time_from_log
from     projector.arrival_hours
group by hour, shape
having   sum(events) <> 0;

comment on view projector.defaults_by_shape is
    'How much did producers leave out, by shape: the attempt, the status, the time? Each '
    'column counts events, by the hour in which Kafka received them.';

create view projector.late_arrivals as
select   hour, shape, worker_id,
         (
             array['unknown', 'clock ahead', 'under 1 s', 'under 10 s', 'under 1 min',
                   'under 10 min', 'under 1 h', 'under 1 day', 'over 1 day']
         )[lateness + 1] as lateness,
         lateness in (0, 2) as on_time, sum(events)::bigint as events,
         sum(skew_us)::double precision / 1000000 as skew_s
from     projector.arrival_hours
group by hour, shape, worker_id, lateness
having   sum(events) <> 0;

comment on view projector.late_arrivals is
    'How long after they happened do events reach Kafka, and whose clock is wrong? By the hour of '
    'their arrival. clock ahead: the producer''s time is more than a second after Kafka''s. A '
    'clock that is behind shows as a worker whose events are all late. sum(skew_s) / sum(events) '
    'of the rows whose lateness is not unknown is the mean time, below 0 where the clock is ahead.';

create view projector.gaps as
select topic, partition, incarnation, lower(missing) as first_offset,
       upper(missing) as next_offset, missing, offsets, reason, found_at,
       projector.hour_of(found_at) as hour
from   normalizer.gaps;

comment on view projector.gaps is
    'How many offsets between first_offset and next_offset gave no record, and why? hole: the '
    'broker had none there (markers of transactions share a row with their neighbours). '
    'expired: Kafka deleted them before they were read. skipped: an operator skipped them.';

create view projector.agreement as
with latest as (
    select distinct on (projection) *
    from   projector.verifications
    order by projection, verified_at desc, verification_id desc
),
differed as (
    select distinct on (projection) projection, detail
    from   projector.verifications
    where  verdict = 'divergent'
    order by projection, verified_at desc, verification_id desc
),
scoped as (
    select   projection,
             max(verified_at) filter (where scope = 'all')    as all_verified_at,
             max(verified_at) filter (where scope = 'range')  as range_verified_at,
             max(verified_at) filter (where scope = 'sample') as sample_verified_at
    from     projector.verifications
    where    verdict <> 'inconclusive'
    group by projection
),
standing as (
    select   projection, count(distinct (execution_id, hour)) as divergent,
             min(noted_at) as divergent_since
    from     projector.divergences
    where    ended_at is null
    group by projection
)
select projection,
       case
           when standing.divergent > 0 then 'divergent'
           when latest.verdict = 'divergent' then 'match'
           else latest.verdict
       end as verdict,
       coalesce(latest.scope, '') as scope, latest.since as compared_since,
       latest.until as compared_until, coalesce(latest.compared, 0) as compared,
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
    'Do the views agree with the stored events? divergent: the number of open divergences of a '
    'projection, until a comparison that covers them finds agreement. Otherwise the last '
    'result of `projector verify`. Also when each scope was last compared: all, a range of '
    'hours, a sample.';


-- What each column means. A name means the same in every view, unless a line names the view.
do $$
declare
    meant record;
begin
    for meant in
        with meaning (view, name, meaning) as (
            values ('', 'active_after_end',
                    'whether anything but a report of the end is later than ended_at'),
                   ('', 'as_of', 'every record that the log held at this time is in every view'),
                   ('', 'attempts', 'number of attempts before this one: 0 is the first'),
                   ('', 'attempts_defaulted',
                    'events that do not say which attempt they are of: they count as attempts 0'),
                   ('', 'backoff_s',
                    'seconds from the failure before this retry to its begin; null for a first '
                    'attempt'),
                   ('', 'begun', 'whether an event that begins it was read'),
                   ('', 'begun_at', 'when the first event of the attempt happened'),
                   ('executions', 'begun_at',
                    'when the event that begins it happened; null without one'),
                   ('', 'behind_s',
                    'seconds from as_of to the heartbeat; 0 if everything is stored, null while '
                    'nothing was read'),
                   ('', 'bucket_s', 'length of the bucket: 60 or 3,600 seconds'),
                   ('', 'bucket_start', 'start of the minute or hour, UTC'),
                   ('', 'bucket',
                    'number of the bucket in the histogram: from 2^(bucket/8) microseconds'),
                   ('', 'calls', 'number of finished attempts (rows of projector.calls)'),
                   ('', 'cancelled', 'number of events that end it as CANCELLED'),
                   ('', 'cancelled_at', 'the first event that ends it as CANCELLED'),
                   ('', 'catalog_id', 'id of the playbook in the catalog'),
                   ('', 'claimed_at', 'when a worker took it'),
                   ('', 'coercions', 'values whose meaning was changed or guessed'),
                   ('', 'command_id', 'id of the command; null if the producer gave none'),
                   ('', 'compared', 'rows compared; 0 if there was nothing to compare'),
                   ('', 'compared_since', 'first hour that was compared; null without a limit'),
                   ('', 'compared_until',
                    'end of the last hour that was compared; null without a limit'),
                   ('', 'completed', 'number of events that end it as COMPLETED'),
                   ('', 'completed_at', 'the first event that ends it as COMPLETED'),
                   ('', 'context', 'the producer''s JSON'),
                   ('', 'contradicting', 'whether its ends disagree'),
                   ('', 'created_at', 'when it happened, by the clock of its producer'),
                   ('', 'delay_s',
                    'seconds from the Kafka time of the last record to its commit here'),
                   ('', 'detail', 'what differs, or why there is no verdict'),
                   ('', 'divergent',
                    'executions or hours that are known to differ and were not compared since'),
                   ('', 'divergent_since', 'when the oldest of them was found'),
                   ('', 'all_verified_at', 'when all of it was last compared'),
                   ('', 'range_verified_at', 'when a range of it was last compared'),
                   ('', 'sample_verified_at', 'when a sample of it was last compared'),
                   ('', 'done', 'iterations that completed'),
                   ('', 'duplicate', 'outcomes that were stored already'),
                   ('', 'duration', 'seconds, if the producer measured them'),
                   ('', 'duration_s',
                    'seconds it took: as reported, or else from its start to its end'),
                   ('', 'ended_at', 'the earliest lifecycle end; null while it runs'),
                   ('', 'end_seen_at', 'when the broker last reported the end of the log'),
                   ('', 'error', 'error text, at most 1,000 characters; null if it completed'),
                   ('', 'error_class',
                    'error text without quoted parts, e-mail addresses and ids, which are words '
                    'with a digit or of eight or more letters from a to f; codes stay; null if it '
                    'did not fail'),
                   ('', 'first_seen_at', 'when the first of them failed'),
                   ('', 'last_seen_at', 'when the last of them failed'),
                   ('', 'error_rate', 'failed / calls'),
                   ('', 'event_id', 'id of the event'),
                   ('', 'event_type', 'type in the producer''s spelling'),
                   ('', 'events', 'events'),
                   ('', 'evidence',
                    'three digits: where attempts, status and created_at came from'),
                   ('', 'execution_id', 'id of the execution'),
                   ('', 'executions', 'executions'),
                   ('', 'exhausted', 'failed attempts that were the last allowed one'),
                   ('', 'extra', 'what the producer sent beyond the envelope'),
                   ('', 'inferred', 'attempts whose attribution in calls is inferred'),
                   ('', 'failed', 'attempts that ended FAILED, ERROR or CANCELLED'),
                   ('', 'failed_at', 'the first event that ends it as FAILED'),
                   ('', 'failed_calls', 'its attempts that ended FAILED, ERROR or CANCELLED'),
                   ('', 'finished_at', 'when it ended; null while it runs'),
                   ('', 'first_at', 'time of its first event'),
                   ('', 'first_tries_baseline', 'first attempts in the 60 minutes before those'),
                   ('', 'first_tries_now', 'first attempts that ended in the last 5 minutes'),
                   ('', 'first_tries', 'attempts with attempts = 0'),
                   ('', 'first_offset', 'the first offset without a record'),
                   ('', 'found_at', 'when the gap was found'),
                   ('', 'incarnation', 'how often the topic was deleted and created again'),
                   ('', 'headers', 'the record''s headers, redacted'),
                   ('', 'heartbeat_at',
                    'when the process that owns the partition last wrote its heartbeat'),
                   ('', 'highest_attempts', 'highest attempts of its events'),
                   ('', 'hour', 'the hour, UTC'),
                   ('', 'ignored',
                    'outcomes that are no event: tombstones, empty batches, expired events'),
                   ('', 'ingested_at', 'when it was stored'),
                   ('', 'issued', 'iterations that were issued'),
                   ('', 'issued_at', 'when the command was issued'),
                   ('', 'iteration', 'index in a loop; null outside of loops'),
                   ('', 'merged', 'outcomes that changed an event that was stored already'),
                   ('', 'last_activity_at',
                    'the last event that is neither an end nor the report of one'),
                   ('', 'last_at', 'time of its last event'),
                   ('', 'last_committed_at', 'when the last record was committed'),
                   ('', 'last_event_type', 'type of its last event'),
                   ('', 'last_failed_at', 'when the last of them failed'),
                   ('', 'last_finished_at', 'when the last of its calls ended'),
                   ('', 'last_recorded_at', 'Kafka time of the last record that was read'),
                   ('', 'last_step', 'step of its last event'),
                   ('', 'lateness', 'how long after it happened Kafka received it'),
                   ('', 'log_end', 'the offset after the last committed record of the log'),
                   ('', 'max_attempts', 'number of attempts that are allowed in all'),
                   ('', 'mean_duration_s', 'mean of the known durations, in seconds'),
                   ('', 'missing', 'the offsets themselves: missing @> 1042::bigint'),
                   ('', 'meta', 'the producer''s JSON, with attempts'),
                   ('', 'measure', 'what was measured: duration, queue or backoff'),
                   ('', 'minute', 'the minute, UTC'),
                   ('', 'next_offset', 'offset of the next record to read'),
                   ('', 'node_type', 'kind of step'),
                   ('', 'normalizer_version', 'version of the rules that made the row'),
                   ('', 'offsets', 'how many offsets'),
                   ('', 'on_time', 'under a second, or not known'),
                   ('', 'ordinal',
                    'number of the attempt of this step and iteration, by time, from 0'),
                   ('', 'outcome', 'BEGUN, or how they ended: COMPLETED, FAILED or CANCELLED'),
                   ('', 'parent_event_id', 'the event that caused it'),
                   ('', 'parent_execution_id', 'the execution that started it'),
                   ('', 'partition', 'partition of the topic'),
                   ('', 'per_minute_baseline', 'retries per minute in the 60 minutes before those'),
                   ('', 'per_minute_now', 'retries per minute that ended in the last 5 minutes'),
                   ('', 'playbook', 'path of the playbook; empty while it is not known'),
                   ('', 'projection', 'name of the compared projection'),
                   ('', 'quarantined', 'outcomes that were refused'),
                   ('', 'queue_s', 'seconds from issued to claimed'),
                   ('', 'ratio_baseline',
                    'retries_baseline / first_tries_baseline, or / 1 without any; null without '
                    'attempts'),
                   ('', 'ratio_now', 'retries_now / first_tries_now, or / 1 without any'),
                   ('', 'reason', 'why'),
                   ('', 'recorded_at', 'time of the record in Kafka'),
                   ('', 'records', 'number of records that were read'),
                   ('', 'refused', 'records and events that went to quarantine'),
                   ('', 'result', 'the producer''s JSON'),
                   ('', 'retries', 'attempts with attempts > 0'),
                   ('', 'retries_baseline', 'retries in the 60 minutes before those'),
                   ('', 'retries_now', 'retries that ended in the last 5 minutes'),
                   ('', 'rule', 'name of the rule'),
                   ('', 'scope', 'everything, range or sample'),
                   ('', 'shape', 'wire shape of the record'),
                   ('', 'silent_for',
                    'silent_s in groups: under 1 h, under 1 day, under 7 days, 7 days and more'),
                   ('', 'silent_s', 'seconds since then'),
                   ('', 'since', 'when the wait began'),
                   ('', 'skew_s',
                    'seconds from created_at to recorded_at, added up; below 0 if the clock is '
                    'ahead; an event on time counts as 0'),
                   ('', 'source_incarnation', 'coordinates of the record'),
                   ('', 'source_index', 'coordinates of the record'),
                   ('', 'source_offset', 'coordinates of the record'),
                   ('', 'source_partition', 'coordinates of the record'),
                   ('', 'source_topic', 'coordinates of the record'),
                   ('', 'started_at', 'when the worker began'),
                   ('', 'state', 'state of the partition'),
                   ('', 'status', 'canonical status'),
                   ('', 'status_from_name', 'events whose status was derived from their type'),
                   ('', 'step', 'name of the step; empty if no event names one'),
                   ('', 'storm', 'whether it retries much more than usual'),
                   ('', 'stored', 'outcomes that became rows'),
                   ('', 'succeeded', 'attempts that completed'),
                   ('', 'time_from_log',
                    'events whose time is Kafka''s, because the producer gave none'),
                   ('', 'ratio_vs_baseline', 'ratio_now / ratio_baseline'),
                   ('', 'took_s', 'seconds that the comparison took'),
                   ('', 'topic', 'topic'),
                   ('', 'total_duration_s', 'seconds from first event to end, of all that ended'),
                   ('', 'trace_id', 'trace that the record belongs to'),
                   ('', 'unread',
                    'offsets from next_offset to log_end; null while that is not known'),
                   ('', 'verdict', 'match, divergent or inconclusive'),
                   ('', 'verified_at', 'when it was last compared'),
                   ('', 'version',
                    'version of the playbook, if the event that begins it names it with the path'),
                   ('', 'waiting_s',
                    'seconds that it has waited, by as_of as in stuck_executions: 0 if that is '
                    'before the begin, null while nobody reads its partition'),
                   ('', 'waits_for', 'what it waits for: claim, start or finish'),
                   ('', 'worker_id', 'the worker'),
                   ('playbook_versions', 'cancelled', 'those that were cancelled'),
                   ('playbook_versions', 'completed', 'those that completed'),
                   ('playbook_versions', 'failed', 'those that failed'),
                   ('loops', 'failed',
                    'iterations whose attempts have all ended, none of them COMPLETED'),
                   ('late_arrivals', 'worker_id', 'the worker; empty if the event names none'),
                   ('agreement', 'age_s', 'seconds since then'),
                   ('stuck_executions', 'age_s', 'seconds since its first event'),
                   ('agreement', 'archived',
                    'rows that were left out because retention deleted some of their events'),
                   ('calls', 'exhausted', 'whether it failed and was the last allowed attempt'),
                   ('calls', 'attribution',
                    'how the number of the attempt is known. declared: the end that decides names '
                    'it (or, while it runs, any event). only: nothing hints at another attempt. '
                    'inferred: from what else the events say'),
                   ('counted_calls', 'inferred', 'whether attribution in calls is inferred'),
                   ('counted_calls', 'exhausted',
                    'whether it failed and was the last allowed attempt'),
                   ('executions', 'failed', 'number of events that end it as FAILED'),
                   ('executions', 'status', 'RUNNING, COMPLETED, FAILED or CANCELLED'),
                   ('calls', 'status',
                    'COMPLETED, FAILED, ERROR or CANCELLED; before that PENDING, CLAIMED or '
                    'RUNNING'),
                   ('attempts_in_order', 'status', 'as in calls'),
                   ('executions', 'duration_s', 'seconds from its first event to its end'),
                   ('executions_without_end', 'calls', 'how many calls it made'),
                   ('execution_timeline', 'error', 'error text'),
                   ('execution_timeline', 'coercions',
                    'values whose meaning was changed or guessed, with the original'),
                   ('executions_without_end', 'silent_s',
                    'seconds since its last event, by as_of as in stuck_executions: 0 if that is '
                    'before the event, null while nobody reads its partition'),
                   ('stuck_executions', 'silent_s', 'seconds since its last event'),
                   ('retry_storms', 'minute', 'the last minute with a retry'),
                   ('gaps', 'next_offset', 'the offset after the last one without a record')
        )
        select   distinct on (described.table_name, described.column_name)
                 described.table_name, described.column_name, meaning.meaning
        from     information_schema.columns as described
        join     pg_views on pg_views.schemaname = described.table_schema
                         and pg_views.viewname = described.table_name
        join     meaning on meaning.name = described.column_name
                        and meaning.view in ('', described.table_name)
        where    described.table_schema = 'projector'
        order by described.table_name, described.column_name, meaning.view desc
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
        select viewname
        from   pg_views
        where  schemaname = 'projector'
        and    viewname not in ('counted_calls', 'timed_executions')
    loop
        execute format('grant select on projector.%I to normalizer_writer, projector_reader', name);
    end loop;
end
$$;

insert into migrations.applied (version) values ('0008') on conflict do nothing;
