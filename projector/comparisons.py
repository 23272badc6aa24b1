"""What each projection shows, beside the fold of its events: two queries of the same rows.

The folds are written again here, from the rules and not from the triggers: in one pass, with
nothing merged. Both queries get the same bounds and must give the same rows at every snapshot.
Table names are without a schema, so that a projection that is being rebuilt can be compared too.
"""

from typing import Final, Literal

import msgspec

Bounds = Literal["created", "arrived", "refused", "begun", "finished", "executions"]
"""What $1 and $2 bound: `executions`, the ids of executions, both included; else hours, the second
left out: of when events happened or arrived, of refusals, of when tries began or finished."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two queries of the same columns: those of `keys` name a row, `measure` is one that does not.

    $1 and $2 are the bounds. $3 and $4 cut a stretch that is too long for one snapshot into shares
    of keys: only those of share $4 of $3 are compared. Of executions $5 may name a few.
    """

    name: str
    bounds: Bounds
    keys: str
    measure: str
    shown: str
    folded: str
    archived: str | None = None
    """How much in the bounds was made from events that are dropped by now, and is left alone."""


_MINUTES: Final = Comparison(
    name="event_minutes",
    bounds="created",
    keys="minute event_type status attempts",
    measure="events",
    shown="""
        select   minute, event_type, status, attempts, sum(events)::bigint as events
        from     event_minutes
        where    minute >= $1::timestamptz and minute < $2::timestamptz
        and      minute >= (select kept_from from horizon where rows_of = 'minutes')
        and      shard >= 0
        and      mod(abs(hashtext(event_type)::bigint), $3::integer) = $4::integer
        group by minute, event_type, status, attempts
        having   sum(events) <> 0
    """,
    folded="""
        select   date_trunc('minute', created_at, 'UTC') as minute, event_type, status, attempts,
                 count(*) as events
        from     normalizer.events
        where    created_at >= $1::timestamptz and created_at < $2::timestamptz
        and      created_at >= (select kept_from from horizon where rows_of = 'minutes')
        and      mod(abs(hashtext(event_type)::bigint), $3::integer) = $4::integer
        group by 1, 2, 3, 4
    """,
)

_HOURS: Final = Comparison(
    name="event_hours",
    bounds="created",
    keys="hour step event_type status attempts",
    measure="events",
    shown="""
        select   hour, step, event_type, status, attempts, sum(events)::bigint as events
        from     event_hours
        where    hour >= $1::timestamptz and hour < $2::timestamptz
        and      shard >= 0
        and      mod(abs(hashtext(event_type)::bigint), $3::integer) = $4::integer
        group by hour, step, event_type, status, attempts
        having   sum(events) <> 0
    """,
    folded="""
        select   date_trunc('hour', created_at, 'UTC') as hour, step, event_type, status, attempts,
                 count(*) as events
        from     normalizer.events
        where    created_at >= $1::timestamptz and created_at < $2::timestamptz
        and      mod(abs(hashtext(event_type)::bigint), $3::integer) = $4::integer
        group by 1, 2, 3, 4, 5
    """,
    archived="""
        select coalesce(sum(events), 0)::bigint
        from   event_hours
        where  hour >= $1::timestamptz and hour < $2::timestamptz and shard < 0
    """,
)

_ARRIVALS: Final = Comparison(
    name="arrival_hours",
    bounds="arrived",
    keys="hour shape evidence lateness",
    measure="events",
    shown="""
        select   hour, shape, evidence, lateness, sum(events)::bigint as events
        from     arrival_hours
        where    hour >= $1::timestamptz and hour < $2::timestamptz
        and      shard >= 0
        and      mod(abs(hashtext(shape)::bigint), $3::integer) = $4::integer
        group by hour, shape, evidence, lateness
        having   sum(events) <> 0
    """,
    folded="""
        select   date_trunc('hour', coalesce(recorded_at, created_at), 'UTC') as hour, shape,
                 evidence,
                 case
                     when recorded_at is null then 0
                     else 1 + width_bucket(
                         extract(epoch from recorded_at - created_at),
                         array[-1, 1, 10, 60, 600, 3600, 86400]::numeric[]
                     )
                 end as lateness,
                 count(*) as events
        from     normalizer.events
        where    coalesce(recorded_at, created_at) >= $1::timestamptz
        and      coalesce(recorded_at, created_at) < $2::timestamptz
        and      mod(abs(hashtext(shape)::bigint), $3::integer) = $4::integer
        group by 1, 2, 3, 4
    """,
    archived="""
        select coalesce(sum(events), 0)::bigint
        from   arrival_hours
        where  hour >= $1::timestamptz and hour < $2::timestamptz and shard < 0
    """,
)

