"""Generates ids as the platform does, and derives ids as a reader must.

This arithmetic is written from the spec and shares no code with the normalizer. Otherwise a mistake
in the shared code would be on both sides of the comparison, and nobody would notice it. Source:
docs/spec/wire-shapes.md#g1, #g2, #g4, #i3.
"""

import struct
from hashlib import blake2b
from typing import Final

EPOCH_MS: Final = 1_704_067_200_000
_NODE_BITS: Final = 12
_MS_BITS: Final = 22
_DOUBLED_MS_BITS: Final = 23
_DOUBLED_MARK: Final = 0x040000
_SEQUENCES: Final = 1 << 12
_DOUBLED_SEQUENCES: Final = 1 << 10
_SMALLEST_WITH_TIME: Final = 1 << 40
_NO_TIME: Final = 1 << 62 | 1 << 61


class Minter:
    """Ids of one node in the layout of every application, ascending and never repeated."""

    def __init__(self, node: int) -> None:
        self._node = node << _NODE_BITS
        self._ms = 0
        self._sequence = 0

    def mint(self, at_ms: int) -> int:
        """An id of `at_ms` (since 1970), or of the next free millisecond."""
        if at_ms > self._ms:
            self._ms, self._sequence = at_ms, 0
        else:
            self._sequence += 1
            if self._sequence == _SEQUENCES:
                self._ms, self._sequence = self._ms + 1, 0
        return (self._ms - EPOCH_MS) << _MS_BITS | self._node | self._sequence


class DatabaseMinter(Minter):
    """Ids as the platform's own database function draws them: shifted by 23, not 22."""

    def mint(self, at_ms: int) -> int:
        """An id of `at_ms` (since 1970), or of the next free millisecond."""
        if at_ms > self._ms:
            self._ms, self._sequence = at_ms, 0
        else:
            self._sequence += 1
            if self._sequence == _DOUBLED_SEQUENCES:
                self._ms, self._sequence = self._ms + 1, 0
        return (self._ms - EPOCH_MS) << _DOUBLED_MS_BITS | _DOUBLED_MARK | self._sequence


class SmallNumbers(Minter):
    """Small numbers as ids, as an early table counted them. They contain no time."""

    def mint(self, at_ms: int) -> int:
        """Return the next number, and ignore the time."""
        del at_ms
        self._sequence += 1
        return 1_000 + self._sequence


def minted_ms(event_id: int, *, doubled: bool = False) -> int | None:
    """Return when an id was made, in milliseconds since 1970, or None for a small number."""
    if event_id < _SMALLEST_WITH_TIME:
        return None
    return (event_id >> (_DOUBLED_MS_BITS if doubled else _MS_BITS)) + EPOCH_MS


def is_hashed(event_id: int) -> bool:
    """Return whether an id is a hashed one, without a time."""
    return event_id & _NO_TIME == _NO_TIME


def hash_opaque_id(text: str) -> int:
    """Return the 62-bit hash that replaces an id that isn't an int64.

    For example, an execution whose id is a UUID is stored under this hash. Use it for the ids of
    executions, catalog entries, and parents, and `hash_opaque_event_id` for the ids of events.
    """
    digest = blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") & (2**62 - 1) | 1 << 62


def hash_opaque_event_id(text: str) -> int:
    """Return the hash that replaces an event id that isn't an int64.

    Bits 62 and 61 are set, which marks an id that holds no time. The other 61 bits are the hash.
    """
    digest = blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") & (2**61 - 1) | _NO_TIME


def derived(
    topic: str,
    partition: int,
    offset: int,
    index: int,
    recorded_ms: int,
    *,
    incarnation: int = 0,
    salt: int = 0,
) -> int:
    """Return the id of an event that was sent without one, derived from its place in Kafka."""
    place = struct.pack(">IIQI", incarnation, partition, offset, index)
    tail = bytes([salt]) if salt else b""
    digest = blake2b(topic.encode() + b"\0" + place + tail, digest_size=8).digest()
    ms = min(max(recorded_ms - EPOCH_MS, 0), 2**39 - 1)
    return 1 << 62 | ms << _MS_BITS | int.from_bytes(digest, "big") >> 42
