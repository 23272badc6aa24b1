"""The interface between reconciling and the database: what it reads, and the plan it returns."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Literal, Protocol

import msgspec

from normalizer.core.coordinates import Coordinates
from normalizer.core.digests import Digest
from normalizer.core.encoded_events import Event
from normalizer.envelope import Envelope

Outcome = Literal["stored", "duplicate", "merged"]


class StoredEvents(Protocol):
    """The stored rows; every row that is returned stays locked until the transaction ends."""

    async def find_coordinates(self, event_ids: Sequence[int]) -> dict[int, Coordinates]:
        """The coordinates of those of the ids (ascending) that are stored."""

    async def rows(self, event_ids: Sequence[int]) -> dict[int, Envelope]:
        """The whole rows of those of the ids (ascending) that are stored."""

    async def find_rows_at(
        self, coordinates_set: AbstractSet[Coordinates]
    ) -> dict[Coordinates, int]:
        """The id of the row that each of these records was stored in or merged into.

        Records that are not stored are left out. The rules may give them another id today.
        """

    async def find_merged(
        self, coordinates_set: AbstractSet[Coordinates]
    ) -> dict[Coordinates, int]:
        """The id of the row that each of these records was merged into."""

    async def digests(self, values: Sequence[bytes]) -> list[Digest]:
        """The length and sha256 of each JSON value's jsonb as text."""

    async def find_assigned(self, coordinates: Coordinates) -> int | None:
        """The id that was assigned to the event of these coordinates."""

    async def assign(self, coordinates: Coordinates) -> int:
        """A new id for the event of these coordinates; `find_assigned` finds it from then on."""

    async def pause(self) -> None:
        """Let other tasks run, from time to time; called after each event that is compared."""


class WritePlan(msgspec.Struct, frozen=True, kw_only=True):
    """The rows that a batch inserts and updates, both ascending by event_id.

    `outcomes` is parallel to the batch's events: the outcome of each, and the id of its row.
    `merged_records` are the records whose reports were merged into the row of another record, each
    with the id of that row. `ambiguous` counts the stored rows that since this batch hold a report
    that may be another event's.
    """

    inserts: list[Event]
    updates: list[Envelope]
    outcomes: list[tuple[Outcome, int]]
    merged_records: list[tuple[Coordinates, int]] = []
    ambiguous: int = 0