_COERCIONS: Final = Comparison(
    name="coercion_hours",
    bounds="arrived",
    keys="hour shape rule",
    measure="coercions",
    shown="""
        select   hour, shape, rule, sum(coercions)::bigint as coercions
        from     coercion_hours
        where    hour >= $1::timestamptz and hour < $2::timestamptz
        and      shard >= 0
        and      mod(abs(hashtext(shape)::bigint), $3::integer) = $4::integer
        group by hour, shape, rule
        having   sum(coercions) <> 0
    """,
    folded="""
        select   date_trunc('hour', coalesce(recorded_at, created_at), 'UTC') as hour, shape,
                 coercion ->> 'rule' as rule, count(*) as coercions
        from     normalizer.events
        cross join lateral jsonb_array_elements(coercions) as coercion
        where    coalesce(recorded_at, created_at) >= $1::timestamptz
        and      coalesce(recorded_at, created_at) < $2::timestamptz
        and      mod(abs(hashtext(shape)::bigint), $3::integer) = $4::integer
        and      coercion ->> 'rule' is not null
        group by 1, 2, 3
    """,
)

_REFUSALS: Final = Comparison(
    name="quarantine_hours",
    bounds="refused",
    keys="hour reason shape",
    measure="refused",
    shown="""
        select   hour, reason, shape, sum(refused)::bigint as refused
        from     quarantine_hours
        where    hour >= $1::timestamptz and hour < $2::timestamptz
        and      shard >= 0
        and      mod(abs(hashtext(reason)::bigint), $3::integer) = $4::integer
        group by hour, reason, shape
        having   sum(refused) <> 0
    """,
    folded="""
        select   date_trunc('hour', quarantined_at, 'UTC') as hour, reason, shape,
                 count(*) as refused
        from     normalizer.quarantine
        where    quarantined_at >= $1::timestamptz and quarantined_at < $2::timestamptz
        and      mod(abs(hashtext(reason)::bigint), $3::integer) = $4::integer
        group by 1, 2, 3
    """,
)

