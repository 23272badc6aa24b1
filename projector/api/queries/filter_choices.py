"""Lists the values that a reader of the page can choose as a filter, such as the names of steps."""

from projector.api.answers import ApiAnswer, ApiRow, Timestamp
from projector.api.parameters import (
    WindowParams,
    round_to_grain,
)
from projector.api.queries.grouping import FIRST_HOUR_WITH_CALLS_SQL
from projector.api.queries.query_answers import run_query
from projector.api.snapshots import Snapshot, Statement


class Choices(ApiRow, frozen=True, kw_only=True):
    """The values that each filter can have in this window, at most 500 per filter.

    `oldest_hour` is the first hour in which a stored call ended. If it's after the begin of a
    window, the figures of that window lack what came before.
    """

    playbooks: list[str]
    steps: list[str]
    event_types: list[str]
    statuses: list[str]
    attempts: list[int]
    workers: list[str]
    shapes: list[str]
    oldest_hour: Timestamp | None


_CHOICES = Statement(f"""
    with outcome as materialized (
        select   playbook, step, status, attempts
        from     projector.call_outcomes_by_attempt
        where    hour >= :since::timestamptz and hour < :until::timestamptz
        group by playbook, step, status, attempts
        having   sum(calls) <> 0
    )
    select array(select playbook from outcome group by 1 order by 1 limit 500) as playbooks,
           array(select step from outcome group by 1 order by 1 limit 500) as steps,
           array(
               select   event_type
               from     projector.event_counts
               where    hour >= :since and hour < :until
               group by event_type
               having   sum(events) <> 0
               order by event_type
               limit    500
           ) as event_types,
           array(select status from outcome group by 1 order by 1 limit 500) as statuses,
           array(select attempts from outcome group by 1 order by 1 limit 500) as attempts,
           array(
               select   worker_id
               from     projector.worker_failures
               where    hour >= :since and hour < :until
               group by worker_id
               order by worker_id
               limit    500
           ) as workers,
           array(
               select   shape
               from     projector.defaults_by_shape
               where    hour >= :since and hour < :until
               group by shape
               order by shape
               limit    500
           ) as shapes,
           ({FIRST_HOUR_WITH_CALLS_SQL}) as oldest_hour
""")  # noqa: S608 - a constant of this package


async def choices(snapshot: Snapshot, params: WindowParams) -> ApiAnswer[Choices]:
    """Which values can each filter have?"""
    since, until = params.rounded_bounds(snapshot.read_at)
    since = round_to_grain(since, "hour")
    return await run_query(snapshot, _CHOICES, {"since": since, "until": until}, Choices)
