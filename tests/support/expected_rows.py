"""Computes the rows that the records of a ledger must become, as the truth for tests of the views.

It reads neither the database nor the normalizer. The rows follow from what happened on the
simulator's platform and what its producers reported. A ledger knows only how the name of a shape
begins, and not how often a rule was applied, so `comparable_views` reduces a view to what it knows.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Final

from simulator.expected_rows import LoggedReport, view_input_row
from simulator.ledger_file import Line, RecordLine
from simulator.view_fold import Row
from tests.support.projection_oracle import ViewRows

_OUT_OF_REACH: Final = {"coercions_by_rule"}
_COUNTS_BY_SHAPE: Final = {"defaults_by_shape": 4, "late_arrivals": 2}
"""Views with the shape as their second column, and how many columns of counts are at their end."""


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
        yield view_input_row(reports)


def comparable_views(views: dict[str, ViewRows]) -> dict[str, Counter[tuple[Any, ...]]]:
    """The views without what a ledger cannot know, as bags of rows."""
    kept = {name: rows for name, rows in views.items() if name not in _OUT_OF_REACH}
    return {name: Counter(rows) for name, rows in kept.items() if name not in _COUNTS_BY_SHAPE} | {
        name: _over_shapes(kept[name], counts) for name, counts in _COUNTS_BY_SHAPE.items()
    }


def _over_shapes(rows: ViewRows, counts: int) -> Counter[tuple[Any, ...]]:
    """The rows added up over all shapes, with sums of seconds to the microsecond."""
    sums: dict[tuple[Any, ...], list[Any]] = {}
    for hour, _, *row in rows:
        key, added = (hour, *row[:-counts]), row[-counts:]
        sums[key] = [a + b for a, b in zip(sums.get(key, [0] * counts), added, strict=True)]
    return Counter((*key, *(round(one, 6) for one in total)) for key, total in sums.items())
