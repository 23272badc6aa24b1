"""Checks the totals of each partition against what must have become of its records.

A telling that changes its row is `joined`, one that does not a `duplicate`. Which is which hangs on
the order, and that is known where all tellings of every event lie in one partition; else only the
sums are compared.
"""

from collections import Counter
from typing import Any

import msgspec

from simulator.database import Totals
from simulator.expected import Placed
from simulator.report import Report


class TotalsCheck(msgspec.Struct):
    """What each partition must have: filled while the ledger is read and its events compared."""

    records: Counter[int] = msgspec.field(default_factory=Counter)
    outcomes: Counter[int] = msgspec.field(default_factory=Counter)
    quarantined: Counter[int] = msgspec.field(default_factory=Counter)
    ignored: Counter[int] = msgspec.field(default_factory=Counter)
    next_offset: dict[int, int] = {}
    stored: Counter[int] = msgspec.field(default_factory=Counter)
    duplicate: Counter[int] = msgspec.field(default_factory=Counter)
    joined: Counter[int] = msgspec.field(default_factory=Counter)
    ordered: bool = True

    def add_record(self, partition: int, offset: int, outcomes: int) -> None:
        """A record of the ledger."""
        self.records[partition] += 1
        self.outcomes[partition] += outcomes
        self.next_offset[partition] = max(self.next_offset.get(partition, 0), offset + 1)

    def add_event(self, tellings: list[Placed]) -> None:
        """An event with all its tellings, in the order of their places."""
        first, *others = tellings
        self.stored[first.partition] += 1
        latest_ms = first.recorded_ms
        for placed in others:
            same_record = (placed.partition, placed.offset) == (first.partition, first.offset)
            # An event without any time has the log's: a later copy of it moves it.
            later = placed.says.created_us is None and placed.recorded_ms > latest_ms
            again = (placed.copy and not later) or same_record
            fate = self.duplicate if again else self.joined
            fate[placed.partition] += 1
            latest_ms = max(latest_ms, placed.recorded_ms)
            self.ordered = self.ordered and placed.partition == first.partition

    def finish(self, topic: str, found: dict[int, Totals], report: Report) -> None:
        """Compare with what the database has counted."""
        exact = ["records", "outcomes", "quarantined", "ignored"]
        if self.ordered:
            exact += ["stored", "duplicate", "joined"]
        for partition in sorted(self.records):
            name = f"{topic}[{partition}]"
            totals = found.get(partition)
            if totals is None:
                report.differs("differs in totals", f"{name} was never read")
                continue
            wanted = {field: getattr(self, field)[partition] for field in exact}
            wanted["next_offset"] = self.next_offset[partition]
            for field, value in wanted.items():
                _compare(f"{name}.{field}", getattr(totals, field), value, report)
        _compare("stored", sum(t.stored for t in found.values()), self.stored.total(), report)
        again = sum(totals.duplicate + totals.joined for totals in found.values())
        wanted_again = self.duplicate.total() + self.joined.total()
        _compare("duplicate + joined", again, wanted_again, report)


def _compare(name: str, found: Any, wanted: Any, report: Report) -> None:
    if found != wanted:
        report.differs("differs in totals", f"{name}: {found} is to be {wanted}")
