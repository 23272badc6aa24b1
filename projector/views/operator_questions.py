"""Questions of operators, each with a query of the views that answers it.

Queries over time cover the last day.
"""

from typing import Final

import msgspec


class OperatorQuestion(msgspec.Struct, frozen=True):
    """A question, and the SQL query that answers it."""

    question: str
    query: str


OPERATOR_QUESTIONS: Final[tuple[OperatorQuestion, ...]] = (
    OperatorQuestion(
        "How often does the first attempt succeed, by step and hour?",
        """
        select   hour, step, sum(succeeded)::bigint as succeeded, sum(calls)::bigint as calls,
                 sum(succeeded)::double precision / sum(calls) as success_rate
        from     projector.call_outcomes_by_attempt
        where    hour >= now() - interval '1 day' and attempts = 0
        group by hour, step
        having   sum(calls) <> 0
        order by hour, step
        """,
    ),
    OperatorQuestion(
        "How often do calls fail, by attempt?",
        """
        select   attempts, sum(failed)::bigint as failed, sum(calls)::bigint as calls,
                 sum(failed)::double precision / sum(calls) as error_rate
        from     projector.call_outcomes_by_attempt
        where    hour >= now() - interval '1 day'
        group by attempts
        having   sum(calls) <> 0
        order by attempts
        """,
    ),
    OperatorQuestion(
        "Is retrying worth it: how likely does attempt n succeed after attempt n - 1 has failed?",
        """
        select   step, attempts, sum(succeeded)::bigint as recovered,
                 sum(calls)::bigint as retries,
                 sum(succeeded)::double precision / sum(calls) as recovery_rate
        from     projector.call_outcomes_by_attempt
        where    hour >= now() - interval '1 day' and attempts > 0
        group by step, attempts
        having   sum(calls) <> 0
        order by step, attempts
        """,
    ),
    OperatorQuestion(
        "Is there a retry storm now, against the last hour, by step?",
        """
        select   step, storm, first_tries_now, retries_now, first_tries_baseline, retries_baseline,
                 ratio_now, ratio_baseline
        from     projector.retry_storms
        order by storm desc, retries_now desc, step
        """,
    ),
    OperatorQuestion(
        "How many failed attempts were the last one allowed?",
        """
        select   step, sum(exhausted)::bigint as exhausted, sum(failed)::bigint as failed
        from     projector.call_outcomes_by_attempt
        where    hour >= now() - interval '1 day'
        group by step
        having   sum(failed) <> 0
        order by exhausted desc, step
        """,
    ),
    OperatorQuestion(
        "How many attempts does a success cost?",
        """
        select   step, sum(calls)::bigint as tries, sum(succeeded)::bigint as succeeded,
                 sum(calls)::double precision / nullif(sum(succeeded), 0) as tries_per_success
        from     projector.call_outcomes_by_attempt
        where    hour >= now() - interval '1 day'
        group by step
        having   sum(calls) <> 0
        order by tries_per_success desc nulls first, step
        """,
    ),
    OperatorQuestion(
        "Which executions are stuck, for how long, and what was their last event?",
        """
        select   execution_id, begun, silent_for, silent_s, last_event_type, last_step
        from     projector.stuck_executions
        order by begun desc, silent_s
        """,
    ),
    OperatorQuestion(
        "Which calls were issued and never claimed, claimed and never started, started and never "
        "finished?",
        """
        select   waits_for, step, count(*) as calls, min(since) as oldest
        from     projector.open_calls
        where    hour >= now() - interval '1 day'
        group by waits_for, step
        order by waits_for, step
        """,
    ),
    OperatorQuestion(
        "Which executions have finished all their calls but have not ended?",
        """
        select   execution_id, calls, last_finished_at
        from     projector.executions_without_end
        where    hour >= now() - interval '1 day'
        order by last_finished_at, execution_id
        """,
    ),
    OperatorQuestion(
        "How long do calls take, by step and attempt: median, 95th and 99th percentile?",
        """
        select   step, attempts, sum(calls)::bigint as calls,
                 projector.percentile(0.50, bucket, calls) as p50_s,
                 projector.percentile(0.95, bucket, calls) as p95_s,
                 projector.percentile(0.99, bucket, calls) as p99_s
        from     projector.call_time_histogram
        where    hour >= now() - interval '1 day' and measure = 'duration'
        group by step, attempts
        having   sum(calls) <> 0
        order by step, attempts
        """,
    ),
    OperatorQuestion(
        "How long do commands wait from issued to claimed?",
        """
        select   step, sum(calls)::bigint as calls,
                 projector.percentile(0.95, bucket, calls) as p95_s
        from     projector.call_time_histogram
        where    hour >= now() - interval '1 day' and measure = 'queue'
        group by step
        having   sum(calls) <> 0
        order by step
        """,
    ),
    OperatorQuestion(
        "How long is the backoff between a failure and the next retry?",
        """
        select   attempts, sum(calls)::bigint as retries,
                 projector.percentile(0.50, bucket, calls) as p50_s
        from     projector.call_time_histogram
        where    hour >= now() - interval '1 day' and measure = 'backoff'
        group by attempts
        having   sum(calls) <> 0
        order by attempts
        """,
    ),
    OperatorQuestion(
        "Which errors are the most frequent, by attempt?",
        """
        select   error_class, attempts, sum(calls)::bigint as calls
        from     projector.failures_by_error
        where    hour >= now() - interval '1 day'
        group by error_class, attempts
        order by calls desc, error_class, attempts
        """,
    ),
    OperatorQuestion(
        "Which executions ended with two different statuses, or continued after their end?",
        """
        select   execution_id, status, contradicting, active_after_end
        from     projector.contradicting_executions
        where    hour >= now() - interval '1 day'
        order by ended_at, execution_id
        """,
    ),
    OperatorQuestion(
        "Which executions completed although one of their calls failed?",
        """
        select   execution_id, failed_calls, last_failed_at
        from     projector.completed_with_failures
        where    hour >= now() - interval '1 day'
        order by ended_at, execution_id
        """,
    ),
    OperatorQuestion(
        "How many executions began, and how many ended in which status, over time?",
        """
        select   hour, outcome, sum(executions)::bigint as executions
        from     projector.execution_outcomes
        where    hour >= now() - interval '1 day'
        group by hour, outcome
        having   sum(executions) <> 0
        order by hour, outcome
        """,
    ),
    OperatorQuestion(
        "Which worker fails more than others?",
        """
        select   worker_id, sum(failed)::bigint as failed, sum(calls)::bigint as calls
        from     projector.worker_failures
        where    hour >= now() - interval '1 day'
        group by worker_id
        order by sum(failed)::double precision / sum(calls) desc, worker_id
        """,
    ),
    OperatorQuestion(
        "What were the times of each call in one execution, by attempt?",
        """
        select   step, iteration, attempts, status, issued_at, claimed_at, started_at, finished_at
        from     projector.calls
        where    execution_id = (
                     select   execution_id
                     from     projector.executions
                     order by events desc, execution_id
                     limit    1
                 )
        order by begun_at, step, iteration, attempts, command_id
        """,
    ),
    OperatorQuestion(
        "How many events per second are there, by type?",
        """
        select   bucket_start, event_type, sum(events)::bigint as events,
                 sum(events)::double precision / bucket_s as events_per_s
        from     projector.attempts_by_status
        where    bucket_start >= now() - interval '1 day'
        group by bucket_start, bucket_s, event_type
        order by bucket_start, event_type
        """,
    ),
    OperatorQuestion(
        "How fresh are the views?",
        """
        select   topic, partition, state, next_offset, as_of
        from     projector.freshness
        order by topic, partition
        """,
    ),
    OperatorQuestion(
        "What was rejected or guessed, and what did producers leave out, by shape and reason?",
        """
        select   'rejected' as what, shape, reason as kind, sum(rejected)::bigint as number
        from     projector.quarantine_by_reason
        where    hour >= now() - interval '1 day'
        group by shape, reason
        union all
        select   'guessed', shape, rule, sum(coercions)::bigint
        from     projector.coercions_by_rule
        where    hour >= now() - interval '1 day'
        group by shape, rule
        union all
        select   'unsaid', shape, 'attempts', sum(attempts_defaulted)::bigint
        from     projector.defaults_by_shape
        where    hour >= now() - interval '1 day'
        group by shape
        order by what, shape, kind
        """,
    ),
    OperatorQuestion(
        "Do the views agree with the stored events?",
        """
        select   projection, verdict, divergent, all_verified_at
        from     projector.agreement
        order by projection
        """,
    ),
    OperatorQuestion(
        "How many events arrive late, and how late?",
        """
        select   lateness, sum(events)::bigint as events
        from     projector.late_arrivals
        where    hour >= now() - interval '1 day'
        group by lateness
        order by lateness
        """,
    ),
    OperatorQuestion(
        "Whose clock is wrong, and by how much?",
        """
        select   worker_id, sum(events)::bigint as events,
                 coalesce(sum(events) filter (where on_time), 0)::bigint as on_time,
                 coalesce(sum(events) filter (where lateness = 'clock ahead'), 0)::bigint as ahead,
                 sum(skew_s) / sum(events) as mean_skew_s
        from     projector.late_arrivals
        where    hour >= now() - interval '1 day' and worker_id <> '' and lateness <> 'unknown'
        group by worker_id
        order by abs(sum(skew_s) / sum(events)) desc, worker_id
        """,
    ),
    OperatorQuestion(
        "Which records were rejected, why, and what are their first bytes?",
        """
        select   quarantined_at, reason, topic, partition, source_offset, detail, sample
        from     projector.quarantine_records
        where    quarantined_at >= now() - interval '1 day'
        order by quarantined_at desc, quarantine_id desc
        """,
    ),
    OperatorQuestion(
        "Which jobs ran, and what did they change?",
        """
        select   job_id, run, kind, state, records, stored, changed, rejected
        from     projector.jobs
        order by started_at desc, job_id, run
        """,
    ),
    OperatorQuestion(
        "What happened in one execution, event by event?",
        """
        select   event_id, created_at, event_type, step, attempts, status
        from     projector.execution_timeline
        where    execution_id = (
                     select   execution_id
                     from     projector.executions
                     order by events desc, execution_id
                     limit    1
                 )
        order by created_at, event_id
        """,
    ),
    OperatorQuestion(
        "How far is each loop that is not finished: iterations done, failed and issued?",
        """
        select   execution_id, step, done, failed, issued
        from     projector.loops
        where    hour >= now() - interval '1 day' and done + failed < issued
        order by hour, execution_id, step
        """,
    ),
)
