"""Collects the changes that a job would make: counts, old and new values, and examples.

A dry run may find millions of changes, so the diff limits what it keeps in memory. For each field
it keeps a limited number of different changes, each with a few event ids as examples, and only
counts the others.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, Final

import msgspec

from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Envelope, Rejected, canonical_json

_FIELDS: Final = tuple(
    name
    for name in Envelope.__struct_fields__
    if name
    not in {
        *("event_id", "execution_id", "normalizer_version"),
        *("source_topic", "source_incarnation", "source_partition", "source_offset"),
        *("source_index", "merge_flags"),
    }
)
"""Every column whose value the rules decide. The rest are keys, which never change, and columns
whose change alone doesn't count, such as the version of the rules."""

_KINDS: Final = (
    *("new", "merged", "changed", "rejected", "unchanged", "ignored", "expired", "forgotten"),
    "gone",
)
_MAX_CHANGES_PER_FIELD: Final = 200
_EXAMPLES: Final = 3
_MAX_LETTERS: Final = 60

_list: Final[msgspec.json.Decoder[list[msgspec.Raw]]] = msgspec.json.Decoder(list[msgspec.Raw])

FieldChanges = dict[str, tuple[Any, Any]]
"""The old and the new value per field, in a form that's compared by value and can be printed."""


class RowChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One changed row.

    `fields` has the changes, and `reason` says why a record would be rejected.
    """

    what: str
    event_id: str = ""
    coordinates: str = ""
    reason: str = ""
    fields: FieldChanges = {}


class _Pairs(msgspec.Struct):
    counts: dict[tuple[str, str], int] = {}
    examples: dict[tuple[str, str], list[int]] = {}
    others: int = 0


class DryRunDiff:
    """Collects the changes. `sink` is called with every changed row."""

    def __init__(self, sink: Callable[[RowChange], object] | None = None) -> None:
        self._sink = sink
        self._fields: dict[str, dict[str, _Pairs]] = {}
        self.counts: Counter[str] = Counter()
        """The number of rows or records of each kind, which is one of `_KINDS`."""
        self._reasons: Counter[str] = Counter()
        self._rejected_examples: dict[str, list[str]] = {}

    def add_row(self, kind: str, event: Envelope | None = None) -> None:
        """Count a row that's `new` or `unchanged`, or a record that would give no row."""
        self.counts[kind] += 1
        if self._sink and event is not None:
            self._sink(RowChange(what=kind, event_id=str(event.event_id)))

    def add_changed_row(self, kind: str, event_id: int, fields: FieldChanges) -> None:
        """Add a row that's `merged` or `changed`, with the fields that would differ."""
        self.counts[kind] += 1
        for field, (before, after) in fields.items():
            pairs = self._fields.setdefault(kind, {}).setdefault(field, _Pairs())
            pair = (_shortened(before), _shortened(after))
            if pair not in pairs.counts and len(pairs.counts) >= _MAX_CHANGES_PER_FIELD:
                pairs.others += 1
                continue
            pairs.counts[pair] = pairs.counts.get(pair, 0) + 1
            examples = pairs.examples.setdefault(pair, [])
            if len(examples) < _EXAMPLES:
                examples.append(event_id)
        if self._sink:
            self._sink(RowChange(what=kind, event_id=str(event_id), fields=fields))

    def add_rejection(self, coordinates: str, reason: str, event_id: int | None = None) -> None:
        """Add a record, or a stored row, that would be rejected."""
        self.counts["rejected"] += 1
        self._reasons[reason] += 1
        examples = self._rejected_examples.setdefault(reason, [])
        if len(examples) < _EXAMPLES:
            examples.append(coordinates)
        if self._sink:
            self._sink(
                RowChange(
                    what="rejected",
                    event_id="" if event_id is None else str(event_id),
                    coordinates=coordinates,
                    reason=reason,
                )
            )

    def format_lines(self) -> Iterator[str]:
        """Yield the whole diff as lines for an operator."""
        for what in _KINDS:
            if what in self.counts:
                yield f"{self.counts[what]:>12,} {what}{_WHY.get(what, '')}"
            if what == "rejected":
                for reason, count in self._reasons.most_common():
                    yield f"{count:>20,} {reason}, as {', '.join(self._rejected_examples[reason])}"
            for field, pairs in sorted(self._fields.get(what, {}).items()):
                yield from _field_lines(field, pairs)
        if not self.counts:
            yield "nothing was read"


_WHY: Final = {
    "expired": ", before the horizon of retention, so ignored. A backfill needs --accept-expired",
    "forgotten": ", ignored because their executions were erased",
    "gone": ", tried and rejected again, because not all of their bytes were kept",
}


def find_changed_fields(before: Envelope, after: Envelope) -> FieldChanges:
    """Return the fields whose values differ. Two spellings of one JSON value are the same."""
    changes: FieldChanges = {}
    for field in _FIELDS:
        old, new = getattr(before, field), getattr(after, field)
        if old == new:
            continue
        old, new = _value(field, old), _value(field, new)
        if old != new:
            changes[field] = (old, new)
    return changes


def coordinates_text_of_rejected(record: RawRecord, rejected: Rejected) -> str:
    """Return the coordinates of a rejected event, as text."""
    return (
        f"{record.coordinates_text}#{rejected.index}" if rejected.index else record.coordinates_text
    )


def _value(field: str, value: Any) -> Any:
    if value is None:
        return None
    if field == "coercions":
        return [msgspec.Raw(entry) for entry in _sorted(_list.decode(value))]
    if isinstance(value, bytes):
        return msgspec.Raw(canonical_json(value))
    if isinstance(value, datetime):
        return value.isoformat()
    return value


def _sorted(entries: Iterable[msgspec.Raw]) -> list[bytes]:
    return sorted(canonical_json(bytes(entry)) for entry in entries)


def _shortened(value: Any) -> str:
    text = "" if value is None else msgspec.json.encode(value).decode()
    return text if len(text) <= _MAX_LETTERS else f"{text[:_MAX_LETTERS]}..."


def _field_lines(field: str, pairs: _Pairs) -> Iterator[str]:
    total = sum(pairs.counts.values()) + pairs.others
    yield f"{total:>20,} {field}"
    most = sorted(pairs.counts.items(), key=lambda item: (-item[1], item[0]))
    for pair, count in most[:10]:
        before, after = (text or "nothing" for text in pair)
        examples = ", ".join(map(str, pairs.examples[pair]))
        yield f"{count:>28,} {before} -> {after}, as {examples}"
    if rest := total - sum(count for _, count in most[:10]):
        yield f"{rest:>28,} others"