_EXECUTIONS: Final = Comparison(
    name="execution_facts",
    bounds="executions",
    keys="execution_id",
    measure="events",
    shown="""
        select execution_id, events, first_at, last_at,
               split_part(undated(last_told), chr(31), 1) as last_event_type,
               split_part(undated(last_told), chr(31), 2) as last_step, active_at, least_event_id,
               greatest_event_id, highest_attempts, playbook_of(told_playbook) as playbook,
               version_of(told_playbook) as version, catalog_id, parent_execution_id, completed,
               completed_at, failed, failed_at, cancelled, cancelled_at,
               (counted_told, counted_begun, counted_outcome, counted_ended)
                   is not distinct from (
                       told_playbook, hour_of(first_at),
                       outcome_of(completed_at, failed_at, cancelled_at),
                       hour_of(least(completed_at, failed_at, cancelled_at))
                   ) as counted_as_it_is
        from   execution_facts
        where  execution_id between $1::bigint and $2::bigint
        and    ($5::bigint[] is null or execution_id = any($5::bigint[]))
        and    mod(abs(hashint8(execution_id)::bigint), $3::integer) = $4::integer
        and    archived = 0
    """,
    folded="""
        select   execution_id, count(*) as events, min(created_at) as first_at,
                 max(created_at) as last_at,
                 (array_agg(event_type order by created_at desc, words desc))[1]
                     as last_event_type,
                 (array_agg(step order by created_at desc, words desc))[1] as last_step,
                 max(created_at) filter (where is_activity) as active_at,
                 min(event_id) as least_event_id, max(event_id) as greatest_event_id,
                 max(attempts) as highest_attempts,
                 coalesce(
                     (
                         array_agg(name order by begins desc, created_at, name, version)
                             filter (where name is not null)
                     )[1],
                     ''
                 ) as playbook,
                 nullif(
                     (
                         array_agg(version order by begins desc, created_at, name, version)
                             filter (where name is not null)
                     )[1],
                     ''
                 ) as version,
                 min(catalog_id) as catalog_id, min(parent_execution_id) as parent_execution_id,
                 count(*) filter (where outcome = 'COMPLETED') as completed,
                 min(created_at) filter (where outcome = 'COMPLETED') as completed_at,
                 count(*) filter (where outcome = 'FAILED') as failed,
                 min(created_at) filter (where outcome = 'FAILED') as failed_at,
                 count(*) filter (where outcome = 'CANCELLED') as cancelled,
                 min(created_at) filter (where outcome = 'CANCELLED') as cancelled_at,
                 true as counted_as_it_is
        from     (
                     select event.execution_id, event.event_id, event.event_type, event.step,
                            event.attempts, event.created_at, event.catalog_id,
                            event.parent_execution_id,
                            (event.event_type || chr(31) || event.step) collate "C" as words,
                            coalesce(kind.role not in ('ends', 'ended'), true)
                                and left(event.event_type, 8) <> 'workflow' as is_activity,
                            case
                                when kind.role = 'ends' then
                                    case
                                        when event.status in ('COMPLETED', 'FAILED', 'CANCELLED')
                                        then event.status
                                        else kind.outcome
                                    end
                            end as outcome,
                            path.path is not null as begins,
                            replace(left(coalesce(path.path, nullif(life.step, '')), 200), chr(31),
                                    ' ') collate "C" as name,
                            coalesce(
                                left(case when path.path is not null
                                          then event.context ->> 'version' end, 100),
                                ''
                            ) collate "C" as version
                     from   normalizer.events as event
                     left join event_kinds as kind on kind.event_type = event.event_type
                     left join lateral (
                         select nullif(event.context ->> 'path', '') as path
                         where  kind.role = 'begins'
                         and    jsonb_typeof(event.context -> 'path') = 'string'
                     ) as path on true
                     left join lateral (
                         select event.step where kind.subject = 'execution'
                     ) as life on true
                     where  event.execution_id between $1::bigint and $2::bigint
                     and    ($5::bigint[] is null or event.execution_id = any($5::bigint[]))
                     and    mod(abs(hashint8(event.execution_id)::bigint), $3::integer)
                            = $4::integer
                     and    not exists (
                                select
                                from   execution_facts as known
                                where  known.execution_id = event.execution_id
                                and    known.archived > 0
                            )
                 ) as told
        group by execution_id
    """,
    archived="""
        select count(*)
        from   execution_facts
        where  execution_id between $1::bigint and $2::bigint and archived > 0
    """,
)

