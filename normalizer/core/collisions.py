"""Decides which of several events with one id a report belongs to, and which ids the others get.

Two reports are of one event if event_id, execution and class of the type are equal. The command
must be equal too where both name one, else the step where both name one.
Source: docs/spec/wire-shapes.md#m2, #m3.
"""

import hashlib
import struct
from collections.abc import Callable, Collection
from typing import Final

import msgspec

from normalizer.core.conflicts import reported_steps
from normalizer.core.event_types import event_class
from normalizer.core.merge_flags import SHARES_ID, with_coercion
from normalizer.envelope import Envelope

HASHED_REGION: Final = 1 << 62 | 1 << 61
"""Ids with bits 62 and 61 set carry no time: 61 bits of a hash."""

MAX_SIBLINGS: Final = 8
"""How many other events may share an id with its holder; further ones get a derived id."""

_HASH_BITS: Final = (1 << 61) - 1


def match_strength(
    row: Envelope,
    report: Envelope,
    steps_of: Callable[[Envelope], Collection[str]] = reported_steps,
) -> int:
    """How surely a report is of the row's event: 3 by command, 2 by step, 1 by default, 0 not.

    `steps_of` may remember what `reported_steps` gives: that decodes the row.
    """
    if row.execution_id != report.execution_id or not is_same_class(row, report):
        return 0
    if row.command_id is not None and report.command_id is not None:
        return 3 if row.command_id == report.command_id else 0
    if row.step and report.step:
        return 2 if row.step == report.step or report.step in steps_of(row) else 0
    return 1


def is_same_class(a: Envelope, b: Envelope) -> bool:
    """Whether both types are spellings of one class."""
    return a.event_type == b.event_type or event_class(a.event_type) == event_class(b.event_type)


def are_rivals(row: Envelope, event: Envelope) -> bool:
    """Whether a report without step and command could be of either."""
    return row.execution_id == event.execution_id and is_same_class(row, event)


def sibling_ids(event_id: int, execution_id: int) -> list[int]:
    """The ids for events of an execution whose own id belongs to another event, in order.

    2^62 | 2^61 | the low 61 bits of BLAKE2b over the id, the execution and 1 to 8.
    """
    return [
        HASHED_REGION
        | int.from_bytes(
            hashlib.blake2b(struct.pack(">Qqq", event_id, execution_id, n), digest_size=8).digest(),
            "big",
        )
        & _HASH_BITS
        for n in range(1, MAX_SIBLINGS + 1)
    ]


def with_event_id(event: Envelope, event_id: int) -> Envelope:
    """The event under another id than its producer gave, with the coercion that records it."""
    coercion = msgspec.json.encode(
        {"rule": "event_id_conflict", "field": "event_id", "from": event.event_id}
    )
    return msgspec.structs.replace(
        event,
        event_id=event_id,
        coercions=with_coercion(event.coercions, coercion),
        merge_flags=event.merge_flags | SHARES_ID,
    )
