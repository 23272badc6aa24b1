"""Traffic for chaos: events with and without ids, reported twice, sanitized, rejected, by seed."""

import random
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from tests.support.factories import raw_event, snowflake

Sent = tuple[bytes, bytes | None]
"""Key and value of a record."""

_TYPES: Final = (
    ("step.enter", "RUNNING"),
    ("command.issued", "PENDING"),
    ("call.done", "COMPLETED"),
    ("call.done", "FAILED"),
    ("step.exit", "COMPLETED"),
    ("playbook.completed", "COMPLETED"),
)


def records(seed: int) -> Iterator[Sent]:
    """Records without end, the same for the same seed."""
    rng = random.Random(seed)
    number = 0
    while True:
        number += 1
        execution_id = 1_000 + number % 50
        key = str(execution_id).encode()
        yield key, _value(rng, number, execution_id)


def _value(rng: random.Random, number: int, execution_id: int) -> bytes | None:
    kind = rng.random()
    if kind < 0.01:
        return None
    if kind < 0.03:
        return rng.choice((b"{", b"[]", b"NaN", b"\xff", b"", b'{"event_type":"call.done"}'))
    if kind < 0.15:
        return msgspec.json.encode(_worker_event(number, execution_id))
    if kind < 0.2:
        items = [_event(rng, number, execution_id) | {"event_id": None} for _ in range(3)]
        return msgspec.json.encode({"execution_id": execution_id, "events": items})
    if kind < 0.35 and number > 50:
        # An earlier event, reported by another producer: same execution, so the same partition.
        number -= 50
        return msgspec.json.encode(
            _event(random.Random(number), number, execution_id)
            | {"trace": f"reported again by {rng.randrange(3)}", "meta": {"attempts": number % 3}}
        )
    return msgspec.json.encode(_event(random.Random(number), number, execution_id))


def _event(rng: random.Random, number: int, execution_id: int) -> dict[str, Any]:
    event_type, status = rng.choice(_TYPES)
    return raw_event(
        number,
        event_id=snowflake(number),
        execution_id=execution_id,
        event_type=event_type,
        status=status,
        meta={"attempts": number % 3},
    )


def _worker_event(number: int, execution_id: int) -> dict[str, Any]:
    """Neither id nor time: both come from the record's place in the log."""
    return {
        "event_type": "call.done",
        "execution_id": execution_id,
        "payload": {
            "command_id": f"{execution_id}:fetch:{number}",
            "call_index": 0,
            "result": {"status": "success", "data": {"n": number}},
        },
    }
