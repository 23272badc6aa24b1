"""Reads eleven fields of a record by their known names, as a careful script of your own would.

It applies no rule of the normalizer. A wrapped or batched event stays one row with few fields.
"""

import json
import os
from datetime import UTC, datetime
from typing import Any

COLUMNS = (
    *("event_id", "execution_id", "event_type", "step", "status", "created_at", "worker_id"),
    *("error", "context", "result", "meta", "kafka_partition", "kafka_offset"),
)
NAMES = ", ".join(COLUMNS)
INSERT = (
    f"insert into events ({NAMES}) "
    f"values ({', '.join(f'${n}' for n in range(1, len(COLUMNS) + 1))}) on conflict do nothing"
)
UNGUARDED = bool(os.environ.get("UNGUARDED"))
"""Without our own guard against poison: what the program or framework then does."""

STATUSES = {
    **dict.fromkeys(("running", "started", "claimed", "in_progress"), "STARTED"),
    **dict.fromkeys(("success", "ok", "done", "completed"), "COMPLETED"),
    **dict.fromkeys(("failure", "error", "failed"), "FAILED"),
    **dict.fromkeys(("pending", "initiated", "initialized", "issued"), "PENDING"),
}
REFUSED = (ValueError, TypeError, AttributeError, RecursionError)
"""The errors that reading a record without an event may raise."""


def to_row(value: bytes, partition: int, offset: int, recorded_ms: int) -> tuple[Any, ...]:
    """One row of COLUMNS. Raises one of REFUSED."""
    event = json.loads(value)
    status = _text(event.get("status")) or ""
    context = event.get("context")
    event_id = _text(event.get("event_id"))
    return (
        event_id if event_id and event_id != "0" else f"{partition}-{offset}",
        _text(event.get("execution_id")),
        _text(event.get("event_type") or event.get("name")),
        _text(event.get("step") or event.get("node_name")),
        STATUSES.get(status.lower(), status.upper()),
        to_time(event.get("created_at") or event.get("timestamp"), recorded_ms),
        _text(event.get("worker_id")),
        _text(event.get("error")),
        _json(context if context is not None else event.get("payload")),
        _json(event.get("result")),
        _json(event.get("meta")),
        partition,
        offset,
    )


def guarded_row(
    value: bytes, partition: int, offset: int, recorded_ms: int
) -> tuple[Any, ...] | None:
    """Return the row, or None for a record without an event or one that PostgreSQL would reject."""
    if UNGUARDED:
        return to_row(value, partition, offset, recorded_ms)
    try:
        row = to_row(value, partition, offset, recorded_ms)
        for field in row:
            if isinstance(field, str):
                if "\0" in field or "\\u0000" in field or "\\ud" in field or "NaN" in field:
                    return None
                field.encode()
    except REFUSED:
        return None
    return row


def to_time(value: Any, recorded_ms: int) -> datetime:
    """Return the time of a text or a number, or else Kafka's."""
    try:
        if isinstance(value, str) and not value.isdigit():
            at = datetime.fromisoformat(value)
            return at if at.tzinfo else at.replace(tzinfo=UTC)
        number = float(value)
        while number > 1e11:  # milli-, micro- or nanoseconds
            number /= 1e3
        return datetime.fromtimestamp(number, UTC)
    except (ValueError, TypeError, OverflowError):
        return datetime.fromtimestamp(recorded_ms / 1e3, UTC)


def _text(value: Any) -> str | None:
    return None if value is None else value if isinstance(value, str) else json.dumps(value)


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)
