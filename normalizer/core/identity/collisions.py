"""Decides to which of several events with the same id a report belongs, and assigns other ids.

Two reports are about the same event if they have the same event_id, the same execution, and event
types of the same class, unless their commands or steps tell them apart. If both name a command, it
must be the same one. Otherwise, if both name a step, that must be the same one. Source:
docs/spec/wire-shapes.md#m2, #m3.
"""

import hashlib
import struct
from collections.abc import Callable, Collection
from typing import Final

import msgspec

from normalizer.core.identity.conflicts import losing_steps
from normalizer.core.identity.merge_flags import SHARES_ID_FLAG, prepend_coercion
from normalizer.core.rules.event_types import event_class
from normalizer.envelope import Envelope

MIN_HASHED_ID: Final = 1 << 62 | 1 << 61
"""Ids with bits 62 and 61 set hold no time, but 61 bits of a hash."""

MAX_SUBSTITUTE_IDS: Final = 8
"""How many more events may share an id with the first. Any further event gets an id derived from
its coordinates."""

_HASH_BITS: Final = (1 << 61) - 1


def match_strength(
    row: Envelope,
    report: Envelope,
    read_steps: Callable[[Envelope], Collection[str]] = losing_steps,
) -> int:
    """Return how surely a report is about the row's event.

    - 3: both name the same command.
    - 2: both name the same step, and at most one of them names a command.
    - 1: they name neither a command nor a step that could tell them apart.
    - 0: they're about different events.

    Pass `read_steps` to cache the result of `losing_steps`, which has to decode the row.
    """
    if row.execution_id != report.execution_id or not _is_same_class(row, report):
        return 0
    if row.command_id is not None and report.command_id is not None:
        return 3 if row.command_id == report.command_id else 0
    if row.step and report.step:
        return 2 if row.step == report.step or report.step in read_steps(row) else 0
    return 1


def _is_same_class(a: Envelope, b: Envelope) -> bool:
    """Return whether both event types are spellings of the same class."""
    return a.event_type == b.event_type or event_class(a.event_type) == event_class(b.event_type)


def share_execution_and_class(row: Envelope, event: Envelope) -> bool:
    """Return whether a report without step and command could be about either event."""
    return row.execution_id == event.execution_id and _is_same_class(row, event)


def substitute_ids(event_id: int, execution_id: int) -> list[int]:
    """Return the ids to try for an event whose own id is taken by another event, in order.

    Each id is 2^62 | 2^61 | the low 61 bits of BLAKE2b over the id, the execution, and a number
    from 1 to 8. The ids are computed rather than assigned, so every process tries the same ones in
    the same order.
    """
    return [
        MIN_HASHED_ID
        | int.from_bytes(
            hashlib.blake2b(struct.pack(">Qqq", event_id, execution_id, n), digest_size=8).digest(),
            "big",
        )
        & _HASH_BITS
        for n in range(1, MAX_SUBSTITUTE_IDS + 1)
    ]


def with_id_after_conflict(event: Envelope, event_id: int) -> Envelope:
    """Return the event under this id instead of its producer's, with a coercion that records it."""
    coercion = msgspec.json.encode(
        {"rule": "event_id_conflict", "field": "event_id", "from": event.event_id}
    )
    return msgspec.structs.replace(
        event,
        event_id=event_id,
        coercions=prepend_coercion(event.coercions, coercion),
        merge_flags=event.merge_flags | SHARES_ID_FLAG,
    )
