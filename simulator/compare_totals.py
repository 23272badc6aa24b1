"""Checks the totals that the service has counted for each partition.

A second report of an event counts as `merged` if it changes the stored row, and as `duplicate` if
it doesn't. That depends on the order in which the reports are read, which is certain only if all
reports of an event are in the same partition. Otherwise only the sum of the two counts is checked.
"""

from collections import Counter
from typing import Any

import msgspec

from simulator.actual_rows import ActualTotals
from simulator.comparison_report import ComparisonReport
from simulator.expected_rows import LoggedReport


class TotalsCheck(msgspec.Struct):
    """The expected totals of each partition, filled while events are read and compared."""

    records: Counter[int] = msgspec.field(default_factory=Counter)
    outcomes: Counter[int] = msgspec.field(default_factory=Counter)
    quarantined: Counter[int] = msgspec.field(default_factory=Counter)
    ignored: Counter[int] = msgspec.field(default_factory=Counter)
    next_offset: dict[int, int] = {}
    stored: Counter[int] = msgspec.field(default_factory=Counter)
    duplicate: Counter[int] = msgspec.field(default_factory=Counter)
    merged: Counter[int] = msgspec.field(default_factory=Counter)
    ordered: bool = True

    def add_record(self, partition: int, offset: int, outcomes: int) -> None:
        """Add a record of the ledger."""
        self.records[partition] += 1
        self.outcomes[partition] += outcomes
        self.next_offset[partition] = max(self.next_offset.get(partition, 0), offset + 1)

    def add_event(self, reports: list[LoggedReport]) -> None:
        """Add an event with all its reports, in the order of their coordinates."""
        first, *others = reports
        self.stored[first.partition] += 1
        latest_ms = first.recorded_ms
        for logged in others:
            same_record = (logged.partition, logged.offset) == (first.partition, first.offset)
            # An event without any time has the time of the log, which a later copy changes.
            later = logged.reported.created_us is None and logged.recorded_ms > latest_ms
            again = (logged.copy and not later) or same_record
            outcome = self.duplicate if again else self.merged
            outcome[logged.partition] += 1
            latest_ms = max(latest_ms, logged.recorded_ms)
            self.ordered = self.ordered and logged.partition == first.partition

    def finish(self, topic: str, found: dict[int, ActualTotals], report: ComparisonReport) -> None:
        """Compare with the totals in the database."""
        exact = ["records", "outcomes", "quarantined", "ignored"]
        if self.ordered:
            exact += ["stored", "duplicate", "merged"]
        for partition in sorted(self.records):
            name = f"{topic}[{partition}]"
            totals = found.get(partition)
            if totals is None:
                report.add_difference("differs in totals", f"{name} was never read")
                continue
            wanted = {field: getattr(self, field)[partition] for field in exact}
            wanted["next_offset"] = self.next_offset[partition]
            for field, value in wanted.items():
                _compare(f"{name}.{field}", getattr(totals, field), value, report)
        _compare("stored", sum(t.stored for t in found.values()), self.stored.total(), report)
        again = sum(totals.duplicate + totals.merged for totals in found.values())
        wanted_again = self.duplicate.total() + self.merged.total()
        _compare("duplicate + merged", again, wanted_again, report)


def _compare(name: str, found: Any, wanted: Any, report: ComparisonReport) -> None:
    if found != wanted:
        report.add_difference("differs in totals", f"{name}: {found} is to be {wanted}")
