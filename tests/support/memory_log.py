"""The log in memory: reconciled as the store reconciles it, and written as it writes."""

from collections.abc import Sequence, Set as AbstractSet
from typing import Final

from normalizer.core.encoded_events import EnvelopeOrEncoded, to_envelope
from normalizer.core.identity.coordinates import Coordinates, source_coordinates
from normalizer.core.identity.digests import Digest
from normalizer.core.identity.reconcile import reconcile
from normalizer.core.identity.stored_events import WritePlan
from normalizer.envelope import Envelope
from tests.support.factories import TOPIC, encoded
from tests.support.merging import python_digests

FIRST_ASSIGNED: Final = 900


class MemoryLog:
    """The stored rows in memory, written like by the store. Remembers the reads."""

    def __init__(self, *rows: Envelope) -> None:
        self.rows_by_id = {row_id(row): row for row in rows}
        self.assigned_ids: dict[Coordinates, int] = {}
        self.reports: dict[Coordinates, int] = {}
        self.locked: list[int] = []
        self.questions = 0

    async def find_coordinates_of_ids(self, event_ids: Sequence[int]) -> dict[int, Coordinates]:
        assert list(event_ids) == sorted(set(event_ids))
        self.questions += 1
        return {
            one: source_coordinates(self.rows_by_id[one])
            for one in event_ids
            if one in self.rows_by_id
        }

    async def select_for_update(self, event_ids: Sequence[int]) -> dict[int, Envelope]:
        assert list(event_ids) == sorted(set(event_ids))
        self.questions += 1
        found = {one: self.rows_by_id[one] for one in event_ids if one in self.rows_by_id}
        self.locked += found
        return found

    async def find_row_ids_at(
        self, coordinates_set: AbstractSet[Coordinates]
    ) -> dict[Coordinates, int]:
        self.questions += 1
        stored = {source_coordinates(row): event_id for event_id, row in self.rows_by_id.items()}
        return {
            coordinates: one
            for coordinates, one in (stored | self.reports).items()
            if coordinates in coordinates_set
        }

    async def find_row_ids_merged_into(
        self, coordinates_set: AbstractSet[Coordinates]
    ) -> dict[Coordinates, int]:
        assert coordinates_set
        self.questions += 1
        return {}  # it writes each batch in one transaction

    async def digest_as_jsonb(self, values: Sequence[bytes]) -> list[Digest]:
        assert len(values) == len(set(values))
        self.questions += 1
        return python_digests(values)

    async def find_assigned_id(self, coordinates: Coordinates) -> int | None:
        return self.assigned_ids.get(coordinates)

    async def assign_id(self, coordinates: Coordinates) -> int:
        assert coordinates not in self.assigned_ids
        self.assigned_ids[coordinates] = FIRST_ASSIGNED + len(self.assigned_ids)
        return self.assigned_ids[coordinates]

    async def let_other_tasks_run(self) -> None:
        """Nobody else runs here."""

    async def take(self, *events: Envelope, dedup_horizon: int = 0) -> list[str]:
        """Reconcile a batch and write it. Returns each event's outcome."""
        write_plan = await reconcile(
            [encoded(event) if event.source_offset % 2 else event for event in events],
            self,
            {(TOPIC, 0, 0): dedup_horizon} if dedup_horizon else {},
        )
        _check(write_plan, events)
        for row in write_plan.inserts:
            assert row_id(row) not in self.rows_by_id, "the database would refuse it"
            self.rows_by_id[row_id(row)] = to_envelope(row)
        for row in write_plan.updates:
            assert row_id(row) in self.locked, "changed without a lock"
            self.rows_by_id[row_id(row)] = row
        self.reports |= dict(write_plan.merged_records)
        return [placed for placed, _ in write_plan.placements]

    @property
    def rows_stored(self) -> int:
        return len(self.rows_by_id)


def _check(write_plan: WritePlan, events: Sequence[Envelope]) -> None:
    """Check what holds for every plan."""
    for rows in (write_plan.inserts, write_plan.updates):
        ids = [row_id(row) for row in rows]
        assert ids == sorted(set(ids))
    assert len(write_plan.placements) == len(events)
    assert [placed for placed, _ in write_plan.placements].count("stored") == len(
        write_plan.inserts
    )


def row_id(row: EnvelopeOrEncoded) -> int:
    assert row.event_id is not None
    return row.event_id
