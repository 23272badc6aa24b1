"""Computes the figures at the top of the dashboard, such as the error rate.

Each figure comes with its change since the window before, a trend, and a level such as `warn` that
follows from the thresholds.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from projector.api.answers import ApiRow
from projector.api.parameters import CountsParams, Texts
from projector.api.queries.grouping import (
    FINISHED_CALLS_SOURCE,
    GrainStatements,
    counts_by_minute_source,
)
from projector.api.queries.outcome_counts import EXECUTION_OUTCOMES_BY_MINUTE_SOURCE
from projector.api.queries.quarantine_lists import REJECTED_RECORDS_SOURCE
from projector.api.queries.trends import TrendAnswer, TrendWindow, trend_statement, trend_window
from projector.api.snapshots import Snapshot, Statement
from projector.api.thresholds import DEFAULT_THRESHOLDS, Level, Thresholds, TileName, level_for


class TilesParams(CountsParams, frozen=True, kw_only=True):
    """Parameters.

    The step filter doesn't apply to execution counts. No filter applies to rejected records.
    """

    playbook: Texts | None = None
    step: Texts | None = None


class TileRow(ApiRow, frozen=True, kw_only=True):
    """A figure at the top of the dashboard, such as the error rate.

    `value` is numerator / denominator, or null if the denominator is 0. For `stuck` and `rejected`
    it's a number instead: the executions that are stuck now, and the records that were rejected in
    the window. The denominator of `rejected` is the number of events in the window, stored and
    rejected, and `stuck` has none. `before` is the value in the previous window. `change` is value
    - before. For `stuck` and `rejected` it's null while the window is unfinished, because the
    unfinished window is shorter so far.

    `trend` has a value per interval, or null if no call ended in it. How many executions were stuck
    in the past isn't known, so the trend of `stuck` counts when those that are stuck now had their
    last event. `level` is ok, warn, or critical by the thresholds, which for `rejected` apply to
    numerator / denominator.
    """

    tile: TileName
    value: float | None
    numerator: int
    denominator: int | None
    before: float | None
    change: float | None
    trend: list[float | None]
    warn: float
    critical: float
    level: Level | None


async def tiles(
    snapshot: Snapshot, params: TilesParams, *, thresholds: Thresholds = DEFAULT_THRESHOLDS
) -> TrendAnswer[TileRow]:
    """How are things: completed, first attempts, error rate, retries, stuck and rejected?"""
    window = trend_window(params, snapshot.read_at)
    calls = await _sums(snapshot, _CALLS, params, window)
    ended = await _sums(snapshot, _ENDED, params, window)
    rejected = await _sums(snapshot, _REJECTED, params, window)
    (events,) = await snapshot.untyped_rows(_EVENTS, window.statement_parameters())
    (stuck,) = await snapshot.untyped_rows(
        _STUCK, {"playbook": params.playbook} | window.statement_parameters()
    )
    figures = (
        _ratio("executions_completed", ended, window, "completed", "ended"),
        _ratio("first_attempt_success", calls, window, "first_succeeded", "first"),
        _ratio("error_rate", calls, window, "failed", "calls"),
        _ratio("retry_ratio", calls, window, "retries", "first"),
        _number("stuck", stuck, window),
        _number(
            "rejected",
            rejected,
            window,
            before=float(rejected["rejected_before"]),
            of=rejected["rejected"] + events["stored"],
        ),
    )
    return TrendAnswer[TileRow](
        rows=[_row(figure, window, thresholds) for figure in figures],
        calls=calls["calls"],
        truncated=False,
        **snapshot.freshness_fields,
        **window.answer_fields(),
    )


class _Figure(msgspec.Struct, frozen=True, kw_only=True):
    tile: TileName
    value: float | None
    numerator: int
    denominator: int | None
    before: float | None
    trend: list[float | None]


def _ratio(
    tile: TileName, sums: Mapping[str, Any], window: TrendWindow, part: str, whole: str
) -> _Figure:
    parts, wholes = window.interval_sums(sums, part), window.interval_sums(sums, whole)
    return _Figure(
        tile=tile,
        value=_share(sums[part], sums[whole]),
        numerator=sums[part],
        denominator=sums[whole],
        before=_share(sums[f"{part}_before"], sums[f"{whole}_before"]),
        trend=[_share(*pair) for pair in zip(parts, wholes, strict=True)],
    )


def _number(
    tile: TileName,
    sums: Mapping[str, Any],
    window: TrendWindow,
    *,
    before: float | None = None,
    of: int | None = None,
) -> _Figure:
    return _Figure(
        tile=tile,
        value=float(sums[tile]),
        numerator=sums[tile],
        denominator=of,
        before=before,
        trend=[*map(float, window.interval_sums(sums, tile))],
    )


def _row(figure: _Figure, window: TrendWindow, thresholds: Thresholds) -> TileRow:
    unequal = window.unfinished and figure.tile in _NUMBERS
    judged = figure.value
    if figure.tile == "rejected":
        judged = _share(figure.numerator, figure.denominator or 0)
    missing = unequal or figure.value is None or figure.before is None
    return TileRow(
        **msgspec.structs.asdict(figure),
        change=None if missing else (figure.value or 0.0) - (figure.before or 0.0),
        warn=thresholds[figure.tile].warn,
        critical=thresholds[figure.tile].critical,
        level=level_for(figure.tile, judged, thresholds),
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


async def _sums(
    snapshot: Snapshot, statements: GrainStatements, params: TilesParams, window: TrendWindow
) -> Any:
    statement = statements.minutes if window.every == "minute" else statements.hours
    (record,) = await snapshot.untyped_rows(
        statement, msgspec.structs.asdict(params) | window.statement_parameters()
    )
    return record


def _both(hours: str, minutes: str, time: str, *filters: str, **measures: str) -> GrainStatements:
    return GrainStatements(
        hours=trend_statement(hours, keys=(), filters=filters, measures=measures),
        minutes=trend_statement(minutes, keys=(), filters=filters, measures=measures, time=time),
        slow_minutes=True,
    )


_CALLS: Final = _both(
    "projector.call_outcomes_by_attempt",
    counts_by_minute_source(FINISHED_CALLS_SOURCE, "call_outcomes_by_attempt"),
    "moment",
    "playbook",
    "step",
    calls="calls",
    failed="failed",
    first="case when attempts = 0 then calls else 0 end",
    first_succeeded="case when attempts = 0 then succeeded else 0 end",
    retries="case when attempts > 0 then calls else 0 end",
)
_ENDED: Final = _both(
    "projector.execution_outcomes",
    EXECUTION_OUTCOMES_BY_MINUTE_SOURCE,
    "moment",
    "playbook",
    ended="case when outcome <> 'BEGUN' then executions else 0 end",
    completed="case when outcome = 'COMPLETED' then executions else 0 end",
)
_REJECTED: Final = _both(
    "projector.quarantine_by_reason",
    REJECTED_RECORDS_SOURCE,
    "quarantined_at",
    rejected="rejected",
)
_EVENTS: Final = Statement("""
    select coalesce(sum(events), 0)::bigint as stored
    from   projector.attempts_by_status
    where  bucket_start >= :trend_from::timestamptz
    and    bucket_start < :until::timestamptz
""")
_NUMBERS: Final = frozenset({"stuck", "rejected"})
_STUCK: Final = Statement("""
    with silent as (
        select   case
                     when last_at >= :trend_from::timestamptz and last_at < :until::timestamptz
                     then floor(
                              extract(epoch from last_at - :trend_from) / :interval_s::integer
                          )
                 end::integer as bin,
                 count(*)::integer as executions
        from     projector.stuck_executions
        where    begun
        and      (:playbook::text[] is null or playbook = any(:playbook))
        group by bin
    )
    select coalesce(sum(executions), 0)::integer as stuck,
           array_agg(bin) filter (where bin is not null) as bins,
           array_agg(executions) filter (where bin is not null) as stuck_trend
    from   silent
""")
