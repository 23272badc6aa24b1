"""Counts finished calls by attempt and status, with each cell's share and trend."""

from collections import Counter
from typing import Final

import msgspec

from projector.api.answers import ApiRow
from projector.api.parameters import AttemptNumbers, CallStatuses, GroupedParams, Texts
from projector.api.queries.grouping import (
    FINISHED_CALLS_SOURCE,
    GrainStatements,
    counts_by_minute_source,
)
from projector.api.queries.trends import TrendAnswer, trend_statement, trend_window
from projector.api.snapshots import Snapshot


class MatrixParams(GroupedParams, frozen=True, kw_only=True):
    playbook: Texts | None = None
    step: Texts | None = None
    attempts: AttemptNumbers | None = None
    status: CallStatuses | None = None


class MatrixCell(ApiRow, frozen=True, kw_only=True):
    """The finished calls of one attempt (0 is the first) that ended in one status.

    `share` is this cell's fraction of all calls in the answer, and `share_of_attempt` its fraction
    of the calls of the same attempt. `share_before` is `share` in the previous window, or null if
    no call finished in that window.
    """

    attempts: int
    status: str
    calls: int
    calls_before: int
    share: float
    share_of_attempt: float
    share_before: float | None
    trend: list[int]


async def attempts_matrix(snapshot: Snapshot, params: MatrixParams) -> TrendAnswer[MatrixCell]:
    """How many calls ended in which status, by attempt: the share of each, and its trend?"""
    window = trend_window(params, snapshot.read_at)
    statement = _MATRIX.minutes if window.every == "minute" else _MATRIX.hours
    # Shares refer to all cells, so read all of them.
    values = msgspec.structs.asdict(params) | window.statement_parameters() | {"limit": None}
    records = await snapshot.untyped_rows(statement, values)
    calls, before, of_attempt = 0, 0, Counter[int]()
    for record in records:
        calls = record["in_all"]
        before += record["calls_before"]
        of_attempt[record["attempts"]] += record["calls"]
    return TrendAnswer[MatrixCell](
        rows=[
            MatrixCell(
                attempts=record["attempts"],
                status=record["status"],
                calls=record["calls"],
                calls_before=record["calls_before"],
                share=record["calls"] / calls if calls else 0.0,
                share_of_attempt=record["calls"] / (of_attempt[record["attempts"]] or 1),
                share_before=record["calls_before"] / before if before else None,
                trend=window.interval_sums(record, "calls"),
            )
            for record in sorted(
                records[: params.limit], key=lambda record: (record["attempts"], record["status"])
            )
        ],
        calls=calls,
        truncated=len(records) > params.limit,
        **snapshot.freshness_fields,
        **window.answer_fields(),
    )


_KEYS: Final = ("attempts", "status")
_FILTERS: Final = ("playbook", "step", "attempts", "status")
_CALLS: Final = {"calls": "calls"}
_CHOSEN: Final = "calls > 0 or calls_before > 0"
_MATRIX: Final = GrainStatements(
    hours=trend_statement(
        "projector.call_outcomes_by_attempt",
        keys=_KEYS,
        filters=_FILTERS,
        measures=_CALLS,
        chosen=_CHOSEN,
    ),
    minutes=trend_statement(
        counts_by_minute_source(FINISHED_CALLS_SOURCE, "call_outcomes_by_attempt"),
        keys=_KEYS,
        filters=_FILTERS,
        measures=_CALLS,
        time="moment",
        chosen=_CHOSEN,
    ),
    slow_minutes=True,
)
