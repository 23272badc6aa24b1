"""Finds out how many retries came before this attempt, and how well that's known.

Some producers count attempts from 1, while others count retries from 0. The column `attempts`
counts retries, so the first attempt has 0. Source: docs/spec/wire-shapes.md#n1, #n2, #n3, #n4, #s6.
"""

import re
from typing import Final, TypeAlias

from normalizer.core.decode.wire_event import WireEvent, nested_object
from normalizer.core.decode.wire_values import Value, as_integer
from normalizer.core.evidence import NOT_SENT, Rank
from normalizer.envelope import MAX_ATTEMPTS

_COUNTED_FROM_ONE: Final = (
    "meta.attempt",
    "correlation.attempt",
    "meta.correlation.attempt",
    "context.attempt",
    "context.retry.attempt",
    "meta.queue_meta.attempts",
    "attempt_number",
    "meta.retry.attempt_number",
    "context.data.attempt_number",
    "attempt",
    "result.context.attempt",
    "result.context.retry.attempt",
    "result.context.data.attempt_number",
)
"""Fields that count attempts from one, in the order in which they're tried."""
_DIGITS: Final = re.compile("0*[0-9]{1,5}")

Attempts: TypeAlias = tuple[int, Rank]
"""How many retries came before this attempt, and the rank of its evidence."""


def resolve_attempts(event: WireEvent) -> Attempts:
    """Return the first valid count, and record any invalid counts before it as coercions.

    Within one event, only the order of the fields decides which count is used. The rank that's
    returned with it matters later, when two reports of one event are merged.
    """
    if event.meta.attempts is not None:
        explicit = _count(event, "meta.attempts", event.meta.attempts)
        if explicit is not None:
            return explicit, 2
    values = _counted_from_one(event)
    if values.count(None) < len(values):  # false for most events
        for at, value in zip(_COUNTED_FROM_ONE, values, strict=True):
            if value is not None:
                count = _count(event, at, value)
                if count is not None:
                    return max(count - 1, 0), 1
    if event.sent.retry_count is not None:
        retries = _count(event, "retry_count", event.sent.retry_count)
        if retries is not None:
            return retries, 2
    return 0, NOT_SENT


def resolve_max_attempts(event: WireEvent) -> int | None:
    """Return the maximum number of attempts, or None if it wasn't sent."""
    meta, payload, stored = event.meta, event.nested.payload, event.nested.result_context
    values: tuple[Value, ...] = (
        meta.max_attempts,
        nested_object(meta.queue_meta).max_attempts if meta.queue_meta else None,
        nested_object(payload.retry).max_attempts if payload.retry else None,
        event.sent.max_attempts,
        nested_object(meta.retry).max_attempts if meta.retry else None,
        nested_object(stored.retry).max_attempts if stored.retry else None,
    )
    if values.count(None) == len(values):
        return None  # nearly every event
    counts = (_as_count(value) for value in values if value is not None)
    return next((count for count in counts if count is not None), None)


def meta_has_attempts(event: WireEvent, count: int) -> bool:
    """Return whether the meta already has this number, as an integer."""
    sent = event.meta.attempts
    if sent is None or type(sent) is str:
        return False
    return (sent if type(sent) is int else as_integer(sent)) == count


def _counted_from_one(event: WireEvent) -> tuple[Value, ...]:
    """Return the value of each field in _COUNTED_FROM_ONE, in the same order."""
    sent, meta = event.sent, event.meta
    payload, stored = event.nested.payload, event.nested.result_context
    return (
        meta.attempt,
        nested_object(sent.correlation).attempt if sent.correlation else None,
        nested_object(meta.correlation).attempt if meta.correlation else None,
        payload.attempt,
        nested_object(payload.retry).attempt if payload.retry else None,
        nested_object(meta.queue_meta).attempts if meta.queue_meta else None,
        sent.attempt_number,
        nested_object(meta.retry).attempt_number if meta.retry else None,
        nested_object(payload.data).attempt_number if payload.data else None,
        sent.attempt,
        stored.attempt,
        nested_object(stored.retry).attempt if stored.retry else None,
        nested_object(stored.data).attempt_number if stored.data else None,
    )


def _count(event: WireEvent, field: str, value: Value) -> int | None:
    count = _as_count(value)
    if count is None and value != "":
        event.coerce("attempts_invalid", field, event.original(field))
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
