"""The views, in the order an operator asks, each with an example query.

What a view answers stands in its comment in the database; here is how one asks it.
"""

from typing import Final

import msgspec


class View(msgspec.Struct, frozen=True):
    """A view of schema projector and a query that anybody may begin with."""

    name: str
    example: str


VIEWS: Final[tuple[View, ...]] = (
    View(
        "attempts_by_status",
        """
        select   attempts, status, sum(events) as events
        from     projector.attempts_by_status
        where    minute >= now() - interval '1 hour' and event_type = 'call.done'
        group by attempts, status
        order by attempts, status
        """,
    ),
    View(
        "attempts_by_status_hourly",
        """
        select   hour, attempts, status, sum(events) as events
        from     projector.attempts_by_status_hourly
        where    hour >= now() - interval '1 day' and event_type = 'call.done'
        group by hour, attempts, status
        order by hour, attempts, status
        """,
    ),
    View(
        "event_counts",
        """
        select   attempts, status, sum(events) as events
        from     projector.event_counts
        where    hour >= now() - interval '30 days' and event_type = 'call.done'
        group by attempts, status
        having   sum(events) <> 0
        order by attempts, status
        """,
    ),
    View(
        "events_per_second",
        """
        select   minute, sum(events_per_s) as events_per_s
        from     projector.events_per_second
        where    minute >= now() - interval '15 minutes'
        group by minute
        order by minute
        """,
    ),
    View(
        "call_outcomes_by_attempt",
        """
        select   attempts, status, sum(calls) as calls
        from     projector.call_outcomes_by_attempt
        where    hour >= now() - interval '1 day'
        group by attempts, status
        order by attempts, status
        """,
    ),
    View(
        "first_attempt_success",
        """
        select   step, sum(succeeded)::double precision / sum(calls) as success_rate,
                 sum(calls) as calls
        from     projector.first_attempt_success
        where    hour >= now() - interval '1 day'
        group by step
        order by success_rate, step
        """,
    ),
    View(
        "error_rate_by_attempt",
        """
        select   attempts, sum(failed)::double precision / sum(calls) as error_rate,
                 sum(calls) as calls
        from     projector.error_rate_by_attempt
        where    hour >= now() - interval '1 day'
        group by attempts
        order by attempts
        """,
    ),
    View(
        "retry_recovery",
        """
        select   step, attempts, sum(recovered)::double precision / sum(retries) as recovery_rate,
                 sum(retries) as retries
        from     projector.retry_recovery
        where    hour >= now() - interval '1 day'
        group by step, attempts
        order by step, attempts
        """,
    ),
    View(
        "retry_storms",
        """
        select   step, per_minute_now, per_minute_before, times_usual
        from     projector.retry_storms
        order by per_minute_now desc, step
        """,
    ),
    View(
        "retries_by_minute",
        """
        select   minute, step, retries
        from     projector.retries_by_minute
        where    minute >= now() - interval '1 hour'
        order by minute, step
        """,
    ),
    View(
        "retry_exhaustion",
        """
        select   step, sum(exhausted) as exhausted, sum(failed) as failed
        from     projector.retry_exhaustion
        where    hour >= now() - interval '1 day'
        group by step
        order by exhausted desc, step
        """,
    ),
    View(
        "attempts_per_success",
        """
        select   step, sum(tries)::double precision / nullif(sum(succeeded), 0) as per_success
        from     projector.attempts_per_success
        where    hour >= now() - interval '1 day'
        group by step
        order by per_success desc nulls first, step
        """,
    ),
    View(
        "call_counts",
        """
        select   attempts, sum(failed)::double precision / sum(calls) as error_rate,
                 sum(calls) as calls
        from     projector.call_counts
        where    hour >= now() - interval '30 days'
        group by attempts
        having   sum(calls) <> 0
        order by attempts
        """,
    ),
    View(
        "executions",
        """
        select   execution_id, playbook, status, first_at, duration_s, failed_calls
        from     projector.executions
        where    hour >= now() - interval '1 day'
        order by first_at desc
        limit    20
        """,
    ),
    View(
        "execution_outcomes",
        """
        select   hour, status, sum(executions) as executions
        from     projector.execution_outcomes
        where    hour >= now() - interval '1 day'
        group by hour, status
        order by hour, status
        """,
    ),
    View(
        "executions_begun",
        """
        select   hour, sum(executions) as executions
        from     projector.executions_begun
        where    hour >= now() - interval '1 day'
        group by hour
        order by hour
        """,
    ),
    View(
        "execution_counts",
        """
        select   outcome, sum(executions) as executions
        from     projector.execution_counts
        where    hour >= now() - interval '30 days'
        group by outcome
        having   sum(executions) <> 0
        order by outcome
        """,
    ),
    View(
        "stuck_executions",
        """
        select   execution_id, playbook, silent_s, last_event_type, last_step
        from     projector.stuck_executions
        where    hour >= now() - interval '7 days'
        order by silent_s desc
        limit    20
        """,
    ),
    View(
        "executions_without_end",
        """
        select   execution_id, playbook, calls, last_finished_at
        from     projector.executions_without_end
        where    hour >= now() - interval '7 days'
        order by last_finished_at
        limit    20
        """,
    ),
    View(
        "contradicting_executions",
        """
        select   execution_id, playbook, status, contradicting, active_after_end
        from     projector.contradicting_executions
        where    hour >= now() - interval '1 day'
        order by ended_at desc
        limit    20
        """,
    ),
    View(
        "completed_with_failures",
        """
        select   execution_id, playbook, failed_calls, last_failed_at
        from     projector.completed_with_failures
        where    hour >= now() - interval '1 day'
        order by failed_calls desc, execution_id
        limit    20
        """,
    ),
    View(
        "calls",
        """
        select   execution_id, step, attempts, status, error
        from     projector.calls
        where    hour >= now() - interval '2 hours' and status in ('FAILED', 'ERROR')
        order by finished_at desc
        limit    20
        """,
    ),
    View(
        "calls_without_command",
        """
        select   step, event_type, sum(events) as events
        from     projector.calls_without_command
        where    hour >= now() - interval '1 day'
        group by step, event_type
        order by events desc
        """,
    ),
    View(
        "open_calls",
        """
        select   waits_for, step, count(*) as calls, max(waiting_s) as longest_s
        from     projector.open_calls
        where    hour >= now() - interval '1 day'
        group by waits_for, step
        order by longest_s desc
        """,
    ),
    View(
        "tries_in_order",
        """
        select   step, iteration, ordinal, attempts, command_id, status
        from     projector.tries_in_order
        where    hour >= now() - interval '1 day' and ordinal > attempts
        order by hour desc, execution_id, step, iteration, ordinal
        limit    20
        """,
    ),
    View(
        "call_durations_by_attempt",
        """
        select   hour, step, attempts, calls, p50_s, p95_s, p99_s
        from     projector.call_durations_by_attempt
        where    hour >= now() - interval '2 hours'
        order by p99_s desc
        """,
    ),
    View(
        "call_duration_histogram",
        """
        select   duration_s, sum(calls) as calls
        from     projector.call_duration_histogram
        where    hour >= now() - interval '1 day' and attempts = 0
        group by duration_s
        order by duration_s
        """,
    ),
    View(
        "call_queue_waits",
        """
        select   hour, step, calls, p50_s, p95_s
        from     projector.call_queue_waits
        where    hour >= now() - interval '2 hours'
        order by p95_s desc
        """,
    ),
    View(
        "retry_backoffs",
        """
        select   step, attempts, retries, p50_s, p95_s
        from     projector.retry_backoffs
        where    hour >= now() - interval '2 hours'
        order by step, attempts
        """,
    ),
    View(
        "call_time_counts",
        """
        select   bucket, projector.seconds_of(bucket) as duration_s, sum(calls) as calls
        from     projector.call_time_counts
        where    hour >= now() - interval '30 days' and measure = 'duration' and attempts = 0
        group by bucket
        having   sum(calls) <> 0
        order by bucket
        """,
    ),
    View(
        "failures_by_error",
        """
        select   error_class, attempts, sum(calls) as calls
        from     projector.failures_by_error
        where    hour >= now() - interval '1 day'
        group by error_class, attempts
        order by calls desc
        limit    20
        """,
    ),
    View(
        "worker_failures",
        """
        select   worker_id, sum(failed)::double precision / sum(calls) as error_rate,
                 sum(calls) as calls
        from     projector.worker_failures
        where    hour >= now() - interval '1 day'
        group by worker_id
        order by error_rate desc, worker_id
        """,
    ),
    View(
        "execution_timeline",
        """
        select   created_at, event_type, step, attempts, status, worker_id
        from     projector.execution_timeline
        where    execution_id = (
                     select execution_id from projector.executions order by hour desc limit 1
                 )
        order by created_at, event_id
        """,
    ),
    View(
        "quarantine_by_reason",
        """
        select   reason, shape, sum(refused) as refused
        from     projector.quarantine_by_reason
        where    hour >= now() - interval '1 day'
        group by reason, shape
        order by refused desc
        """,
    ),
    View(
        "coercions_by_rule",
        """
        select   shape, rule, sum(coercions) as coercions
        from     projector.coercions_by_rule
        where    hour >= now() - interval '1 day'
        group by shape, rule
        order by coercions desc
        """,
    ),
    View(
        "defaults_by_shape",
        """
        select   shape, sum(attempts_defaulted)::double precision / sum(events) as unnumbered
        from     projector.defaults_by_shape
        where    hour >= now() - interval '1 day'
        group by shape
        order by unnumbered desc
        """,
    ),
    View(
        "late_arrivals",
        """
        select   hour, lateness, sum(events) as events
        from     projector.late_arrivals
        where    hour >= now() - interval '1 day' and not on_time
        group by hour, lateness
        order by hour, lateness
        """,
    ),
    View(
        "freshness",
        """
        select   topic, partition, state, as_of, behind_s, unread
        from     projector.freshness
        order by as_of, topic, partition
        """,
    ),
    View(
        "gaps",
        """
        select   topic, partition, reason, sum(offsets) as offsets
        from     projector.gaps
        where    hour >= now() - interval '7 days'
        group by topic, partition, reason
        order by topic, partition, reason
        """,
    ),
    View(
        "drift",
        """
        select   shape, field, type, kind, topic, partition, source_offset, example
        from     projector.drift
        where    hour >= now() - interval '7 days'
        order by found_at desc
        """,
    ),
    View(
        "agreement",
        """
        select   projection, verdict, divergent, divergent_since, all_verified_at
        from     projector.agreement
        order by projection
        """,
    ),
)
