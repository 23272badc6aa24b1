"""Normalizes a record: each of its events becomes an Envelope, a Rejected, or an Ignored.

The rules are applied in a fixed order, and the first rule that rejects an event decides the reason.
Source: docs/spec/wire-shapes.md#l2 (the order of the rules), #v3 (evidence), #g4.

"Your first change" in CONTRIBUTING.md changes a rule step by step. These must change with it:

- RULES_VERSION in envelope.py
- the native lane (native/lane), which must give the same bytes or leave the record to Python. A
  process doesn't use a lane that was built from other rules (`rules_hash`).
- for a spelling of an event type, projector.event_kinds and its copies, such as deploy/calls.py
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

import msgspec

from normalizer.core.decode.decode import UndecodableItem, decode_events
from normalizer.core.decode.headers import NO_HEADERS, RecordHeaders, read_headers
from normalizer.core.decode.record_layers import unstorable_coercions
from normalizer.core.decode.record_limits import check_record_size
from normalizer.core.decode.rejected_sample import sample_unless_secret
from normalizer.core.decode.shape_table import ShapeTable
from normalizer.core.decode.wire_event import WireEvent
from normalizer.core.decode.wire_values import RecordIgnoredError, RecordRejectedError, Value
from normalizer.core.evidence import Evidence
from normalizer.core.raw_record import RawRecord
from normalizer.core.redaction.sanitize import Sanitizer
from normalizer.core.rules.attempt_numbers import (
    meta_attempts_equal,
    resolve_attempts,
    resolve_max_attempts,
)
from normalizer.core.rules.durations import resolve_duration
from normalizer.core.rules.error_text import resolve_error
from normalizer.core.rules.identifiers import (
    keep_child_execution_id,
    parse_execution_id,
    resolve_event_id,
    resolve_execution_id,
    resolve_parent_execution_id,
    resolve_secondary_id,
)
from normalizer.core.rules.names import (
    parse_iteration,
    resolve_command_id,
    resolve_event_type,
    resolve_node_type,
    resolve_step,
    resolve_worker_id,
)
from normalizer.core.rules.status import resolve_status
from normalizer.core.rules.timestamps import resolve_created_at, to_recorded_at
from normalizer.core.shapes import refine_shape_by_type
from normalizer.envelope import (
    RULES_VERSION,
    Envelope,
    Ignored,
    Normalized,
    Rejected,
    canonical_json,
    meta_with_attempts,
)
from normalizer.errors import RejectionReason
from normalizer.snowflake import derive_id

_encode: Final = msgspec.json.Encoder().encode


class Normalizer:
    """Applies all rules to a record. It keeps no state between records.

    Keys that contain one of `redact_keys` are treated as secret, in addition to those with a
    built-in word. `shapes` is an operator's table of further producers' formats.
    """

    def __init__(self, redact_keys: Iterable[str] = (), shapes: ShapeTable | None = None) -> None:
        self._sanitizer: Final = Sanitizer(redact_keys)
        self.shapes: Final = shapes
        self.fingerprint: Final = "" if shapes is None else shapes.fingerprint

    @property
    def version(self) -> str:
        """Return the version of the rules, with the fingerprint of the table of shapes if any."""
        return f"{RULES_VERSION}+{self.fingerprint}" if self.fingerprint else str(RULES_VERSION)

    def normalize(self, record: RawRecord) -> tuple[Normalized, ...]:
        """Return the outcomes of a record, at least one.

        It never raises, whatever the bytes are, unless memory runs out. For bytes that it can't
        use, the decoder raises RecordRejectedError, or RecordIgnoredError for a whole record. For
        values that they can't use, the rules raise RecordRejectedError only. JSON that could reach
        Python's recursion limit is rejected before a rule sees it. Outside of the `try` blocks,
        nothing can raise: `to_recorded_at` and `parse_execution_id` return None for what isn't a
        time or an id, and `sample_unless_secret` only searches bytes. The events of a batch are
        decoded there, one by one, but `_decode_item` returns an UndecodableItem for one that's
        rejected, and only the envelopes around a whole record are ever ignored. `test_core_laws`
        tries arbitrary bytes and hostile values.
        """
        try:
            check_record_size(record)
            if record.value is None:
                return (Ignored(why="tombstone"),)
            headers = (
                read_headers(record.headers, self._sanitizer) if record.headers else NO_HEADERS
            )
            events = decode_events(record.value, self._sanitizer, headers.cloudevent)
        except RecordRejectedError as why:
            return self._sampled(record, (_rejected(record, why.reason, why.detail, ""),))
        except RecordIgnoredError as ignored:
            return (Ignored(why=str(ignored)),)
        rules = _EventRules(record, headers, to_recorded_at(record.recorded_ms), self.shapes)
        # Normalize one by one, so that a decoded event is freed before the next one is decoded.
        outcomes = tuple([rules.outcome(event) for event in events])
        return self._sampled(record, outcomes) or (Ignored(why="a batch of no events"),)

    def _sampled(
        self, record: RawRecord, outcomes: tuple[Normalized, ...]
    ) -> tuple[Normalized, ...]:
        """Return the outcomes. The first Rejected gets a sample of the whole record.

        The others don't, because it would be stored again for each rejected event of a batch.
        """
        for n, outcome in enumerate(outcomes):
            if isinstance(outcome, Rejected):
                is_whole = record.cut is None
                sample = (
                    sample_unless_secret(record.value or b"", self._sanitizer) if is_whole else None
                )
                rejected = msgspec.structs.replace(outcome, sample=sample)
                return (*outcomes[:n], rejected, *outcomes[n + 1 :])
        return outcomes


class _EventRules(msgspec.Struct, frozen=True, gc=False):
    """Applies the rules to the events of one record, and has what they all share."""

    record: RawRecord
    headers: RecordHeaders
    recorded: datetime | None
    """The time that the log recorded."""
    shapes: ShapeTable | None

    def outcome(self, event: WireEvent | UndecodableItem) -> Normalized:
        """Return the outcome of one event."""
        record = self.record
        if isinstance(event, UndecodableItem):
            return _rejected(
                record, event.reason, event.detail, "", event.index, event.execution_id
            )
        # A stored row keeps its shape, even if the table has changed since. Its fields have the
        # documented names already, but it's translated all the same. For example, `occurred_at` is
        # an alias of `created_at`, and the producer sent both, with different values. The row has
        # `occurred_at` in `extra`, so the rebuilt record has both again, and translating it flags
        # `alias_conflict` again.
        shape = record.shape or ""
        if self.shapes is not None:
            # This call never raises. If a field has a value that no rule can use, the event is
            # rejected below, and the detail names the field by its new name.
            custom_shape, event = self.shapes.match_shape_and_translate(event)
            shape = shape or custom_shape
        try:
            event_type = resolve_event_type(event)
            shape = shape or refine_shape_by_type(event.shape_from_keys(), event_type)
            return self._envelope(event, event_type, shape)
        except RecordRejectedError as why:
            named = event.sent.execution_id
            return _rejected(record, why.reason, why.detail, shape, event.index, named)

    def _envelope(self, event: WireEvent, event_type: str, shape: str) -> Envelope:
        """Apply the rules that follow `resolve_event_type`, which may reject the event too (#l2).

        Any rule may add to `event.extra` and `event.coercions`, so these are encoded last.
        """
        record, headers, recorded = self.record, self.headers, self.recorded
        index = record.index + event.index
        # Called first, as in native/lane. PostgreSQL ignores the order of members in `extra`, but
        # tests/native compares the bytes that both lanes write.
        keep_child_execution_id(event)

        # Only the rules of this block may reject the event. The first that does gives the reason.
        # Each rule after it has an answer for every value, and `test_core_laws` tries them all.
        command_id = resolve_command_id(event)
        step = resolve_step(event, command_id)
        worker_id = resolve_worker_id(event)
        status, status_rank = resolve_status(event, event_type)
        execution_id = resolve_execution_id(event)
        sent_id = resolve_event_id(event)
        in_log = record.topic is not None
        created_at, created_rank = resolve_created_at(event, sent_id, recorded, in_log=in_log)

        attempts, attempts_rank = resolve_attempts(event)
        max_attempts = resolve_max_attempts(event)
        node_type = resolve_node_type(event)
        catalog_id = resolve_secondary_id(event, "catalog_id")
        parent_event_id = resolve_secondary_id(event, "parent_event_id")
        parent_execution_id = resolve_parent_execution_id(event, event_type, execution_id)
        duration = resolve_duration(event, event_type)
        error = resolve_error(event)

        event_id = self._derived_id(index) if sent_id is None else sent_id
        iteration = None if command_id is None else parse_iteration(command_id)
        evidence = Evidence(attempts_rank, status_rank, created_rank).pack()
        context = bytes(event.context) if event.context else None
        result = bytes(event.result) if event.result else None
        meta = _encode_meta(event, attempts)
        extra = _encode(event.extra) if event.extra else None
        if headers.replaced:
            event.coercions += unstorable_coercions(headers.replaced)
        coercions = _encode_coercions(event.coercions) if event.coercions else None

        # The fields of Envelope in their order, which `test_each_field_of_an_envelope_is_in_its_
        # place` checks. Keywords would make normalize() 5 % slower.
        return Envelope(
            execution_id,
            event_type,
            status,
            event_id,
            step,
            attempts,
            max_attempts,
            created_at,
            worker_id,
            command_id,
            iteration,
            node_type,
            catalog_id,
            parent_event_id,
            parent_execution_id,
            duration,
            error,
            context,
            result,
            meta,
            extra,
            coercions,
            evidence,
            shape,
            RULES_VERSION,
            record.topic,
            record.incarnation,
            record.partition,
            record.offset,
            index,
            headers.json,
            headers.trace_id,
            recorded,
        )

    def _derived_id(self, index: int) -> int | None:
        """Return the id of an event that was sent without one, derived from where it's in the log.

        Returns None for a record that isn't from a log (#g4). `index` is the event's index in its
        record.
        """
        record = self.record
        if record.topic is None:
            return None
        return derive_id(
            record.topic,
            record.incarnation,
            record.partition,
            record.offset,
            index,
            None if self.recorded is None else record.recorded_ms,
        )


def _encode_meta(event: WireEvent, attempts: int) -> bytes:
    meta = bytes(event.meta_sent)
    return meta if meta_attempts_equal(event, attempts) else meta_with_attempts(meta, attempts)


def _encode_coercions(coercions: list[dict[str, object]]) -> bytes:
    """Return the coercions without duplicates, sorted by bytes as in a merged row.

    A single one is returned as it was made, because jsonb orders its keys anyway.
    """
    if len(coercions) < 2:
        return _encode(coercions)
    entries = {canonical_json(msgspec.json.encode(coercion)) for coercion in coercions}
    return b"[" + b",".join(sorted(entries)) + b"]"


def _rejected(
    record: RawRecord,
    reason: RejectionReason,
    detail: str,
    shape: str,
    index: int = 0,
    execution_id: Value = None,
) -> Rejected:
    # A record's only event has index 0 too, so the first event of a batch isn't named either.
    item = f" events[{index}]" if index else ""
    return Rejected(
        reason=reason,
        detail=f"{record.coordinates_text}{item}: {detail}",
        shape=shape,
        index=record.index + index,
        execution_id=parse_execution_id(execution_id),
    )
