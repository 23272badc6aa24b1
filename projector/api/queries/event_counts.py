"""Counts events by type, status, and attempt."""

from typing import Annotated, Literal

from msgspec import Meta

from projector.api.answers import ApiRow, GroupedAnswer, Timestamp
from projector.api.parameters import By, GroupedParams, MinuteToDay, Numbers, Texts
from projector.api.queries.grouping import GrainStatements, grouping_statement, sum_column
from projector.api.queries.run_query import run_grouped
from projector.api.snapshots import Snapshot


class AttemptsByStatusParams(GroupedParams, frozen=True, kw_only=True):
    """Parameters."""

    by: Annotated[tuple[Literal["at", "step", "event_type", "status", "attempts"], ...], By] = (
        "event_type",
        "status",
        "attempts",
    )
    every: MinuteToDay = "hour"
    step: Texts | None = None
    event_type: Texts | None = None
    status: Texts | None = None
    attempts: Numbers | None = None
    engine: (
        Annotated[
            Literal["true", "false"],
            Meta(
                description="With `false`, events of the engine's own step `__orchestrate__` "
                "aren't counted, as in counts of calls. Counts by minute don't have the step, so "
                "`false` counts by hour. Default: `true`."
            ),
        ]
        | None
    ) = None


class AttemptsByStatus(ApiRow, frozen=True, kw_only=True, omit_defaults=True):
    """The number of events of a group. In `attempts`, 0 is the first attempt."""

    at: Timestamp | None = None
    step: str | None = None
    event_type: str | None = None
    status: str | None = None
    attempts: int | None = None
    events: int


_ATTEMPTS = grouping_statement(
    "projector.attempts_by_status",
    keys=("event_type", "status", "attempts"),
    measures=(sum_column("events"),),
    time="bucket_start",
)
_ATTEMPTS_OF_STEPS = grouping_statement(
    "projector.event_counts",
    keys=("step", "event_type", "status", "attempts"),
    measures=(sum_column("events"),),
    where="(:engine::text is distinct from 'false' or step <> '__orchestrate__')",
    having="sum(events) <> 0",
)


async def attempts_by_status(
    snapshot: Snapshot, params: AttemptsByStatusParams
) -> GroupedAnswer[AttemptsByStatus]:
    """How many events are there by type, status and attempt? By step only in hours."""
    if params.step is not None or "step" in params.by or params.engine == "false":
        return await run_grouped(snapshot, _ATTEMPTS_OF_STEPS, params, AttemptsByStatus)
    either = GrainStatements(hours=_ATTEMPTS, minutes=_ATTEMPTS)
    return await run_grouped(snapshot, either, params, AttemptsByStatus)
