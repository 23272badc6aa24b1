"""A batch's events in; rows to insert, rows to change and each event's outcome out.

Decides identity: the same record read again, one event told more than once, or two events with
one id. Knows nothing of SQL: it asks a `StoredEvents` for the rows it must compare with.
Source: docs/spec/wire-shapes.md#m1, #m2, #m3, #g5.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from types import MappingProxyType
from typing import Final, Literal, Protocol

import msgspec

from normalizer.core.collisions import (
    HASHED_REGION,
    is_same_class,
    match_strength,
    sibling_ids,
    with_event_id,
)
from normalizer.core.digests import Digest, Digests
from normalizer.core.merge import merge, request_digests
from normalizer.core.merge_flags import HAS_RIVAL, SHARES_ID, is_ambiguous, with_flags
from normalizer.envelope import Envelope
from normalizer.snowflake import derive_id

Coordinates = tuple[str | None, int, int, int, int]
"""Coordinates of an event: topic, incarnation, partition, offset, index in the record."""

SourceKey = tuple[str | None, int, int]
"""Topic, incarnation and partition of a record."""

DedupHorizon = Mapping[SourceKey, int]
"""Below which offset somebody may have written records of a source before; others are new."""

NO_DEDUP_HORIZON: Final[DedupHorizon] = MappingProxyType({})
DEDUP_ALWAYS: Final = 1 << 62
"""Below this lies every offset: of a source that others may write at this moment."""

Outcome = Literal["stored", "duplicate", "merged"]

DERIVED_REGION = 1 << 62
_SALTS = range(4)
_BY_COMMAND = 3


class StoredEvents(Protocol):
    """What the database knows; every row it hands out is locked until the transaction ends."""

    async def find_coordinates(self, event_ids: Sequence[int]) -> dict[int, Coordinates]:
        """The coordinates of those of the ids (ascending) that are stored."""

    async def rows(self, event_ids: Sequence[int]) -> dict[int, Envelope]:
        """The whole rows of those of the ids (ascending) that are stored."""

    async def find_rows_at(
        self, coordinates_set: AbstractSet[Coordinates]
    ) -> dict[Coordinates, int]:
        """The row that each of these records went to before, whatever id that has today."""

    async def digests(self, values: Sequence[bytes]) -> list[Digest]:
        """The length and sha256 of each JSON value's jsonb as text."""

    async def find_assigned(self, coordinates: Coordinates) -> int | None:
        """The id that was assigned to the event of these coordinates."""

    async def assign(self, coordinates: Coordinates) -> int:
        """A new id for the event of these coordinates, remembered under them."""


class WritePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What the batch does to the log; rows ascend by event_id.

    `outcomes` is parallel to the events that were given: each one's outcome and its row's id.
    `tellings` are the records that went to a row of other coordinates, and its id; `ambiguous` is
    how many stored rows hold from now on a report that may be another event's.
    """

    inserts: list[Envelope]
    updates: list[Envelope]
    outcomes: list[tuple[Outcome, int]]
    merged_records: list[tuple[Coordinates, int]] = []
    ambiguous: int = 0


def coordinates_of(event: Envelope) -> Coordinates:
    """The coordinates that name the event for ever."""
    return (
        event.source_topic,
        event.source_incarnation,
        event.source_partition,
        event.source_offset,
        event.source_index,
    )


def source_key(event: Envelope) -> SourceKey:
    """The partition that the event's record came from."""
    return (event.source_topic, event.source_incarnation, event.source_partition)


async def reconcile(
    events: Sequence[Envelope], stored: StoredEvents, dedup_horizon: DedupHorizon = NO_DEDUP_HORIZON
) -> WritePlan:
    """Give each event its row: a new one, one to join, or none. Rows come ascending by event_id.

    The same coordinates are the same record, whatever id today's rules give it: below what was
    reached, a record that its id does not find is looked for by its coordinates.
    """
    ids = [_id_of(event) for event in events]
    id_counts = Counter(ids)
    known = await stored.find_coordinates(sorted(id_counts))
    again = {*known, *(event_id for event_id, times in id_counts.items() if times > 1)}
    doubtful = (
        [
            number
            for number, event_id in enumerate(ids)
            if event_id in again or (dedup_horizon and _is_below(events[number], dedup_horizon))
        ]
        if again or dedup_horizon
        else []
    )
    if not doubtful:
        rows = dict(zip(ids, events, strict=True))
        return WritePlan(
            inserts=[rows[event_id] for event_id in sorted(rows)],
            updates=[],
            outcomes=[("stored", event_id) for event_id in ids],
        )
    return await _Reconciler(stored, known, dedup_horizon).reconcile(events, ids, doubtful)


