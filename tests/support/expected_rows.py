"""The rows that a ledger's records must become, for the oracle of the views.

Neither database nor normalizer is read: the rows follow from what the simulator's platform did and
its producers reported. A ledger knows only how a shape's name begins, and not how often a rule was
applied: `comparable_views` reduces a view to what it can know.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from simulator.expected_rows import LoggedReport, expected_row
from simulator.ledger_file import Line, RecordLine
from tests.support.projection_oracle import Row, ViewRows

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OUT_OF_REACH: Final = {"coercions_by_rule", "defaults_by_shape", "late_arrivals"}
"""By shape and by the time of the first report: a ledger is sure of neither."""
_IDS_OF_EXECUTIONS: Final = slice(-7, -1)
"""The comparison checks derived ids and those of colliding node numbers; the fold does not."""


def expected_rows(lines: Iterable[Line]) -> Iterator[Row]:
    """The rows, in any order."""
    events: dict[int, list[LoggedReport]] = defaultdict(list)
    for line in lines:
        if isinstance(line, RecordLine):
            for index, must_be in enumerate(line.outcomes):
                if must_be.event is not None and must_be.reported is not None:
                    place = (line.partition, line.offset, index, line.ts)
                    events[must_be.event].append(LoggedReport(*place, must_be.reported))
    for reports in events.values():
        yield _row(reports)


def _row(reports: list[LoggedReport]) -> Row:
    columns = expected_row(reports).columns
    reported = [logged.reported for logged in reports]
    ranks = (
        max(one.attempts_rank for one in reported),
        max(one.status_rank for one in reported),
        max(one.created_rank for one in reported),
    )
    context = _context(columns.get("context"))
    if any(one.pending for one in reported):
        context = {"pending_callback": True}
    return columns | {
        "event_id": 1,
        "created_at": _EPOCH + timedelta(microseconds=columns["created_us"]),
        "evidence": ranks[0] * 100 + ranks[1] * 10 + ranks[2],
        "context": context,
        "coercions": None,
        "recorded_at": None,
        "shape": reported[0].shape,
    }


def _context(sealed: str | None) -> Any:
    return None if sealed is None or not sealed.startswith("{") else msgspec.json.decode(sealed)


def comparable_views(views: dict[str, ViewRows]) -> dict[str, Counter[tuple[Any, ...]]]:
    """The views without what a ledger cannot know, as bags of rows."""
    kept = {name: rows for name, rows in views.items() if name not in _OUT_OF_REACH}
    return {
        name: Counter(_without_ids(row) if name == "executions" else row for row in rows)
        for name, rows in kept.items()
    }


def _without_ids(row: tuple[Any, ...]) -> tuple[Any, ...]:
    shown = list(row)
    del shown[_IDS_OF_EXECUTIONS]
    return tuple(shown)
