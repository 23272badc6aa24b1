"""Finds what producers do wrong: fields that they leave out, or send without documentation."""

from typing import Annotated, Literal

from msgspec import Meta

from projector.api.answers import ApiAnswer, ApiRow, GroupedAnswer, Timestamp
from projector.api.parameters import (
    GroupBy,
    GroupedParams,
    HourOrDay,
    Shapes,
    Texts,
    WindowParams,
)
from projector.api.queries.grouping import grouping_statement, sum_column
from projector.api.queries.query_answers import run_grouped, run_query
from projector.api.snapshots import Snapshot, Statement


class CallsWithoutCommandParams(GroupedParams, frozen=True, kw_only=True):
    by: Annotated[tuple[Literal["at", "step", "event_type", "status"], ...], GroupBy] = (
        "step",
        "event_type",
    )
    every: HourOrDay = "hour"
    step: Texts | None = None
    event_type: Texts | None = None
    status: Texts | None = None


class CallsWithoutCommand(ApiRow, frozen=True, kw_only=True, omit_defaults=True):
    """`events` is the number of events of calls that name no command."""

    at: Timestamp | None = None
    step: str | None = None
    event_type: str | None = None
    status: str | None = None
    events: int


_WITHOUT_COMMAND = grouping_statement(
    "projector.calls_without_command",
    keys=("step", "event_type", "status"),
    measures=(sum_column("events"),),
)


async def calls_without_command(
    snapshot: Snapshot, params: CallsWithoutCommandParams
) -> GroupedAnswer[CallsWithoutCommand]:
    """How many events of calls name no command, and so belong to no call?"""
    return await run_grouped(snapshot, _WITHOUT_COMMAND, params, CallsWithoutCommand)


class DriftParams(WindowParams, frozen=True, kw_only=True):
    """Parameters. The window applies to found_at."""

    shape: Shapes | None = None
    kind: (
        Annotated[
            tuple[Literal["unknown_key", "changed_type"], ...],
            Meta(
                min_length=1, max_length=2, description="Only these. May be given more than once."
            ),
        ]
        | None
    ) = None


class DriftRow(ApiRow, frozen=True, kw_only=True):
    """A top-level field that isn't documented, or isn't documented with this type.

    `example` is a value of it, without secrets.
    """

    shape: str
    field: str
    type: str
    kind: str
    coordinates: str
    example: str
    found_at: Timestamp


_DRIFT = Statement("""
    select   shape, field, type, kind,
             topic || ':' || partition || ':' || source_offset as coordinates, example, found_at
    from     projector.drift
    where    found_at >= :since::timestamptz and found_at < :until::timestamptz
    and      (:shape::text[] is null or shape = any(:shape))
    and      (:kind::text[] is null or kind = any(:kind))
    order by found_at desc, shape, field, type
    limit    500
""")


async def drift(snapshot: Snapshot, params: DriftParams) -> ApiAnswer[DriftRow]:
    """What do producers send that is not documented, or with another type than documented?"""
    since, until = params.rounded_bounds(snapshot.read_at)
    filters = {"shape": params.shape, "kind": params.kind}
    return await run_query(snapshot, _DRIFT, {"since": since, "until": until, **filters}, DriftRow)
