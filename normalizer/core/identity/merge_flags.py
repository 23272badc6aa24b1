"""The bits of `merge_flags`, which record facts about a row's reports and its id.

Source: docs/spec/wire-shapes.md#m5.
"""

from datetime import timedelta
from typing import Final

import msgspec

from normalizer.core.coercions import read_coercions
from normalizer.core.identity.coordinates import event_coordinates
from normalizer.envelope import Envelope

WITHOUT_STEP: Final = 1
"""The row has a step, but one of its reports named none."""
WITHOUT_COMMAND: Final = 2
"""The row has a command, but one of its reports named none."""
MERGED: Final = 4
"""A report changed the row after it was stored. Never compared, because it depends on the order."""
SHARES_ID: Final = 8
"""Another event has, or had, the same id."""
HAS_RIVAL: Final = 16
"""An event of the same execution and class has the same id, or the row's reports name two steps.

A report without a step or a command may then have been merged into the wrong row.
"""
ELSEWHERE: Final = 32
"""Another report of a call's event lies in another log, or before the row's own in its log.

The row has the coordinates of the one that was read first.
"""

LATE: Final = timedelta(seconds=5)
"""A record that reaches its log this much after its event tells nothing by its place there."""

_AMBIGUOUS: Final = b'{"rule":"ambiguous_report","field":"event_id"}'


def lacks(row: Envelope) -> int:
    """Return WITHOUT_STEP and WITHOUT_COMMAND, if the row or one of its reports lacks these."""
    return (
        row.merge_flags & (WITHOUT_STEP | WITHOUT_COMMAND)
        | (0 if row.step else WITHOUT_STEP)
        | (WITHOUT_COMMAND if row.command_id is None else 0)
    )


def place_in_log(row: Envelope) -> str | None:
    """Return the coordinates, if their order in the log is the order in which events happened.

    It isn't if the record came late, or if another report could have given the row its coordinates.
    """
    if row.recorded_at is None or row.created_at is None or row.merge_flags & ELSEWHERE:
        return None
    if row.recorded_at - row.created_at >= LATE:
        return None
    return ":".join(map(str, event_coordinates(row)))


def with_flags(row: Envelope, flags: int) -> Envelope:
    """Return the row with these flags. Adds a coercion if a report may be about another event."""
    flags |= row.merge_flags
    if flags != row.merge_flags:
        row = msgspec.structs.replace(row, merge_flags=flags)
    if flags & HAS_RIVAL and lacks(row) and not is_ambiguous(row):
        return msgspec.structs.replace(row, coercions=with_coercion(row.coercions, _AMBIGUOUS))
    return row


def with_coercion(coercions: bytes | None, coercion: bytes) -> bytes:
    """Return the list with the coercion added at its front."""
    others = b"" if coercions is None else coercions.strip()[1:-1].strip()
    return b"[%b%b%b]" % (coercion, b"," if others else b"", others)


def is_ambiguous(row: Envelope) -> bool:
    """Return whether the row records that a report may be about another event."""
    return (
        row.coercions is not None
        and b"ambiguous_report" in row.coercions
        and any(coercion.rule == "ambiguous_report" for coercion in read_coercions(row.coercions))
    )