class _Reconciler:
    """The state while one batch is settled: rows of the database, and of the batch so far."""

    def __init__(
        self, stored: StoredEvents, known: dict[int, Coordinates], dedup_horizon: DedupHorizon
    ) -> None:
        self._stored = stored
        self._known = known
        self._dedup_horizon = dedup_horizon
        self._resolved: dict[Coordinates, int] = {}
        self._rows: dict[int, Envelope | None] = {}
        self._new: set[int] = set()
        self._changed: set[int] = set()
        self._merged_records: list[tuple[Coordinates, int]] = []
        self._digests = Digests()
        self._ambiguous = 0

    async def reconcile(
        self, events: Sequence[Envelope], ids: Sequence[int], doubtful: Sequence[int]
    ) -> WritePlan:
        """Settle the doubtful ones (by their number) one by one; the others are new as they are.

        `ids` are those of the events.
        """
        self._rows = dict(zip(ids, events, strict=True))
        outcomes: list[tuple[Outcome, int]] = [("stored", event_id) for event_id in ids]
        for number in doubtful:
            self._rows.pop(ids[number], None)
        self._new = set(self._rows)
        self._rows |= {ids[number]: None for number in doubtful if ids[number] not in self._known}
        doubtful_events = [events[number] for number in doubtful]
        await self._load_rows(doubtful_events)
        for number, event in zip(doubtful, doubtful_events, strict=True):
            outcomes[number] = await self._reconcile(event)
        return WritePlan(
            inserts=self._sorted(self._new),
            updates=self._sorted(self._changed),
            outcomes=outcomes,
            merged_records=self._merged_records,
            ambiguous=self._ambiguous,
        )

    async def _load_rows(self, events: Sequence[Envelope]) -> None:
        """Where these records went before; every row they tell of again is locked, in one order."""
        unknown = [event for event in events if not self._is_stored(event)]
        if self._dedup_horizon:
            below = {
                coordinates_of(event) for event in unknown if _is_below(event, self._dedup_horizon)
            }
            self._resolved = await self._stored.find_rows_at(below) if below else {}
        again = [event for event in unknown if coordinates_of(event) not in self._resolved]
        id_counts = {event_id for event in again if (event_id := _id_of(event)) in self._known}
        await self._lock({event_id for event_id in id_counts if event_id < HASHED_REGION})
        rows = self._current_rows(again)
        siblings = {
            one
            for event, row in zip(again, rows, strict=True)
            if _may_have_siblings(row, event) and not _is_derived(event)
            for one in sibling_ids(_id_of(event), event.execution_id)
        }
        await self._lock(
            {event_id for event_id in id_counts if event_id >= HASHED_REGION}
            | (siblings - self._rows.keys())
        )
        for event, row in zip(again, self._current_rows(again), strict=True):
            if row is not event and match_strength(row, event):
                request_digests(row, event, self._digests)
        await self._load_digests()

    async def _lock(self, event_ids: Collection[int]) -> None:
        if event_ids:
            found = await self._stored.rows(sorted(event_ids))
            self._rows |= {event_id: found.get(event_id) for event_id in event_ids}

    def _current_rows(self, events: Sequence[Envelope]) -> list[Envelope]:
        """The row that each event's id leads to: stored, or else the first of them with this id."""
        first: dict[int, Envelope] = {}
        return [
            self._rows.get(_id_of(event)) or first.setdefault(_id_of(event), event)
            for event in events
        ]

    async def _load_digests(self) -> bool:
        """Ask for the digests that joining missed; whether it missed any."""
        missing = self._digests.missing()
        if missing:
            self._digests.learn(missing, await self._stored.digests(missing))
        return bool(missing)

    async def _reconcile(self, event: Envelope) -> tuple[Outcome, int]:
        if self._is_stored(event):
            return "duplicate", _id_of(event)
        row = self._resolved.get(coordinates_of(event))
        if row is not None:
            return "duplicate", row
        outcome = self._add(event) if self._is_unused(_id_of(event)) else await self._resolve(event)
        self._resolved[coordinates_of(event)] = outcome[1]
        return outcome

    def _is_stored(self, event: Envelope) -> bool:
        """Whether the row of the event's id is the one that this very record made."""
        return self._known.get(_id_of(event)) == coordinates_of(event)

    async def _resolve(self, event: Envelope) -> tuple[Outcome, int]:
        """The row of an event whose id is taken: that of the event it tells of, or one of its own.

        An event that brought no id is sought under its own alone.
        """
        if _is_derived(event):
            return await self._resolve_by_coordinates(event)
        holder = self._rows[_id_of(event)]
        assert holder is not None
        ids = [_id_of(event)]
        if _may_have_siblings(holder, event):
            ids += sibling_ids(_id_of(event), event.execution_id)
            await self._lock({*ids} - self._rows.keys())
        rows = [row for one in ids if (row := self._rows[one]) is not None]
        for row in rows:
            if coordinates_of(row) == coordinates_of(event):
                return "duplicate", _id_of(row)
        best = max(rows, key=lambda row: match_strength(row, event))
        if best is holder and match_strength(best, event):
            return await self._merge(holder, event)
        self._flag(holder, SHARES_ID)
        if match_strength(best, event):
            return await self._merge(best, with_event_id(event, _id_of(best)))
        rivals = [row for row in rows if _are_rivals(row, event)]
        for row in rivals:
            self._flag(row, HAS_RIVAL)
        event = with_flags(event, HAS_RIVAL if rivals else 0)
        free = next((one for one in ids if self._rows[one] is None), None)
        if free is None:
            return await self._resolve_by_coordinates(event)
        return self._add(with_event_id(event, free))

    async def _resolve_by_coordinates(self, event: Envelope) -> tuple[Outcome, int]:
        """The row under an id made from the event's coordinates, if need be with a salt.

        Nothing else can name an event without an id, or one of too many that share theirs.
        """
        derived = _is_derived(event)
        for salt in _SALTS:
            event_id = _derived_id(event, salt)
            row = await self._row(event_id)
            if row is None:
                return self._add(self._with_id(event, event_id, derived=derived))
            if coordinates_of(row) == coordinates_of(event):
                return "duplicate", event_id
            if derived and match_strength(row, event) and not _is_derived(row):
                return await self._merge(row, event)
        return await self._assign(event, derived=derived)

    async def _assign(self, event: Envelope, *, derived: bool) -> tuple[Outcome, int]:
        """Every id that could be derived is taken: the database gives one, and remembers it."""
        event_id = await self._stored.find_assigned(coordinates_of(event))
        if event_id is not None and await self._row(event_id):
            return "duplicate", event_id
        if event_id is None:
            event_id = await self._stored.assign(coordinates_of(event))
        return self._add(self._with_id(event, event_id, derived=derived))

    @staticmethod
    def _with_id(event: Envelope, event_id: int, *, derived: bool) -> Envelope:
        """The event under this id; it says so if it brought one."""
        if derived:
            return msgspec.structs.replace(event, event_id=event_id)
        return with_event_id(event, event_id)

    def _flag(self, row: Envelope, flags: int) -> None:
        """Set flags of a row, as it is by now."""
        now = self._rows[_id_of(row)] or row
        self._change(now, with_flags(now, flags))

    def _is_unused(self, event_id: int) -> bool:
        """Whether neither the database nor the batch so far has a row of this id."""
        return event_id in self._rows and self._rows[event_id] is None

    async def _row(self, event_id: int) -> Envelope | None:
        """The row of this id; asked for only where the look-up of the batch did not tell."""
        if event_id not in self._rows:
            self._rows[event_id] = (await self._stored.rows([event_id])).get(event_id)
        return self._rows[event_id]

    def _add(self, event: Envelope) -> tuple[Outcome, int]:
        event_id = _id_of(event)
        self._rows[event_id] = event
        self._new.add(event_id)
        return "stored", event_id

    async def _merge(self, row: Envelope, report: Envelope) -> tuple[Outcome, int]:
        merged = merge(row, report, self._digests)
        while await self._load_digests():
            merged = merge(row, report, self._digests)
        self._merged_records.append((coordinates_of(report), _id_of(row)))
        self._change(row, merged)
        return "duplicate" if merged is row else "merged", _id_of(row)

    def _change(self, row: Envelope, changed: Envelope) -> None:
        """Put the changed row in the place of the row."""
        if changed is row:
            return
        event_id = _id_of(row)
        self._rows[event_id] = changed
        if event_id not in self._new:
            self._changed.add(event_id)
            self._ambiguous += is_ambiguous(changed) and not is_ambiguous(row)

    def _sorted(self, event_ids: Collection[int]) -> list[Envelope]:
        rows = self._rows
        return [row for event_id in sorted(event_ids) if (row := rows[event_id]) is not None]


