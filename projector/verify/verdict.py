"""The verdict on one projection, as text for people."""

from datetime import datetime
from typing import Final, Literal

import msgspec

from projector.verify.ranges import Location
from projector.verify.row_comparison import MAX_EXAMPLES, RowDifferences

MAX_STORED_LOCATIONS: Final = 100_000
"""If more locations differ, they're stored as one divergence without a location."""


class ProjectionVerdict(msgspec.Struct, kw_only=True):
    """The result of comparing one projection with the events, to which ranges are added.

    - `scope` is the kind of the compared scope.
    - `since` and `until` are the limits of the compared hours. None means no limit.
    - `compared` and `divergent` are numbers of rows.
    - `archived` is how many events aren't compared, because they're deleted. Only counters of
      events say so.
    - `repaired` is how many rows differed before a repair and agree in a comparison after it.
    - `self_tests` is how many self-tests passed, or 0 if none ran.
    - `examples` are sentences, each about one row that differs.
    - `unproven_parts` are sentences, each about something that couldn't be compared or proven.
    - `divergent_locations` are the executions or hours that differ.
    - `resolved_divergence_ids` are the open divergences that were compared and agree now.

    Only the first MAX_EXAMPLES sentences of each kind are kept. No more locations are added once
    there are more than MAX_STORED_LOCATIONS.
    """

    projection: str
    scope: Literal["all", "range", "sample"]
    since: datetime | None
    until: datetime | None
    compared: int = 0
    divergent: int = 0
    archived: int = 0
    repaired: int = 0
    self_tests: int = 0
    examples: list[str] = []
    unproven_parts: list[str] = []
    divergent_locations: set[Location] = set()
    resolved_divergence_ids: set[int] = set()
    took_s: float = 0.0

    def add_range(self, found: RowDifferences, archived: int) -> None:
        """Add a range with these differences, and with this many archived events."""
        self.compared += found.compared
        self.divergent += found.differing_count
        self.archived += archived
        self.examples += found.examples[: MAX_EXAMPLES - len(self.examples)]
        if len(self.divergent_locations) <= MAX_STORED_LOCATIONS:
            self.divergent_locations.update(found.differing_by_location)

    def add_unproven(self, sentence: str) -> None:
        """Add a part that couldn't be compared or proven, so that the verdict is inconclusive."""
        if len(self.unproven_parts) < MAX_EXAMPLES:
            self.unproven_parts.append(sentence)

    @property
    def verdict(self) -> Literal["match", "divergent", "inconclusive"]:
        """Return what the ranges that were added lead to."""
        if self.divergent:
            return "divergent"
        return "inconclusive" if self.unproven_parts else "match"

    def __str__(self) -> str:
        is_empty = self.verdict == "match" and not self.compared
        said = f"{self.verdict}: {self.compared:,} rows compared"
        text = f"{self.projection:18}{'nothing to compare' if is_empty else said}"
        if self.repaired:
            text += f", {self.repaired:,} repaired"
        if self.divergent:
            text += f", {self.divergent:,} differ"
        if self.archived:
            text += f", {self.archived:,} deleted events not compared"
        if self.compared and not self.self_tests:
            text += ", self-tests not run"
        sentences = (*self.examples, *self.unproven_parts)
        return "\n".join([f"{text} ({self.took_s:.1f} s)", *(f"    {one}" for one in sentences)])
