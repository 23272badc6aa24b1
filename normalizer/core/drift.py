"""Finds drift, i.e. top-level keys that aren't documented and values of an undocumented type.

To limit its cost, it inspects at most MAX_INSPECTED_EVENTS_A_SECOND events of each producer's
format per second. With little traffic, that's every event. It ignores the contents of payloads,
because producers may put anything there.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec

from normalizer.core.batch import Batch, RecordWithOutcomes
from normalizer.core.decode.decode import UndecodableItem, decode_events
from normalizer.core.decode.wire_event import WireEvent
from normalizer.core.decode.wire_values import first_byte
from normalizer.core.encoded_events import select_events
from normalizer.core.redaction.sanitize import Sanitizer

MAX_INSPECTED_EVENTS_A_SECOND: Final = 8
"""How many events of one shape to inspect per second. That takes less than a millisecond."""
MAX_INSPECTED_RECORD_BYTES: Final = 65_536
"""Skip a larger record, because decoding it again could take as long as its whole batch."""
MAX_FINDINGS_PER_SHAPE: Final = 100
"""How many findings to remember per shape. A producer may send new keys without end."""
MAX_EXAMPLE_CHARS: Final = 200
_MAX_KEY_LETTERS: Final = 100

DriftKind = Literal["unknown_key", "changed_type"]

_ANY: Final = "object list text number bool"
_ID: Final = "number text"
_KNOWN: Final = {
    "execution_id event_id catalog_id parent_event_id parent_execution_id prev_event_id": _ID,
    "created_at timestamp event_time ingest_time command_id": _ID,
    "event_type name step node_name node_type status worker_id stack_trace": "text",
    "context payload result node_id output_inline output_select preview current_item": _ANY,
    "meta correlation payload_data trace_component": "object",
    "error": "text object",
    "duration": "number",
    "actionable informative": "bool",
    "result_kind result_uri": "text",
    "event_ids": "list",
    "output_ref payload_ref producer": "text object",
    "attempt_number retry_count max_attempts": _ID,
    "tenant_id organization_id stream_id stream_version stage_id frame_id": _ID,
    "causation_id correlation_id idempotency_key envelope_checksum": _ID,
    "loop_id loop_name iterator current_index items_count": _ID,
}
"""The documented types of each field. Source: docs/spec/wire-shapes.md#python-server, #rust-server,
#workerevent."""
_KINDS: Final = {
    name: frozenset(kinds.split()) for names, kinds in _KNOWN.items() for name in names.split()
}
_FAMILIES: Final = re.compile(r"(aggregate|schema)_[a-z_]+")
_ANY_KIND: Final = frozenset(_ANY.split())
_TYPES: Final = {
    b"{": "object",
    b"[": "list",
    b'"': "text",
    b"t": "bool",
    b"f": "bool",
    b"n": "null",
}


class DriftFinding(msgspec.Struct, frozen=True, kw_only=True):
    """A field that isn't as documented, with the first record that had it."""

    shape: str
    kind: DriftKind
    field: str
    type: str
    topic: str
    incarnation: int
    partition: int
    offset: int
    example: str
    execution_ids: tuple[int, ...] = ()
    """The execution ids of the record that fit into a bigint column."""

    @property
    def key(self) -> tuple[str, str, str]:
        """Return what identifies a finding. Two findings with the same key are the same finding."""
        return (self.shape, self.field, self.type)


class DriftDetector:
    """Inspects written batches. `take_findings` returns each new finding once.

    `documented` are the fields that an operator's table of shapes documents in addition.
    """

    def __init__(self, redact_keys: Iterable[str] = (), documented: Iterable[str] = ()) -> None:
        self._sanitizer = Sanitizer(redact_keys)
        self._documented = frozenset(documented)
        self._second = 0
        self._inspected: Counter[str] = Counter()
        self._known: dict[str, set[tuple[str, str, str]]] = {}
        self._new: list[DriftFinding] = []

    def inspect_batch(self, batch: Batch, now_s: float) -> Counter[tuple[str, DriftKind]]:
        """Inspect a batch. Returns how often fields weren't as documented, by shape and kind."""
        if int(now_s) != self._second:
            self._second = int(now_s)
            self._inspected.clear()
        seen: Counter[tuple[str, DriftKind]] = Counter()
        for part in batch.parts:
            # Spread the sample over the whole batch instead of taking its first records.
            step = max(1, len(part.items) // (8 * MAX_INSPECTED_EVENTS_A_SECOND))
            for record, outcomes in part.items[::step]:
                if record.value is None or len(record.value) > MAX_INSPECTED_RECORD_BYTES:
                    continue
                shapes = {event.shape for event in select_events(outcomes)}
                if len(shapes) != 1:
                    continue  # no event, or a batch of several shapes
                (shape,) = shapes
                self._inspected[shape] += 1
                if self._inspected[shape] <= MAX_INSPECTED_EVENTS_A_SECOND:
                    for finding in self._findings((record, outcomes), shape):
                        seen[shape, finding.kind] += 1
                        self._remember(finding)
        return seen

    def take_findings(self) -> list[DriftFinding]:
        """Return the findings since the last call. Safe to call from another thread."""
        new, self._new = self._new, []
        return new

    def put_back(self, findings: Sequence[DriftFinding]) -> None:
        """Take back findings that couldn't be stored. `take_findings` returns them again."""
        self._new = [*findings, *self._new]

    def _findings(self, item: RecordWithOutcomes, shape: str) -> list[DriftFinding]:
        record, outcomes = item
        assert record.value is not None
        execution_ids = {event.execution_id for event in select_events(outcomes)}
        events = decode_events(record.value, self._sanitizer)
        return [
            DriftFinding(
                shape=shape,
                kind="unknown_key" if _expected_kinds(field) is None else "changed_type",
                field=field[:_MAX_KEY_LETTERS],
                type=kind,
                topic=record.topic or "",
                incarnation=record.incarnation,
                partition=record.partition,
                offset=record.offset,
                example=text[:MAX_EXAMPLE_CHARS],
                execution_ids=tuple(one for one in execution_ids if -(1 << 63) <= one < 1 << 63),
            )
            for event in events
            if not isinstance(event, UndecodableItem)
            for field, kind, text in _drifts(event)
            if field not in self._documented
        ]

    def _remember(self, finding: DriftFinding) -> None:
        known = self._known.setdefault(finding.shape, set())
        if finding.key not in known and len(known) < MAX_FINDINGS_PER_SHAPE:
            known.add(finding.key)
            self._new.append(finding)


def _drifts(event: WireEvent) -> Iterable[tuple[str, str, str]]:
    """Yield field, type, and value of each top-level field that isn't as documented."""
    for field, raw in event.fields.items():
        kind = _TYPES.get(first_byte(raw), "number")
        known = _expected_kinds(field)
        if kind != "null" and (known is None or kind not in known):
            yield field, kind, bytes(raw).decode(errors="replace")


def _expected_kinds(field: str) -> frozenset[str] | None:
    known = _KINDS.get(field)
    return _ANY_KIND if known is None and _FAMILIES.fullmatch(field) else known
