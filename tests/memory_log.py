"""The log in memory: settled as the store settles it, and written as it writes."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from normalizer.core.digests import Digest
from normalizer.core.settle import Place, Settled, place_of, settle
from normalizer.envelope import Envelope
from tests.factories import TOPIC
from tests.joining import digests_of

FIRST_ASSIGNED: Final = 900


class MemoryLog:
    """The stored rows in memory, written as the store writes them; remembers what was asked."""

    def __init__(self, *rows: Envelope) -> None:
        self.rows_by_id = {id_of(row): row for row in rows}
        self.assigned_ids: dict[Place, int] = {}
        self.tellings: dict[Place, int] = {}
        self.locked: list[int] = []
        self.questions = 0

    async def places(self, event_ids: Sequence[int]) -> dict[int, Place]:
        assert list(event_ids) == sorted(set(event_ids))
        self.questions += 1
        return {one: place_of(self.rows_by_id[one]) for one in event_ids if one in self.rows_by_id}

    async def rows(self, event_ids: Sequence[int]) -> dict[int, Envelope]:
        assert list(event_ids) == sorted(set(event_ids))
        self.questions += 1
        found = {one: self.rows_by_id[one] for one in event_ids if one in self.rows_by_id}
        self.locked += found
        return found

    async def at(self, places: AbstractSet[Place]) -> dict[Place, int]:
        self.questions += 1
        stored = {place_of(row): event_id for event_id, row in self.rows_by_id.items()}
        return {place: one for place, one in (stored | self.tellings).items() if place in places}

    async def digests(self, values: Sequence[bytes]) -> list[Digest]:
        assert len(values) == len(set(values))
        self.questions += 1
        return digests_of(values)

    async def assigned(self, place: Place) -> int | None:
        return self.assigned_ids.get(place)

    async def assign(self, place: Place) -> int:
        assert place not in self.assigned_ids
        self.assigned_ids[place] = FIRST_ASSIGNED + len(self.assigned_ids)
        return self.assigned_ids[place]

    async def take(self, *events: Envelope, reached: int = 0) -> list[str]:
        """Settle a batch and write it; gives each event's fate."""
        settled = await settle(events, self, {(TOPIC, 0, 0): reached} if reached else {})
        _check(settled, events)
        for row in settled.new:
            assert id_of(row) not in self.rows_by_id, "the database would refuse it"
            self.rows_by_id[id_of(row)] = row
        for row in settled.changed:
            assert id_of(row) in self.locked, "changed without a lock"
            self.rows_by_id[id_of(row)] = row
        self.tellings |= dict(settled.tellings)
        return [fate for fate, _ in settled.fates]

    @property
    def rows_stored(self) -> int:
        return len(self.rows_by_id)


def _check(settled: Settled, events: Sequence[Envelope]) -> None:
    """What every settled batch promises."""
    for rows in (settled.new, settled.changed):
        ids = [id_of(row) for row in rows]
        assert ids == sorted(set(ids))
    assert len(settled.fates) == len(events)
    assert [fate for fate, _ in settled.fates].count("stored") == len(settled.new)


def id_of(row: Envelope) -> int:
    assert row.event_id is not None
    return row.event_id