_CALLS: Final = Comparison(
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
        join   execution_facts as execution using (execution_id)
        where  call.execution_id between $1::bigint and $2::bigint
        and    ($5::bigint[] is null or call.execution_id = any($5::bigint[]))
        and    mod(abs(hashint8(call.execution_id)::bigint), $3::integer) = $4::integer
        and    execution.archived = 0
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
            and    not exists (
                       select
                       from   execution_facts as known
                       where  known.execution_id = event.execution_id
                       and    known.archived > 0
                   )
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
                             filter (where closes and duration >= 0 and duration < 1e9)
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

_EXECUTION_HOURS: Final = Comparison(
    name="execution_hours",
    bounds="begun",
    keys="hour playbook outcome",
    measure="executions",
    shown="""
        select   hour, playbook, outcome, sum(executions)::bigint as executions
        from     execution_hours
        where    hour >= $1::timestamptz and hour < $2::timestamptz
        and      shard >= 0
        and      mod(abs(hashtext(playbook)::bigint), $3::integer) = $4::integer
        group by hour, playbook, outcome
        having   sum(executions) <> 0
    """,
    folded="""
        select   hour, playbook, outcome, count(*) as executions
        from     (
                     select hour_of(first_at) as hour, playbook_of(told_playbook) as playbook,
                            'BEGUN' as outcome
                     from   execution_facts
                     where  hour_of(first_at) >= $1::timestamptz
                     and    hour_of(first_at) < $2::timestamptz
                     union all
                     select hour_of(least(completed_at, failed_at, cancelled_at)),
                            playbook_of(told_playbook),
                            outcome_of(completed_at, failed_at, cancelled_at)
                     from   execution_facts
                     where  hour_of(least(completed_at, failed_at, cancelled_at))
                            >= $1::timestamptz
                     and    hour_of(least(completed_at, failed_at, cancelled_at)) < $2::timestamptz
                 ) as marked
        where    mod(abs(hashtext(playbook)::bigint), $3::integer) = $4::integer
        group by hour, playbook, outcome
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

_CALL_HOURS: Final = Comparison(
    name="call_hours",
    bounds="finished",
    keys="hour playbook step attempts status",
    measure="calls",
    shown="""
        select   hour, playbook, step, attempts, status, sum(calls)::bigint as calls,
                 sum(timed)::bigint as timed, sum(duration_us)::bigint as duration_us,
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
                 coalesce(sum(duration_us), 0)::bigint as duration_us,
                 count(*) filter (where exhausted) as exhausted
        {_FINISHED}
        group by 1, 2, 3, 4, 5
    """,
)

_CALL_TIMES: Final = Comparison(
    name="call_times",
    bounds="finished",
    keys="hour measure playbook step attempts status bucket",
    measure="calls",
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

_WORKERS: Final = Comparison(
    name="worker_hours",
    bounds="finished",
    keys="hour worker_id status",
    measure="calls",
    shown="""
        select   hour, worker_id, status, sum(calls)::bigint as calls, sum(timed)::bigint as timed,
                 sum(duration_us)::bigint as duration_us
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
                 coalesce(sum(duration_us), 0)::bigint as duration_us
        {_FINISHED.replace("hashtext(step)", "hashtext(worker_id)")}
        group by 1, 2, 3
    """,
)

_ERRORS: Final = Comparison(
    name="error_hours",
    bounds="finished",
    keys="hour step attempts status error_class",
    measure="calls",
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

_RETRIES: Final = Comparison(
    name="retry_minutes",
    bounds="begun",
    keys="minute step",
    measure="retries",
    shown="""
        select   minute, step, sum(retries)::bigint as retries
        from     retry_minutes
        where    minute >= $1::timestamptz and minute < $2::timestamptz
        and      shard >= 0
        and      minute >= (select kept_from from horizon where rows_of = 'minutes')
        and      mod(abs(hashtext(step)::bigint), $3::integer) = $4::integer
        group by minute, step
        having   sum(retries) <> 0
    """,
    folded="""
        select   date_trunc('minute', begun_at, 'UTC') as minute, step, count(*) as retries
        from     counted_calls
        where    hour_of(begun_at) >= $1::timestamptz and hour_of(begun_at) < $2::timestamptz
        and      begun_at >= (select kept_from from horizon where rows_of = 'minutes')
        and      attempts > 0
        and      mod(abs(hashtext(step)::bigint), $3::integer) = $4::integer
        group by 1, 2
    """,
)

COMPARISONS: Final[tuple[Comparison, ...]] = (
    _MINUTES,
    _HOURS,
    _ARRIVALS,
    _COERCIONS,
    _REFUSALS,
    _EXECUTIONS,
    _CALLS,
    _EXECUTION_HOURS,
    _CALL_HOURS,
    _CALL_TIMES,
    _WORKERS,
    _ERRORS,
    _RETRIES,
)
"""Every table that moves. Those from executions and calls on are proven by their events; the
roll-ups that hang on them, by them: at every snapshot both are exact, so the chain proves them."""
