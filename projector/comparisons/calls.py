"""Tries of commands, and their roll-ups by hour."""

from typing import Final

from projector.comparisons.comparison import Comparison

CALLS: Final = Comparison(
    name="call_facts",
    bounds="executions",
    keys="execution_id call_key attempts",
    measure="begun_at",
    shown="""
        select call.execution_id, call.call_key, call.attempts, call.begun_at, call.issued_at,
               call.claimed_at, call.started_at, call.finished_at,
               substr(call.told_outcome, 19) as status,
               unsorted(substr(call.told_duration, 19)) as duration_us,
               md5(substr(call.told_error, 19)) as error, undated(call.told_step) as step,
               undated(call.told_worker) as worker_id,
               unsorted(undated(call.told_limit)) as max_attempts, call.iteration,
               call.failed_before
        from   call_facts as call
        where  call.execution_id between $1::bigint and $2::bigint
        and    ($5::bigint[] is null or call.execution_id = any($5::bigint[]))
        and    mod(abs(hashint8(call.execution_id)::bigint), $3::integer) = $4::integer
    """,
    folded="""
        with told as (
            select event.execution_id, event.created_at, event.max_attempts, event.iteration,
                   nullif(event.step, '') as step, nullif(event.worker_id, '') as worker_id,
                   nullif(left(event.error, 1000), '') as error, event.duration,
                   case
                       when coalesce(event.command_id, '') = ''
                       then '#' || coalesce(event.iteration::text, '') || ' ' || event.step
                       when left(event.command_id, 1) = '#' then '#' || event.command_id
                       else event.command_id
                   end as call_key,
                   case when event.evidence / 100 > 0 then event.attempts end as number,
                   kind.role,
                   case
                       when event.status in ('COMPLETED', 'FAILED', 'ERROR', 'CANCELLED')
                       then event.status
                       else kind.outcome
                   end as status,
                   kind.role = 'done'
                       or kind.role = 'ended' and not (
                              kind.event_class = 'command.completed'
                              and coalesce(
                                      event.context -> 'pending_callback' = 'true'::jsonb, false
                                  )
                          ) as closes
            from   normalizer.events as event
            join   event_kinds as kind
                   on kind.event_type = event.event_type and kind.subject = 'call'
            where  event.execution_id between $1::bigint and $2::bigint
            and    ($5::bigint[] is null or event.execution_id = any($5::bigint[]))
            and    mod(abs(hashint8(event.execution_id)::bigint), $3::integer) = $4::integer
            union all
            -- What is archived, as rows that say just one thing each.
            select kept.execution_id, part.created_at, unsorted(undated(part.told_limit)),
                   kept.iteration, undated(part.told_step), undated(part.told_worker),
                   substr(part.told_error, 19),
                   unsorted(substr(part.told_duration, 19)) / 1000000::double precision,
                   kept.call_key, kept.told,
                   case left(part.closing, 1) when '0' then 'done' when '1' then 'ended'
                   else part.role end,
                   substr(part.told_outcome, 19), part.closing is not null
            from   archived_calls as kept
            cross join lateral (
                values (begun_at, '', null, null, null, null, null, null),
                       (issued_at, 'issued', null, null, null, null, null, null),
                       (claimed_at, 'claimed', null, null, null, null, null, null),
                       (started_at, 'started', null, null, null, null, null, null),
                       (moment_of(substr(told_outcome, 2)), '', told_outcome, null, null, null,
                        null, null),
                       (moment_of(substr(told_duration, 2)), '', null, told_duration, null, null,
                        null, null),
                       (moment_of(substr(told_error, 2)), '', null, null, told_error, null, null,
                        null),
                       (moment_of(told_step), '', null, null, null, told_step, null, null),
                       (moment_of(told_worker), '', null, null, null, null, told_worker, null),
                       (moment_of(told_limit), '', null, null, null, null, null, told_limit)
            ) as told (
                created_at, role, told_outcome, told_duration, told_error, told_step,
                told_worker, told_limit
            )
            cross join lateral (
                select told.*, coalesce(told.told_outcome, told.told_duration, told.told_error)
                                   as closing
            ) as part
            where  kept.execution_id between $1::bigint and $2::bigint
            and    ($5::bigint[] is null or kept.execution_id = any($5::bigint[]))
            and    mod(abs(hashint8(kept.execution_id)::bigint), $3::integer) = $4::integer
            and    part.created_at is not null
        ),
        try as materialized (
            select   execution_id, call_key,
                     case
                         when number is not null then number
                         when least_number = greatest_number then least_number
                         else 0
                     end as attempts,
                     min(created_at) as begun_at,
                     min(created_at) filter (where role = 'issued') as issued_at,
                     min(created_at) filter (where role = 'claimed') as claimed_at,
                     min(created_at) filter (where role = 'started') as started_at,
                     (
                         array_agg(created_at order by role, created_at, status collate "C")
                             filter (where closes)
                     )[1] as finished_at,
                     (
                         array_agg(status order by role, created_at, status collate "C")
                             filter (where closes)
                     )[1] as status,
                     (
                         array_agg(round(duration * 1000000)::bigint
                                   order by role, created_at, duration)
                             filter (where closes and duration between 0 and 2592000)
                     )[1] as duration_us,
                     md5(
                         (
                             array_agg(error order by role, created_at, error collate "C")
                                 filter (where closes and error is not null)
                         )[1]
                     ) as error,
                     (
                         array_agg(step order by created_at, step collate "C")
                             filter (where step is not null)
                     )[1] as step,
                     (
                         array_agg(worker_id order by created_at, worker_id collate "C")
                             filter (where worker_id is not null)
                     )[1] as worker_id,
                     (
                         array_agg(max_attempts order by created_at, max_attempts)
                             filter (where max_attempts is not null)
                     )[1]::bigint as max_attempts,
                     min(iteration) as iteration
            from     (
                         select *,
                                min(number) over command as least_number,
                                max(number) over command as greatest_number
                         from   told
                         window command as (partition by execution_id, call_key)
                     ) as numbered
            group by 1, 2, 3
        )
        select try.*, before.failed_before
        from   try
        left join (
            select   retry.execution_id, retry.call_key, retry.attempts,
                     max(failure.finished_at) as failed_before
            from     try as retry
            join     try as failure
                     on  failure.execution_id = retry.execution_id
                     and failure.attempts = retry.attempts - 1
            where    failure.status <> 'COMPLETED'
            and      failure.finished_at <= retry.begun_at
            and      (
                         failure.call_key = retry.call_key
                         or failure.step = retry.step
                            and failure.iteration is not distinct from retry.iteration
                     )
            group by retry.execution_id, retry.call_key, retry.attempts
        ) as before using (execution_id, call_key, attempts)
    """,
)

