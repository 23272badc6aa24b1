"""Mints ids, reads the time inside them, and derives an id for an event without one.

A snowflake is a 63-bit id whose upper bits are a time, so ids sort by time. In the ids of NoETL's
applications, 41 bits are milliseconds since 2024-01-01T00:00:00Z, 10 bits the node, and 12 bits a
sequence number. Source: docs/spec/wire-shapes.md#g1, #g2, #g4.

    decode_id(333895119839481857).time_ms  # the time inside the id, in milliseconds since 1970
"""

import struct
from collections.abc import Callable
from hashlib import blake2b
from threading import Lock
from typing import Final, Literal

import msgspec

EPOCH_MS: Final = 1704067200000
"""2024-01-01T00:00:00Z in milliseconds since 1970."""
_MAX_NODE: Final = 1023
_DAY_MS: Final = 86_400_000

_COORDINATES: Final = struct.Struct(">IIQI")
_TIME_SHIFT: Final = 22
_NODE_SHIFT: Final = 12
_MAX_SEQUENCE: Final = 4095
_TIME_BITS: Final = 41
_SMALLEST_SNOWFLAKE: Final = 1 << 40
_DERIVED: Final = 1 << 62
"""The bit that's set in ids that we derive. Ids of applications won't reach it before 2058."""
_HASHED: Final = _DERIVED | 1 << 61
_DERIVED_MAX_MS: Final = (1 << 39) - 1
_DOUBLED_SHIFT: Final = 23
_DOUBLED_MASK: Final = 0x7FFC00
_DOUBLED_MARK: Final = 0x040000

SnowflakeLayout = Literal["application", "doubled", "derived"]
"""How an id holds its time. NoETL's database function makes `doubled` ids, which are twice the
application id of that moment."""


class DecodedId(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The parts of an id: `time_ms` since 1970, node, and sequence.

    A derived id has no node and no sequence.
    """

    layout: SnowflakeLayout
    time_ms: int
    node: int | None = None
    sequence: int | None = None


class SnowflakeGenerator:
    """Mints ascending ids for one node, in the layout of NoETL's applications.

    No id repeats, and threads may share a generator. If the ids of a millisecond are used up, or
    the clock is set back, the next id continues from the last one. The database function
    `gen_snowflake()` builds ids in the same way, bit for bit.

        ids = SnowflakeGenerator(node=7, clock_ms=lambda: time.time_ns() // 1_000_000)
        event_id = ids.next_id()
    """

    def __init__(self, node: int, clock_ms: Callable[[], int]) -> None:
        if not 0 <= node <= _MAX_NODE:
            msg = f"node: expected 0 to {_MAX_NODE}, got {node}"
            raise ValueError(msg)
        self._node = node
        self._clock_ms = clock_ms
        self._last = 0  # milliseconds << 12 | sequence
        self._lock = Lock()

    def next_id(self) -> int:
        """Return the next id. Raises OverflowError when the layout has no room left, in 2093."""
        with self._lock:
            tick = max(self._last + 1, (self._clock_ms() - EPOCH_MS) << _NODE_SHIFT)
            ms, sequence = tick >> _NODE_SHIFT, tick & _MAX_SEQUENCE
            if ms >> _TIME_BITS:
                msg = "there are no more ids, because their layout has no room for times after 2093"
                raise OverflowError(msg)
            self._last = tick
        return ms << _TIME_SHIFT | self._node << _NODE_SHIFT | sequence


def decode_id(event_id: int, near_ms: int | None = None) -> DecodedId | None:
    """Return the time inside an id and its other parts, or None if the id has no time (#g2).

    `near_ms` is the time of the record in Kafka. If the id fits two layouts, the one whose time is
    closer to `near_ms` is used. If its time is more than a day after `near_ms`, the id only looks
    like a snowflake, so the result is None too.
    """
    if event_id < _SMALLEST_SNOWFLAKE or event_id & _HASHED == _HASHED:
        return None
    decoded = _read(event_id, near_ms)
    if near_ms is not None and decoded.time_ms > near_ms + _DAY_MS:
        return None
    return decoded


def derive_id(
    topic: str,
    incarnation: int,
    partition: int,
    offset: int,
    index: int,
    recorded_ms: int | None,
    salt: int = 0,
) -> int:
    """Derive an id for the event at these coordinates, whose producer sent none.

    The same coordinates always give the same id, so that an event is recognized when it's read
    again. If an event with other coordinates already has that id, call this again with `salt` 1, 2,
    or 3 (#g4).
    """
    packed = _COORDINATES.pack(
        incarnation & 0xFFFFFFFF,
        partition & 0xFFFFFFFF,
        offset & 0xFFFFFFFFFFFFFFFF,
        index & 0xFFFFFFFF,
    )
    name = topic.encode(errors="surrogatepass")
    digest = _hash(name + b"\0" + packed + (bytes([salt]) if salt else b""))
    if recorded_ms is None:
        return _hashed_id(digest)
    ms = min(max(recorded_ms - EPOCH_MS, 0), _DERIVED_MAX_MS)
    return _DERIVED | ms << _TIME_SHIFT | digest >> (64 - _TIME_SHIFT)


def hash_text_id(text: str) -> int:
    """Hash an opaque execution or secondary id into a number: bit 62 and 62 bits of hash (#i3)."""
    return _DERIVED | _hash(text.encode()) & (_DERIVED - 1)


def hash_event_id(text: str) -> int:
    """Hash an opaque event id into a number: bits 62 and 61, and 61 bits of hash (#g4)."""
    return _hashed_id(_hash(text.encode()))


def _read(event_id: int, near_ms: int | None) -> DecodedId:
    if event_id & _DERIVED:
        time_ms = EPOCH_MS + ((event_id ^ _DERIVED) >> _TIME_SHIFT)
        return DecodedId(layout="derived", time_ms=time_ms)
    application_ms = EPOCH_MS + (event_id >> _TIME_SHIFT)
    doubled_ms = EPOCH_MS + (event_id >> _DOUBLED_SHIFT)
    if event_id & _DOUBLED_MASK == _DOUBLED_MARK and (
        near_ms is None or abs(doubled_ms - near_ms) <= abs(application_ms - near_ms)
    ):
        return DecodedId(
            layout="doubled",
            time_ms=doubled_ms,
            node=event_id >> 10 & 0x1FFF,
            sequence=event_id & 0x3FF,
        )
    return DecodedId(
        layout="application",
        time_ms=application_ms,
        node=event_id >> _NODE_SHIFT & _MAX_NODE,
        sequence=event_id & _MAX_SEQUENCE,
    )


def _hash(text: bytes) -> int:
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")


def _hashed_id(digest: int) -> int:
    return _HASHED | digest & ((1 << 61) - 1)
