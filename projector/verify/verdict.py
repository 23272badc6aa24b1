"""The verdict on one projection, as text for people."""

from datetime import datetime
from typing import Literal

import msgspec


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The result of comparing one projection with the events.

    - `since` and `until` are the limits of the compared hours. None means no limit.
    - `scope` is the kind of the compared scope: all, range, or sample.
    - `compared` and `divergent` are numbers of rows.
    - `repaired` is how many rows differed before a repair and agree after it. A row counts again if
      its range had to be repaired again in halves.
    - `archived` is how many events aren't compared, because they're deleted. Only counters of
      events say so.
    - `self_tests` is how many self-tests passed, or 0 if none ran.
    - `examples` are sentences, each about one row.
    - `divergent_locations` are the executions or hours that differ.
    - `resolved_divergence_ids` are the open divergences that were compared and agree now.
    """

    projection: str
    verdict: Literal["match", "divergent", "inconclusive"]
    scope: str
    since: datetime | None
    until: datetime | None
    compared: int
    divergent: int
    archived: int
    self_tests: int
    examples: tuple[str, ...]
    took_s: float
    divergent_locations: tuple[int | datetime, ...] = ()
    resolved_divergence_ids: tuple[int, ...] = ()
    repaired: int = 0

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
        return "\n".join([f"{text} ({self.took_s:.1f} s)", *(f"    {e}" for e in self.examples)])
