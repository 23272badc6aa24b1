"""How executions ended, over time."""

from datetime import datetime
from typing import Annotated, Literal

from projector.api.answers import Counts, Row
from projector.api.database import Snapshot, Statement
from projector.api.parameters import By, Counted, HourOrDay, Texts
from projector.api.queries.asking import counts
from projector.api.queries.grouping import columns, conditions


class OutcomesAsked(Counted, frozen=True, kw_only=True):
    """Parameters."""

    by: Annotated[tuple[Literal["at", "playbook"], ...], By] = ("at",)
    every: HourOrDay = "hour"
    playbook: Texts | None = None


class Outcomes(Row, frozen=True, kw_only=True, omit_defaults=True):
    """Executions: begun by the hour of their first event, the others by that of their end."""

    at: datetime | None = None
    playbook: str | None = None
    begun: int
    completed: int
    failed: int
    cancelled: int


_OUTCOMES = Statement(f"""
    select   {columns(("playbook",), "hour")},
             coalesce(sum(executions) filter (where outcome = 'BEGUN'), 0)::bigint as begun,
             coalesce(sum(executions) filter (where outcome = 'COMPLETED'), 0)::bigint
                 as completed,
             coalesce(sum(executions) filter (where outcome = 'FAILED'), 0)::bigint as failed,
             coalesce(sum(executions) filter (where outcome = 'CANCELLED'), 0)::bigint
                 as cancelled
    from     projector.execution_counts
    where    {conditions(("playbook",), "hour")}
    group by 1, 2
    having   sum(executions) <> 0
    order by 1 desc nulls last, 3 desc, 2
    limit    :limit::integer
""")  # noqa: S608 - names of ours, put together once, at import


async def execution_outcomes(snapshot: Snapshot, asked: OutcomesAsked) -> Counts[Outcomes]:
    """How many executions began, and how many ended in which status, over time?"""
    return await counts(snapshot, _OUTCOMES, asked, Outcomes)
