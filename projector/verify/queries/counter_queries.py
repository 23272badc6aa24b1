"""Counters: events by minute and hour, arrivals, coercions."""

from typing import Final

from projector.verify.queries.comparison import counter_comparison

EVENT_MINUTES_COMPARISON: Final = counter_comparison(
    name="event_minutes",
    keys="minute event_type status attempts",
    sums="events attempts_defaulted",
    expected="""
        select   date_trunc('minute', created_at, 'UTC') as minute, event_type, status, attempts,
                 count(*) as events, count(*) filter (where evidence_rank(evidence, 'attempts') = 0)
                     as attempts_defaulted
        from     normalizer.events
        where    created_at >= $1::timestamptz and created_at < $2::timestamptz
        and      created_at >= (select kept_from from maintenance_state where subject = 'minutes')
        group by 1, 2, 3, 4
    """,
)

EVENT_HOURS_COMPARISON: Final = counter_comparison(
    name="event_hours",
    keys="hour step event_type status attempts",
    sums="events without_command attempts_defaulted",
    expected="""
        select   date_trunc('hour', created_at, 'UTC') as hour, step, event_type, status, attempts,
                 count(*) as events,
                 count(*) filter (where coalesce(command_id, '') = '') as without_command,
                 count(*) filter (where evidence_rank(evidence, 'attempts') = 0)
                     as attempts_defaulted
        from     normalizer.events
        where    created_at >= $1::timestamptz and created_at < $2::timestamptz
        group by 1, 2, 3, 4, 5
    """,
    reports_archived=True,
)

ARRIVAL_HOURS_COMPARISON: Final = counter_comparison(
    name="arrival_hours",
    keys="hour shape worker_id lateness",
    sums="events skew_us attempts_defaulted status_from_name time_from_log",
    expected="""
        select   date_trunc('hour', coalesce(recorded_at, created_at), 'UTC') as hour, shape,
                 coalesce(worker_id, '') as worker_id,
                 case
                     when recorded_at is null then 0
                     else 1 + width_bucket(skew_s, array[-1, 1, 10, 60, 600, 3600, 86400])
                 end as lateness,
                 count(*) as events,
                 coalesce(
                     sum((skew_s * 1000000)::bigint) filter (where skew_s < -1 or skew_s >= 1), 0
                 ) as skew_us,
                 count(*) filter (where evidence_rank(evidence, 'attempts') = 0)
                     as attempts_defaulted,
                 count(*) filter (where evidence_rank(evidence, 'status') = 0) as status_from_name,
                 count(*) filter (where evidence_rank(evidence, 'created_at') = 0) as time_from_log
        from     (
                     -- The trigger uses `date_part` too. The numeric that `extract` returns would
                     -- lead to other microseconds if the two times are centuries apart.
                     select *, date_part('epoch', recorded_at - created_at) as skew_s
                     from   normalizer.events
                 ) as event
        where    coalesce(recorded_at, created_at) >= $1::timestamptz
        and      coalesce(recorded_at, created_at) < $2::timestamptz
        group by 1, 2, 3, 4
    """,
    reports_archived=True,
)

COERCION_HOURS_COMPARISON: Final = counter_comparison(
    name="coercion_hours",
    keys="hour shape rule",
    sums="coercions",
    expected="""
        select   date_trunc('hour', coalesce(recorded_at, created_at), 'UTC') as hour, shape,
                 left(coercion ->> 'rule', 100) as rule, count(*) as coercions
        from     normalizer.events
        cross join lateral jsonb_array_elements(coercions) as coercion
        where    coalesce(recorded_at, created_at) >= $1::timestamptz
        and      coalesce(recorded_at, created_at) < $2::timestamptz
        and      coercion ->> 'rule' is not null
        group by 1, 2, 3
    """,
)
