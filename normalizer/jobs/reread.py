"""A stored row in; the row that today's rules make of it, under the same keys, or why none out."""

from collections.abc import Callable
from typing import Final

import msgspec

from normalizer.envelope import Envelope, Outcome, Rejected
from normalizer.rebuild import rebuild
from normalizer.record import RawRecord

KEYS: Final = (
    *("event_id", "execution_id", "source_topic", "source_generation"),
    *("source_partition", "source_offset", "source_index"),
)
"""What names a row, and where it came from: no rule ever changes them."""

CONFLICT: Final = "event_id_conflict"

_list: Final[msgspec.json.Decoder[list[msgspec.Raw]]] = msgspec.json.Decoder(list[msgspec.Raw])


class Unreadable(msgspec.Struct, frozen=True, kw_only=True):
    """Why today's rules make no row of it under its keys: it stays as it is."""

    reason: str
    detail: str


class _Named(msgspec.Struct, frozen=True):
    rule: str


_rule: Final[msgspec.json.Decoder[_Named]] = msgspec.json.Decoder(_Named)


def reread(
    row: Envelope, normalize: Callable[[RawRecord], tuple[Outcome, ...]]
) -> Envelope | Unreadable:
    """The row as today's rules would have made it from what its tellings sent."""
    match normalize(rebuild(row)):
        case (Envelope() as event,):
            pass
        case (Rejected() as rejected,):
            return Unreadable(reason=rejected.reason, detail=rejected.detail)
        case outcomes:
            return Unreadable(
                reason="not_one_event", detail=f"today's rules make {len(outcomes)} events of it"
            )
    if event.execution_id != row.execution_id:
        return Unreadable(reason="key_changes", detail="today's rules give it another execution_id")
    kept = {name: getattr(row, name) for name in KEYS}
    return msgspec.structs.replace(
        event, coercions=_with_conflicts(event.coercions, row.coercions), **kept
    )


def _with_conflicts(coercions: bytes | None, stored: bytes | None) -> bytes | None:
    """The coercions with what the store itself noted about the row's id."""
    if stored is None or CONFLICT.encode() not in stored:
        return coercions
    noted = [entry for entry in _list.decode(stored) if _rule.decode(entry).rule == CONFLICT]
    made = [] if coercions is None else _list.decode(coercions)
    others = [entry for entry in made if _rule.decode(entry).rule != CONFLICT]
    entries = [*others, *noted]
    return msgspec.json.encode(entries) if entries else None