_FINISHED: Final = """
        from   counted_calls as call
        left join execution_facts as execution using (execution_id)
        where  hour_of(coalesce(finished_at, begun_at)) >= $1::timestamptz
        and    hour_of(coalesce(finished_at, begun_at)) < $2::timestamptz
        and    finished_at is not null
        and    mod(abs(hashtext(step)::bigint), $3::integer) = $4::integer
"""

CALL_HOURS: Final = Comparison(
    name="call_hours",
    bounds="finished",
    keys="hour playbook step attempts status",
    measure="calls",
    sums="calls timed duration_us exhausted",
    shown="""
        select   hour, playbook, step, attempts, status, sum(calls)::bigint as calls,
                 sum(timed)::bigint as timed, sum(duration_us) as duration_us,
                 sum(exhausted)::bigint as exhausted
        from     call_hours
        where    hour >= $1::timestamptz and hour < $2::timestamptz
        and      shard >= 0
        and      mod(abs(hashtext(step)::bigint), $3::integer) = $4::integer
        group by hour, playbook, step, attempts, status
        having   sum(calls) <> 0 or sum(timed) <> 0 or sum(duration_us) <> 0 or sum(exhausted) <> 0
    """,
    folded=f"""
        select   date_trunc('hour', finished_at, 'UTC') as hour,
                 playbook_of(execution.told_playbook) as playbook, step, attempts, status,
                 count(*) as calls, count(duration_us) as timed,
                 coalesce(sum(duration_us), 0) as duration_us,
                 count(*) filter (where exhausted) as exhausted
        {_FINISHED}
        group by 1, 2, 3, 4, 5
    """,
)

