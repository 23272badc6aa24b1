"""Checks the ids of rows: sent by a producer, derived, or shared by two events."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from simulator.actual_rows import ActualRow
from simulator.comparison_report import ComparisonReport
from simulator.expected_rows import ExpectedRow, LoggedReport
from simulator.ids import derived, is_hashed

_SALTS: Final = (1, 2, 3)

Taken = Callable[[list[int]], Awaitable[set[int]]]
"""Returns those of the ids that belong to a row."""


class IdCheck:
    """Gets every row once. Some ids can be judged only at the end."""

    def __init__(self, shared: set[int]) -> None:
        self._shared = shared
        self._plain: Counter[int] = Counter()
        self._salted: dict[int, str] = {}

    def add(
        self,
        name: str,
        wanted: ExpectedRow,
        row: ActualRow,
        topic: str,
        logged: LoggedReport,
        report: ComparisonReport,
    ) -> None:
        """Judge the id of the row that must be `wanted`, first reported by `logged`."""
        own = wanted.own_id
        if own is None:
            self._add_derived(name, row, topic, logged, report)
        elif own in self._shared:
            self._plain[own] += row.event_id == own
            if row.event_id != own and not is_hashed(row.event_id):
                report.add_difference("differs in event_id", f"{name}: {row.event_id} is no hash")
        elif row.event_id != own:
            report.add_difference("differs in event_id", f"{name}: {row.event_id} is to be {own}")

    def _add_derived(
        self, name: str, row: ActualRow, topic: str, logged: LoggedReport, report: ComparisonReport
    ) -> None:
        coordinates = (topic, logged.partition, logged.offset, logged.index, logged.recorded_ms)
        plain = derived(*coordinates)
        if row.event_id == plain:
            return
        if row.event_id in [derived(*coordinates, salt=salt) for salt in _SALTS]:
            self._salted[plain] = name
        else:
            report.add_difference("differs in event_id", f"{name}: {row.event_id} is to be {plain}")

    async def finish(self, taken: Taken, report: ComparisonReport) -> None:
        """Judge the rest. A shared id has one event, and a salted id needs the plain one taken."""
        for own, number in self._plain.items():
            if number != 1:
                report.add_difference(
                    "differs in event_id", f"{own} belongs to {number} of its events"
                )
        used = await taken(list(self._salted))
        for plain, name in self._salted.items():
            if plain not in used:
                report.add_difference(
                    "differs in event_id", f"{name}: {plain} is free, yet not used"
                )
