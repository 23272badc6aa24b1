"""The views, in the order in which an operator needs them, each with an example query.

The question that a view answers isn't repeated here, because it's the view's comment in the
database.
"""

from typing import Final

import msgspec


class View(msgspec.Struct, frozen=True):
    """A view of schema projector, and an example query."""

    name: str
    example: str


VIEWS: Final[tuple[View, ...]] = (
    View(
        "attempts_by_status",
        """
        select   attempts, status, sum(events) as events
        from     projector.attempts_by_status
        where    bucket_start >= now() - interval '1 day' and event_type = 'call.done'
        group by attempts, status
        order by attempts, status
        """,
    ),
    View(
        "event_counts",
        """
        select   step, attempts, status, sum(events) as events
        from     projector.event_counts
        where    hour >= now() - interval '30 days' and event_type = 'call.done'
        group by step, attempts, status
        having   sum(events) <> 0
        order by step, attempts, status
        """,
    ),
    View(
        "call_outcomes_by_attempt",
        """
        select   step, attempts, sum(calls) as calls,
                 sum(succeeded)::double precision / sum(calls) as success_rate,
                 sum(failed)::double precision / sum(calls) as error_rate
        from     projector.call_outcomes_by_attempt
        where    hour >= now() - interval '1 day'
        group by step, attempts
        having   sum(calls) <> 0
        order by step, attempts
        """,
    ),
    View(
        "retry_storms",
        """
        select   step, storm, retries_now, ratio_now, ratio_baseline, ratio_vs_baseline
        from     projector.retry_storms
        order by storm desc, retries_now desc, step
        """,
    ),
    View(
        "retries_by_minute",
        """
        select   minute, step, retries, first_tries
        from     projector.retries_by_minute
        where    minute >= now() - interval '1 hour'
        order by minute, step
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
        select   hour, outcome, sum(executions) as executions
        from     projector.execution_outcomes
        where    hour >= now() - interval '1 day'
        group by hour, outcome
        having   sum(executions) <> 0
        order by hour, outcome
        """,
    ),
    View(
        "playbook_versions",
        """
        select   playbook, version, sum(executions) as executions, sum(failed) as failed,
                 sum(total_duration_s) / nullif(sum(completed + failed + cancelled), 0) as mean_s
        from     projector.playbook_versions
        where    hour >= now() - interval '7 days'
        group by playbook, version
        order by playbook, version
        """,
    ),
    View(
        "deployments",
        """
        select   playbook, version, first_at
        from     projector.deployments
        where    hour >= now() - interval '7 days'
        order by first_at desc
        limit    20
        """,
    ),
    View(
        "loops",
        """
        select   execution_id, step, done, failed, issued
        from     projector.loops
        where    hour >= now() - interval '2 hours' and done < issued
        order by issued desc, execution_id, step
        limit    20
        """,
    ),
    View(
        "stuck_executions",
        """
        select   begun, silent_for, count(*) as executions, max(silent_s) as longest_s
        from     projector.stuck_executions
        group by begun, silent_for
        order by begun desc, longest_s
        """,
    ),
    View(
        "stuck_reasons",
        """
        select   waits_for, step, worker_id, count(*) as executions
        from     projector.stuck_reasons
        group by waits_for, step, worker_id
        order by executions desc
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
        "attempts_in_order",
        """
        select   step, iteration, ordinal, attempts, command_id, status
        from     projector.attempts_in_order
        where    hour >= now() - interval '1 day' and ordinal > attempts
        order by hour desc, execution_id, step, iteration, ordinal
        limit    20
        """,
    ),
    View(
        "call_time_histogram",
        """
        select   step, attempts, sum(calls) as calls,
                 projector.percentile(0.50, bucket, calls) as p50_s,
                 projector.percentile(0.95, bucket, calls) as p95_s,
                 projector.percentile(0.99, bucket, calls) as p99_s
        from     projector.call_time_histogram
        where    hour >= now() - interval '1 day' and measure = 'duration'
        group by step, attempts
        having   sum(calls) <> 0
        order by p99_s desc, step, attempts
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
        "failed_calls",
        """
        select   finished_at, execution_id, step, attempts, worker_id, error
        from     projector.failed_calls
        where    error_class = 'HTTP 503' and finished_at >= now() - interval '1 day'
        order by finished_at desc
        limit    20
        """,
    ),
    View(
        "error_groups",
        """
        select   error_class, first_seen_at, last_seen_at, execution_id, error
        from     projector.error_groups
        order by last_seen_at desc
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
        select   reason, shape, sum(rejected) as rejected
        from     projector.quarantine_by_reason
        where    hour >= now() - interval '1 day'
        group by reason, shape
        order by rejected desc
        """,
    ),
    View(
        "quarantine_records",
        """
        select   quarantined_at, reason, topic, partition, source_offset, detail, sample
        from     projector.quarantine_records
        where    quarantined_at >= now() - interval '1 day'
        order by quarantined_at desc
        limit    20
        """,
    ),
    View(
        "redrive_attempts",
        """
        select   tried_at, quarantine_id, tried_by, outcome, detail
        from     projector.redrive_attempts
        where    hour >= now() - interval '7 days'
        order by tried_at desc
        limit    20
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
        "jobs",
        """
        select   job_id, run, kind, state, stored, changed, rejected, started_at, ended_at
        from     projector.jobs
        order by started_at desc
        limit    20
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
