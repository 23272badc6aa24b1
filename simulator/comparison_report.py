"""Collects the differences of a comparison: each kind with its count and a few examples."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

import msgspec

_EXAMPLES: Final = 5


class ComparisonReport(msgspec.Struct):
    """The differences, and how much was compared."""

    differences: Counter[str] = msgspec.field(default_factory=Counter)
    examples: dict[str, list[str]] = {}
    records: int = 0
    events: int = 0
    reports: int = 0
    quarantined: int = 0
    ignored: int = 0
    executions: int = 0
    calls: int = 0
    real_calls: int = 0
    inferred: Counter[str] = msgspec.field(default_factory=Counter)
    """Retried commands of which events lack their number, by what is numbered."""
    inferred_wrong: Counter[str] = msgspec.field(default_factory=Counter)
    """Those of them that are shown otherwise than they went."""

    @property
    def agrees(self) -> bool:
        """Return whether the database holds exactly what the ledger expects."""
        return not self.differences

    def add_difference(self, kind: str, example: str) -> None:
        """Count one difference, and keep the first few as examples."""
        self.differences[kind] += 1
        kept = self.examples.setdefault(kind, [])
        if len(kept) < _EXAMPLES:
            kept.append(example)

    def inferred_shares(self) -> dict[str, str]:
        """Return how many retried commands the views show wrong, by what their events number.

        For example "3 of 2,120 (0.1 %)".
        """
        return {
            how: f"{self.inferred_wrong[how]:,} of {retried:,} "
            f"({self.inferred_wrong[how] / retried:.1%})"
            for how, retried in sorted(self.inferred.items())
        }

    def lines(self) -> Iterator[str]:
        """The report as text."""
        yield (
            f"{self.records} records: {self.events} events in {self.reports} reports,  "
            f"{self.quarantined} rejected, {self.ignored} ignored"
        )
        if self.executions:
            yield (
                f"{self.executions} executions with {self.calls} calls, {self.real_calls} of which "
                "are also compared with what really happened"
            )
        for how, share in self.inferred_shares().items():
            yield f"retried commands of which {how}: {share} are shown otherwise than they went"
        for kind, number in self.differences.most_common():
            yield f"{kind}: {number}"
            for example in self.examples[kind]:
                yield f"    {example}"
        yield "the database agrees with the ledger" if self.agrees else "the database differs"