def _is_below(event: Envelope, dedup_horizon: DedupHorizon) -> bool:
    return event.source_offset < dedup_horizon.get(source_key(event), 0)


def _id_of(event: Envelope) -> int:
    if event.event_id is None:
        message = f"an event without an id has no row: {event.source_topic}@{event.source_offset}"
        raise ValueError(message)
    return event.event_id


def _may_have_siblings(holder: Envelope, event: Envelope) -> bool:
    """Whether the event may have a row beside that of its id's holder, or needs one."""
    alike = match_strength(holder, event)
    return alike == 0 or (alike < _BY_COMMAND and holder.merge_flags & SHARES_ID != 0)


def _are_rivals(row: Envelope, event: Envelope) -> bool:
    """Whether a report that says less could be of either."""
    return row.execution_id == event.execution_id and is_same_class(row, event)


def _is_derived(event: Envelope) -> bool:
    """Whether the event's id was made from its own coordinates: then it brought none."""
    return _id_of(event) >= DERIVED_REGION and any(
        _derived_id(event, salt) == event.event_id for salt in _SALTS
    )


def _derived_id(event: Envelope, salt: int) -> int:
    recorded = event.recorded_at
    return derive_id(
        event.source_topic or "",
        event.source_incarnation,
        event.source_partition,
        event.source_offset,
        event.source_index,
        None if recorded is None else round(recorded.timestamp() * 1000),
        salt,
    )
