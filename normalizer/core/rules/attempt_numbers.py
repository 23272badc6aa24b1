"""Finds out how many retries came before this attempt, and how well that's known.

Some producers count attempts from 1, while others count retries from 0. The column `attempts`
counts retries, so the first attempt has 0. Source: docs/spec/wire-shapes.md#n1, #n2, #n3, #n4, #s6.
"""

import re
from collections.abc import Iterator
from typing import Final, TypeAlias

from normalizer.core.decode.wire_event import WireEvent, nested_fields_or_empty
from normalizer.core.decode.wire_values import Value, as_integer
from normalizer.core.evidence import ATTEMPTS_NOT_SENT, EvidenceRank
from normalizer.envelope import MAX_ATTEMPTS

_DIGITS: Final = re.compile("0*[0-9]{1,5}")

RankedAttempts: TypeAlias = tuple[int, EvidenceRank]
"""How many retries came before this attempt, and the rank of its evidence."""


def resolve_attempts(event: WireEvent) -> RankedAttempts:
    """Return the first valid count, and record any invalid counts before it as coercions.

    Within one event, only the order of the fields decides which count is used. The rank that's
    returned with it matters later, when two reports of one event are merged.
    """
    if event.meta.attempts is not None:
        explicit = _count(event, "meta.attempts", event.meta.attempts)
        if explicit is not None:
            return explicit, 2
    for field, value in _counted_from_one(event):
        if value is not None and (count := _count(event, field, value)) is not None:
            return max(count - 1, 0), 1
    if event.sent.retry_count is not None:
        retries = _count(event, "retry_count", event.sent.retry_count)
        if retries is not None:
            return retries, 2
    return 0, ATTEMPTS_NOT_SENT


def resolve_max_attempts(event: WireEvent) -> int | None:
    """Return the maximum number of attempts, or None if it wasn't sent."""
    meta, payload, stored = event.meta, event.nested.payload, event.nested.stored_payload
    values: tuple[Value, ...] = (
        meta.max_attempts,
        nested_fields_or_empty(meta.queue_meta).max_attempts if meta.queue_meta else None,
        nested_fields_or_empty(payload.retry).max_attempts if payload.retry else None,
        event.sent.max_attempts,
        nested_fields_or_empty(meta.retry).max_attempts if meta.retry else None,
        nested_fields_or_empty(stored.retry).max_attempts if stored.retry else None,
    )
    if values.count(None) == len(values):
        return None  # nearly every event
    counts = (_as_count(value) for value in values if value is not None)
    return next((count for count in counts if count is not None), None)


def meta_attempts_equal(event: WireEvent, attempts: int) -> bool:
    """Return whether the meta already has this number, as an integer."""
    sent = event.meta.attempts
    if sent is None or type(sent) is str:
        return False
    return (sent if type(sent) is int else as_integer(sent)) == attempts


def _counted_from_one(event: WireEvent) -> Iterator[tuple[str, Value]]:
    """Yield the fields that count attempts from one, each with its value, in their order (#n3).

    Most events have none of the objects in which half of them are.
    """
    sent, meta = event.sent, event.meta
    payload, stored = event.nested.payload, event.nested.stored_payload
    yield "meta.attempt", meta.attempt
    if sent.correlation:
        yield "correlation.attempt", nested_fields_or_empty(sent.correlation).attempt
    if meta.correlation:
        yield "meta.correlation.attempt", nested_fields_or_empty(meta.correlation).attempt
    yield "context.attempt", payload.attempt
    if payload.retry:
        yield "context.retry.attempt", nested_fields_or_empty(payload.retry).attempt
    if meta.queue_meta:
        yield "meta.queue_meta.attempts", nested_fields_or_empty(meta.queue_meta).attempts
    yield "attempt_number", sent.attempt_number
    if meta.retry:
        yield "meta.retry.attempt_number", nested_fields_or_empty(meta.retry).attempt_number
    if payload.data:
        yield "context.data.attempt_number", nested_fields_or_empty(payload.data).attempt_number
    yield "attempt", sent.attempt
    yield "result.context.attempt", stored.attempt
    if stored.retry:
        yield "result.context.retry.attempt", nested_fields_or_empty(stored.retry).attempt
    if stored.data:
        yield (
            "result.context.data.attempt_number",
            nested_fields_or_empty(stored.data).attempt_number,
        )


def _count(event: WireEvent, field: str, value: Value) -> int | None:
    count = _as_count(value)
    if count is None and value != "":
        event.record_coercion("attempts_invalid", field, event.raw_at_path(field))
    return count


def _as_count(value: Value) -> int | None:
    """Return a count from 0 to MAX_ATTEMPTS, from an integer or digits, otherwise None."""
    if type(value) is int:
        number: int | None = value
    elif type(value) is str:
        number = int(value.lstrip("0") or "0") if _DIGITS.fullmatch(value) else None
    else:
        number = as_integer(value)
    return number if number is not None and 0 <= number <= MAX_ATTEMPTS else None