CALL_TIMES: Final = Comparison(
    name="call_times",
    bounds="finished",
    keys="hour measure playbook step attempts status bucket",
    measure="calls",
    sums="calls",
    shown="""
        select   hour, measure, playbook, step, attempts, status, bucket,
                 sum(calls)::bigint as calls
        from     call_times
        where    hour >= $1::timestamptz and hour < $2::timestamptz
        and      shard >= 0
        and      mod(abs(hashtext(step)::bigint), $3::integer) = $4::integer
        group by hour, measure, playbook, step, attempts, status, bucket
        having   sum(calls) <> 0
    """,
    folded=f"""
        select   date_trunc('hour', taken.finished_at, 'UTC') as hour, measured.measure,
                 taken.playbook, taken.step, taken.attempts, taken.status,
                 bucket_of(measured.microseconds) as bucket, count(*) as calls
        from     (
                     select finished_at, step, attempts, status, duration_us, queue_us, backoff_us,
                            playbook_of(execution.told_playbook) as playbook
                     {_FINISHED}
                 ) as taken
        cross join lateral (
            values ('duration', duration_us), ('queue', queue_us), ('backoff', backoff_us)
        ) as measured (measure, microseconds)
        where    measured.microseconds is not null
        group by 1, 2, 3, 4, 5, 6, 7
    """,  # noqa: S608 - a part that three folds share
)

WORKERS: Final = Comparison(
    name="worker_hours",
    bounds="finished",
    keys="hour worker_id status",
    measure="calls",
    sums="calls timed duration_us",
    shown="""
        select   hour, worker_id, status, sum(calls)::bigint as calls, sum(timed)::bigint as timed,
                 sum(duration_us) as duration_us
        from     worker_hours
        where    hour >= $1::timestamptz and hour < $2::timestamptz
        and      shard >= 0
        and      mod(abs(hashtext(worker_id)::bigint), $3::integer) = $4::integer
        group by hour, worker_id, status
        having   sum(calls) <> 0 or sum(timed) <> 0 or sum(duration_us) <> 0
    """,
    folded=f"""
        select   date_trunc('hour', finished_at, 'UTC') as hour, worker_id, status,
                 count(*) as calls, count(duration_us) as timed,
                 coalesce(sum(duration_us), 0) as duration_us
        {_FINISHED.replace("hashtext(step)", "hashtext(worker_id)")}
        group by 1, 2, 3
    """,
)

ERRORS: Final = Comparison(
    name="error_hours",
    bounds="finished",
    keys="hour step attempts status error_class",
    measure="calls",
    sums="calls",
    shown="""
        select   hour, step, attempts, status, error_class, sum(calls)::bigint as calls
        from     error_hours
        where    hour >= $1::timestamptz and hour < $2::timestamptz
        and      shard >= 0
        and      mod(abs(hashtext(step)::bigint), $3::integer) = $4::integer
        group by hour, step, attempts, status, error_class
        having   sum(calls) <> 0
    """,
    folded=f"""
        select   date_trunc('hour', finished_at, 'UTC') as hour, step, attempts, status,
                 coalesce(error_class_of(error), '') as error_class, count(*) as calls
        {_FINISHED}
        and      status <> 'COMPLETED'
        group by 1, 2, 3, 4, 5
    """,
)

RETRIES: Final = Comparison(
    name="retry_minutes",
    bounds="finished",
    keys="minute step",
    measure="retries",
    sums="first_tries retries",
    shown="""
        select   minute, step, sum(first_tries)::bigint as first_tries,
                 sum(retries)::bigint as retries
        from     retry_minutes
        where    minute >= $1::timestamptz and minute < $2::timestamptz
        and      shard >= 0
        and      minute >= (select kept_from from horizon where rows_of = 'minutes')
        and      mod(abs(hashtext(step)::bigint), $3::integer) = $4::integer
        group by minute, step
        having   sum(first_tries) <> 0 or sum(retries) <> 0
    """,
    folded=f"""
        select   date_trunc('minute', finished_at, 'UTC') as minute, step,
                 count(*) filter (where attempts = 0) as first_tries,
                 count(*) filter (where attempts > 0) as retries
        {_FINISHED}
        and      finished_at >= (select kept_from from horizon where rows_of = 'minutes')
        group by 1, 2
    """,  # noqa: S608 - a part that folds share
)
