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
_OUT_OF_REACH: Final = {"coercions_by_rule"}
_COUNTS_BY_SHAPE: Final = {"defaults_by_shape": 4, "late_arrivals": 2}
"""Views with the shape as their second column, and how many columns of counts are at their end."""
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
    context = _unsealed(columns.get("context"))
    if any(one.pending for one in reported):
        context = {"pending_callback": True}
    return columns | {
        "event_id": 1,
        "created_at": _EPOCH + timedelta(microseconds=columns["created_us"]),
        "recorded_at": _EPOCH + timedelta(microseconds=columns["recorded_us"]),
        "context": context,
        # Of several that differ the fold needs none: all name the same playbook.
        "result": next(filter(None, map(_unsealed, (one.result for one in reported))), None),
        "coercions": None,
        "shape": reported[0].shape,
    }


def _unsealed(sealed: str | None) -> Any:
    return None if sealed is None or not sealed.startswith("{") else msgspec.json.decode(sealed)


def comparable_views(views: dict[str, ViewRows]) -> dict[str, Counter[tuple[Any, ...]]]:
    """The views without what a ledger cannot know, as bags of rows."""
    kept = {name: rows for name, rows in views.items() if name not in _OUT_OF_REACH}
    return {
        name: Counter(_without_ids(row) if name == "executions" else row for row in rows)
        for name, rows in kept.items()
        if name not in _COUNTS_BY_SHAPE
    } | {name: _over_shapes(kept[name], counts) for name, counts in _COUNTS_BY_SHAPE.items()}


def _without_ids(row: tuple[Any, ...]) -> tuple[Any, ...]:
    shown = list(row)
    del shown[_IDS_OF_EXECUTIONS]
    return tuple(shown)


def _over_shapes(rows: ViewRows, counts: int) -> Counter[tuple[Any, ...]]:
    """The rows added up over all shapes; sums of seconds to the microsecond."""
    sums: dict[tuple[Any, ...], list[Any]] = {}
    for hour, _, *row in rows:
        key, added = (hour, *row[:-counts]), row[-counts:]
        sums[key] = [a + b for a, b in zip(sums.get(key, [0] * counts), added, strict=True)]
    return Counter((*key, *(round(one, 6) for one in total)) for key, total in sums.items())
