"""Counters: events by minute and hour, arrivals, coercions, refusals."""

from typing import Final

from projector.verify.queries.comparison import Comparison

MINUTES: Final = Comparison(
    name="event_minutes",
    bounds="created",
    keys="minute event_type status attempts",
    measure="events",
    sums="events",
    actual="""
        select   minute, event_type, status, attempts, sum(events)::bigint as events
        from     event_minutes
        where    minute >= $1::timestamptz and minute < $2::timestamptz
        and      minute >= (select kept_from from maintenance_state where subject = 'minutes')
        and      shard >= 0
        and      mod(abs(hashtext(event_type)::bigint), $3::integer) = $4::integer
        group by minute, event_type, status, attempts
        having   sum(events) <> 0
    """,
    expected="""
        select   date_trunc('minute', created_at, 'UTC') as minute, event_type, status, attempts,
                 count(*) as events
        from     normalizer.events
        where    created_at >= $1::timestamptz and created_at < $2::timestamptz
        and      created_at >= (select kept_from from maintenance_state where subject = 'minutes')
        and      mod(abs(hashtext(event_type)::bigint), $3::integer) = $4::integer
        group by 1, 2, 3, 4
    """,
)

HOURS: Final = Comparison(
    name="event_hours",
    bounds="created",
    keys="hour step event_type status attempts",
    measure="events",
    sums="events without_command",
    actual="""
        select   hour, step, event_type, status, attempts, sum(events)::bigint as events,
                 sum(without_command)::bigint as without_command
        from     event_hours
        where    hour >= $1::timestamptz and hour < $2::timestamptz
        and      shard >= 0
        and      mod(abs(hashtext(event_type)::bigint), $3::integer) = $4::integer
        group by hour, step, event_type, status, attempts
        having   sum(events) <> 0 or sum(without_command) <> 0
    """,
    expected="""
        select   date_trunc('hour', created_at, 'UTC') as hour, step, event_type, status, attempts,
                 count(*) as events,
                 count(*) filter (where coalesce(command_id, '') = '') as without_command
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

ARRIVALS: Final = Comparison(
    name="arrival_hours",
    bounds="arrived",
    keys="hour shape worker_id lateness",
    measure="events",
    sums="events skew_us attempts_defaulted status_from_name time_from_log",
    actual="""
        select   hour, shape, worker_id, lateness, sum(events)::bigint as events,
                 sum(skew_us) as skew_us, sum(attempts_defaulted)::bigint as attempts_defaulted,
                 sum(status_from_name)::bigint as status_from_name,
                 sum(time_from_log)::bigint as time_from_log
        from     arrival_hours
        where    hour >= $1::timestamptz and hour < $2::timestamptz
        and      shard >= 0
        and      mod(abs(hashtext(shape)::bigint), $3::integer) = $4::integer
        group by hour, shape, worker_id, lateness
        having   sum(events) <> 0 or sum(skew_us) <> 0 or sum(attempts_defaulted) <> 0
        or       sum(status_from_name) <> 0 or sum(time_from_log) <> 0
    """,
    expected="""
        select   date_trunc('hour', coalesce(recorded_at, created_at), 'UTC') as hour, shape,
                 coalesce(worker_id, '') as worker_id,
                 case
                     when recorded_at is null then 0
                     else 1 + width_bucket(
                         extract(epoch from recorded_at - created_at),
                         array[-1, 1, 10, 60, 600, 3600, 86400]::numeric[]
                     )
                 end as lateness,
                 count(*) as events,
                 coalesce(
                     sum((date_part('epoch', recorded_at - created_at) * 1000000)::bigint)
                         filter (
                             where extract(epoch from recorded_at - created_at) < -1
                             or    extract(epoch from recorded_at - created_at) >= 1
                         ),
                     0
                 ) as skew_us,
                 count(*) filter (where evidence < 100) as attempts_defaulted,
                 count(*) filter (where evidence / 10 % 10 = 0) as status_from_name,
                 count(*) filter (where evidence % 10 = 0) as time_from_log
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

COERCIONS: Final = Comparison(
    name="coercion_hours",
    bounds="arrived",
    keys="hour shape rule",
    measure="coercions",
    sums="coercions",
    actual="""
        select   hour, shape, rule, sum(coercions)::bigint as coercions
        from     coercion_hours
        where    hour >= $1::timestamptz and hour < $2::timestamptz
        and      shard >= 0
        and      mod(abs(hashtext(shape)::bigint), $3::integer) = $4::integer
        group by hour, shape, rule
        having   sum(coercions) <> 0
    """,
    expected="""
        select   date_trunc('hour', coalesce(recorded_at, created_at), 'UTC') as hour, shape,
                 left(coercion ->> 'rule', 100) as rule, count(*) as coercions
        from     normalizer.events
        cross join lateral jsonb_array_elements(coercions) as coercion
        where    coalesce(recorded_at, created_at) >= $1::timestamptz
        and      coalesce(recorded_at, created_at) < $2::timestamptz
        and      mod(abs(hashtext(shape)::bigint), $3::integer) = $4::integer
        and      coercion ->> 'rule' is not null
        group by 1, 2, 3
    """,
)

REFUSALS: Final = Comparison(
    name="quarantine_hours",
    bounds="refused",
    keys="hour reason shape",
    measure="refused",
    sums="refused",
    actual="""
        select   hour, reason, shape, sum(refused)::bigint as refused
        from     quarantine_hours
        where    hour >= $1::timestamptz and hour < $2::timestamptz
        and      shard >= 0
        and      mod(abs(hashtext(reason)::bigint), $3::integer) = $4::integer
        group by hour, reason, shape
        having   sum(refused) <> 0
    """,
    expected="""
        select   date_trunc('hour', quarantined_at, 'UTC') as hour, reason, shape,
                 count(*) as refused
        from     normalizer.quarantine
        where    quarantined_at >= $1::timestamptz and quarantined_at < $2::timestamptz
        and      mod(abs(hashtext(reason)::bigint), $3::integer) = $4::integer
        group by 1, 2, 3
    """,
)
