"""Calls, and their counts by hour."""

from typing import Final

from projector.verify.queries.comparison import Comparison, counter_comparison

CALL_FACTS_COMPARISON: Final = Comparison(
    name="call_facts",
    bounded_by="executions",
    keys=("execution_id", "command_id", "attempts"),
    self_test_column="begun_at",
    actual="""
        select call.execution_id, call.command_id, call.attempts, call.begun_at, call.issued_at,
               call.claimed_at, call.started_at, call.finished_at,
               -- An error has up to 1,000 characters, too many to compare and print in full.
               call.outcome_ranked, call.duration_ranked, md5(call.error_ranked) as error_ranked,
               call.step_ranked, call.worker_ranked, call.max_attempts_ranked,
               call.iteration, call.previous_failure_at, call.is_numbered, call.may_be_retried
        from   call_facts as call
        where  call.execution_id = any($1::bigint[])
    """,
    expected="""
        with command as (
            select distinct event.execution_id, event.command_id
            from   normalizer.events as event
            join   event_kinds as kind
                   on kind.event_type = event.event_type and kind.subject = 'call'
            where  event.execution_id = any($1::bigint[])
            and    event.command_id <> ''
        ),
        attempt as materialized (
            select *, call_finished_at(outcome_ranked) as finished_at
            from   derive_calls(
                       array(select (execution_id, command_id)::call_command from command)
                   )
        )
        select attempt.execution_id, attempt.command_id, attempt.attempts, attempt.begun_at,
               attempt.issued_at, attempt.claimed_at, attempt.started_at, attempt.finished_at,
               attempt.outcome_ranked, attempt.duration_ranked, md5(attempt.error_ranked) as
               error_ranked, attempt.step_ranked, attempt.worker_ranked,
               attempt.max_attempts_ranked, attempt.iteration, before.previous_failure_at,
               attempt.is_numbered, attempt.may_be_retried
        from   attempt
        -- The same rule as in previous_failure_corrections, written again on purpose. The triggers
        -- look only at attempts near a change, and this looks at all of them.
        left join (
            select   retry.execution_id, retry.command_id, retry.attempts,
                     max(failure.finished_at) as previous_failure_at
            from     attempt as retry
            join     attempt as failure
                     on  failure.execution_id = retry.execution_id
                     and failure.attempts = retry.attempts - 1
            where    call_outcome(failure.outcome_ranked) <> 'COMPLETED'
            and      failure.finished_at <= retry.begun_at
            and      (
                         failure.command_id = retry.command_id
                         or ranked_value(failure.step_ranked) = ranked_value(retry.step_ranked)
                            and coalesce(failure.iteration, -1) = coalesce(retry.iteration, -1)
                     )
            group by retry.execution_id, retry.command_id, retry.attempts
        ) as before using (execution_id, command_id, attempts)
    """,
)

_FROM_CALLS_IN_HOURS: Final = """
        from   finished_calls as call
        left join execution_facts as execution using (execution_id)
        -- Use the same expression as the index calls_by_hour. It changes no result, because every
        -- counted call has an end.
        where  to_hour(coalesce(finished_at, begun_at)) >= $1::timestamptz
        and    to_hour(coalesce(finished_at, begun_at)) < $2::timestamptz
"""

CALL_HOURS_COMPARISON: Final = counter_comparison(
    name="call_hours",
    keys="hour playbook step attempts status",
    sums="calls exhausted inferred",
    expected=f"""
        select   date_trunc('hour', finished_at, 'UTC') as hour,
                 playbook_path(execution.playbook_ranked) as playbook, step, attempts, status,
                 count(*) as calls, count(*) filter (where exhausted) as exhausted,
                 count(*) filter (where inferred) as inferred
        {_FROM_CALLS_IN_HOURS}
        group by 1, 2, 3, 4, 5
    """,
)

CALL_TIMES_COMPARISON: Final = counter_comparison(
    name="call_times",
    keys="hour measure playbook step attempts status bucket",
    sums="calls",
    expected=f"""
        select   date_trunc('hour', taken.finished_at, 'UTC') as hour, measured.measure,
                 taken.playbook, taken.step, taken.attempts, taken.status,
                 duration_bucket(measured.microseconds) as bucket, count(*) as calls
        from     (
                     select finished_at, step, attempts, status, duration_us, queue_us, backoff_us,
                            playbook_path(execution.playbook_ranked) as playbook
                     {_FROM_CALLS_IN_HOURS}
                 ) as taken
        cross join lateral (
            values ('duration', duration_us), ('queue', queue_us), ('backoff', backoff_us)
        ) as measured (measure, microseconds)
        where    measured.microseconds is not null
        group by 1, 2, 3, 4, 5, 6, 7
    """,  # noqa: S608 - a part that several queries share
)
"""The histograms of how long calls took, and waited in the queue or before a retry."""

WORKER_HOURS_COMPARISON: Final = counter_comparison(
    name="worker_hours",
    keys="hour worker_id status",
    sums="calls timed duration_us",
    expected=f"""
        select   date_trunc('hour', finished_at, 'UTC') as hour, worker_id, status,
                 count(*) as calls, count(duration_us) as timed,
                 coalesce(sum(duration_us), 0) as duration_us
        {_FROM_CALLS_IN_HOURS}
        group by 1, 2, 3
    """,
)

ERROR_HOURS_COMPARISON: Final = counter_comparison(
    name="error_hours",
    keys="hour step attempts status error_class",
    sums="calls",
    expected=f"""
        select   date_trunc('hour', finished_at, 'UTC') as hour, step, attempts, status,
                 coalesce(classify_error(error), '') as error_class, count(*) as calls
        {_FROM_CALLS_IN_HOURS}
        and      status <> 'COMPLETED'
        group by 1, 2, 3, 4, 5
    """,
)

RETRY_MINUTES_COMPARISON: Final = counter_comparison(
    name="retry_minutes",
    keys="minute step",
    sums="retries first_tries",
    expected=f"""
        select   date_trunc('minute', finished_at, 'UTC') as minute, step,
                 count(*) filter (where attempts = 0) as first_tries,
                 count(*) filter (where attempts > 0) as retries
        {_FROM_CALLS_IN_HOURS}
        and      finished_at >= (select kept_from from maintenance_state where subject = 'minutes')
        group by 1, 2
    """,  # noqa: S608 - a part that several queries share
)
