"""A batch's events in; rows to insert, rows to change and each event's outcome out.

Decides identity: the same record read again, one event told more than once, or two events with
one id. Knows nothing of SQL: it asks a `Stored` for the rows it must compare with.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Literal, Protocol

import msgspec

from normalizer.envelope import Envelope
from normalizer.join import conflict_id as conflict_id_of
from normalizer.join import join, rekeyed, same_event
from normalizer.snowflake import derive_id

Place = tuple[str | None, int, int, int, int]
"""Coordinates of an event: topic, generation, partition, offset, index in the record."""

Fate = Literal["stored", "duplicate", "joined"]

DERIVED_REGION = 1 << 62
_SALTS = range(4)


class Stored(Protocol):
    """What the database knows; every row it hands out is locked until the transaction ends."""

    async def places(self, event_ids: Sequence[int]) -> dict[int, Place]:
        """The coordinates of those of the ids (ascending) that are stored."""

    async def rows(self, event_ids: Sequence[int]) -> dict[int, Envelope]:
        """The whole rows of those of the ids (ascending) that are stored."""

    async def assigned(self, place: Place) -> int | None:
        """The id that was assigned to the event of these coordinates."""

    async def assign(self, place: Place) -> int:
        """A new id for the event of these coordinates, remembered under them."""


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """What the batch does to the log; rows ascend by event_id.

    `fates` is parallel to the events that were given: each one's outcome and its row's id.
    """

    new: list[Envelope]
    changed: list[Envelope]
    fates: list[tuple[Fate, int]]


def place_of(event: Envelope) -> Place:
    """The coordinates that name the event for ever."""
    return (
        event.source_topic,
        event.source_generation,
        event.source_partition,
        event.source_offset,
        event.source_index,
    )


async def settle(events: Sequence[Envelope], stored: Stored) -> Settled:
    """Give each event its row: a new one, one to join, or none. Rows come ascending by event_id."""
    wanted = Counter(_id_of(event) for event in events)
    known = await stored.places(sorted(wanted))
    if not known and len(wanted) == len(events):
        return Settled(
            new=sorted(events, key=_id_of),
            changed=[],
            fates=[("stored", _id_of(event)) for event in events],
        )
    return await _Settling(stored, known, wanted.keys() - known.keys()).settle(events)


class _Settling:
    """The state while one batch is settled: rows of the database, and of the batch so far."""

    def __init__(self, stored: Stored, known: dict[int, Place], free: Collection[int]) -> None:
        self._stored = stored
        self._known = known
        self._rows: dict[int, Envelope | None] = dict.fromkeys(free)
        self._new: set[int] = set()
        self._changed: set[int] = set()

    async def settle(self, events: Sequence[Envelope]) -> Settled:
        await self._load_tellings(events)
        fates: list[tuple[Fate, int]] = []
        for event in events:
            event_id = _id_of(event)
            if self._is_free(event_id):
                fates.append(self._add(event))
            else:
                fates.append(await self._place(event))
        return Settled(
            new=self._sorted(self._new), changed=self._sorted(self._changed), fates=fates
        )

    async def _load_tellings(self, events: Sequence[Envelope]) -> None:
        """Lock, in one order, every stored row that another record of this batch speaks of."""
        told = {
            event_id
            for event in events
            if (event_id := _id_of(event)) in self._known
            and self._known[event_id] != place_of(event)
        }
        self._rows |= dict(await self._stored.rows(sorted(told)))

    async def _place(self, event: Envelope) -> tuple[Fate, int]:
        derived = _is_derived(event)
        for candidate in _candidates(event, derived=derived):
            event_id = _id_of(candidate)
            if self._known.get(event_id) == place_of(event):
                return "duplicate", event_id
            row = await self._row(event_id)
            if row is None:
                return self._add(candidate)
            if place_of(row) == place_of(event):
                return "duplicate", event_id
            if same_event(row, event) and not (derived and _is_derived(row)):
                return self._join(row, candidate)
        return await self._assign(event, derived=derived)

    async def _assign(self, event: Envelope, *, derived: bool) -> tuple[Fate, int]:
        """Every id that could be derived is taken: the database gives one, and remembers it."""
        assigned = await self._stored.assigned(place_of(event))
        if assigned is not None:
            return "duplicate", assigned
        event_id = await self._stored.assign(place_of(event))
        if derived:
            return self._add(msgspec.structs.replace(event, event_id=event_id))
        return self._add(rekeyed(event, event_id))

    def _is_free(self, event_id: int) -> bool:
        """Whether neither the database nor the batch so far has a row of this id."""
        return event_id in self._rows and self._rows[event_id] is None

    async def _row(self, event_id: int) -> Envelope | None:
        """The row of this id; asked for only where the look-up of the batch did not tell."""
        if event_id not in self._rows:
            self._rows[event_id] = (await self._stored.rows([event_id])).get(event_id)
        return self._rows[event_id]

    def _add(self, event: Envelope) -> tuple[Fate, int]:
        event_id = _id_of(event)
        self._rows[event_id] = event
        self._new.add(event_id)
        return "stored", event_id

    def _join(self, row: Envelope, telling: Envelope) -> tuple[Fate, int]:
        joined = join(row, telling)
        event_id = _id_of(row)
        if joined is row:
            return "duplicate", event_id
        self._rows[event_id] = joined
        if event_id not in self._new:
            self._changed.add(event_id)
        return "joined", event_id

    def _sorted(self, event_ids: Collection[int]) -> list[Envelope]:
        rows = (self._rows[event_id] for event_id in sorted(event_ids))
        return [row for row in rows if row is not None]


def _id_of(event: Envelope) -> int:
    if event.event_id is None:
        message = f"an event without an id has no row: {event.source_topic}@{event.source_offset}"
        raise ValueError(message)
    return event.event_id


def _candidates(event: Envelope, *, derived: bool) -> Iterator[Envelope]:
    """The event under each id it may be stored under, in order."""
    yield event
    if derived:
        for salt in _SALTS[1:]:
            yield msgspec.structs.replace(event, event_id=_derived_id(event, salt))
    else:
        for salt in _SALTS:
            yield rekeyed(event, conflict_id_of(event, salt))


def _is_derived(event: Envelope) -> bool:
    """Whether the event's id was made from its own coordinates: then it brought none."""
    return _id_of(event) >= DERIVED_REGION and any(
        _derived_id(event, salt) == event.event_id for salt in _SALTS
    )


def _derived_id(event: Envelope, salt: int) -> int:
    recorded = event.recorded_at
    return derive_id(
        event.source_topic or "",
        event.source_generation,
        event.source_partition,
        event.source_offset,
        event.source_index,
        None if recorded is None else round(recorded.timestamp() * 1000),
        salt,
    )
