"""Counts how executions ended, over time."""

from typing import Annotated, Final, Literal

from projector.api.answers import ApiRow, GroupedAnswer, Timestamp
from projector.api.parameters import GroupBy, GroupedParams, MinuteToDay, Texts
from projector.api.queries.grouping import (
    GrainStatements,
    counts_by_minute_source,
    select_list,
    where_conditions,
)
from projector.api.queries.query_answers import run_grouped
from projector.api.snapshots import Snapshot, Statement


class OutcomesParams(GroupedParams, frozen=True, kw_only=True):
    by: Annotated[tuple[Literal["at", "playbook"], ...], GroupBy] = ("at",)
    every: MinuteToDay = "hour"
    playbook: Texts | None = None


class Outcomes(ApiRow, frozen=True, kw_only=True, omit_defaults=True):
    """Numbers of executions: `begun` by their first event, and the others by their end."""

    at: Timestamp | None = None
    playbook: str | None = None
    begun: int
    completed: int
    failed: int
    cancelled: int


def _outcomes(source: str, time: str) -> Statement:
    return Statement(f"""
    select   {select_list(("playbook",), time)},
             coalesce(sum(executions) filter (where outcome = 'BEGUN'), 0)::bigint as begun,
             coalesce(sum(executions) filter (where outcome = 'COMPLETED'), 0)::bigint
                 as completed,
             coalesce(sum(executions) filter (where outcome = 'FAILED'), 0)::bigint as failed,
             coalesce(sum(executions) filter (where outcome = 'CANCELLED'), 0)::bigint
                 as cancelled
    from     {source}
    where    {where_conditions(("playbook",), time)}
    group by 1, 2
    having   sum(executions) <> 0
    order by 1 desc nulls last, 3 desc, 2
    limit    :limit::integer
    """)  # noqa: S608 - constants of this package


EXECUTION_OUTCOMES_BY_MINUTE_SOURCE: Final = counts_by_minute_source(
    """
    (
        select begun_at as happened_at, playbook, 'BEGUN' as outcome, 1 as executions
        from   projector.executions
        where  projector.to_hour(begun_at) >= projector.to_hour(:since::timestamptz)
        and    projector.to_hour(begun_at) < :until::timestamptz
        union all
        select ended_at, playbook, status, 1
        from   projector.executions
        where  projector.to_hour(ended_at) >= projector.to_hour(:since::timestamptz)
        and    projector.to_hour(ended_at) < :until::timestamptz
    ) as moved
    """,
    "execution_outcomes",
    time="happened_at",
)
"""Build a query of starts and ends of executions, to count them by minute."""
_OUTCOMES = GrainStatements(
    hours=_outcomes("projector.execution_outcomes", "hour"),
    minutes=_outcomes(EXECUTION_OUTCOMES_BY_MINUTE_SOURCE, "moment"),
    slow_minutes=True,
)


async def execution_outcomes(snapshot: Snapshot, params: OutcomesParams) -> GroupedAnswer[Outcomes]:
    """How many executions began, and how many ended in which status, over time?"""
    return await run_grouped(snapshot, _OUTCOMES, params, Outcomes)
