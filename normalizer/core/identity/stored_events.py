"""The interface between reconciling and the database: the rows it reads, and its plan."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Literal, Protocol

import msgspec

from normalizer.core.encoded_events import Event
from normalizer.core.identity.coordinates import Coordinates
from normalizer.core.identity.digests import Digest
from normalizer.envelope import Envelope

Outcome = Literal["stored", "duplicate", "merged"]


class StoredEvents(Protocol):
    """The stored rows. Every returned row stays locked until the transaction ends."""

    async def find_coordinates(self, event_ids: Sequence[int]) -> dict[int, Coordinates]:
        """Return the coordinates of these (ascending) ids that are stored."""

    async def rows(self, event_ids: Sequence[int]) -> dict[int, Envelope]:
        """Return the complete rows of these (ascending) ids that are stored."""

    async def find_rows_at(
        self, coordinates_set: AbstractSet[Coordinates]
    ) -> dict[Coordinates, int]:
        """Return the id of the row that each of these records was stored in or merged into.

        Records that aren't stored are left out. The rules may give them another id today.
        """

    async def find_merged(
        self, coordinates_set: AbstractSet[Coordinates]
    ) -> dict[Coordinates, int]:
        """Return the id of the row that each of these records was merged into."""

    async def digests(self, values: Sequence[bytes]) -> list[Digest]:
        """Return the length and sha256 of each JSON value's jsonb as text."""

    async def find_assigned(self, coordinates: Coordinates) -> int | None:
        """Return the id that was assigned to the event at these coordinates."""

    async def assign(self, coordinates: Coordinates) -> int:
        """Return a new id for the event at these coordinates.

        `find_assigned` finds it from then on.
        """

    async def pause(self) -> None:
        """Let other tasks run from time to time. Called after each compared event."""


class WritePlan(msgspec.Struct, frozen=True, kw_only=True):
    """The rows that a batch inserts and updates, both ascending by event_id.

    `outcomes` is parallel to the batch's events and holds each event's outcome and row id.
    `merged_records` holds the records whose reports were merged into another record's row, each
    with the id of that row. `flagging` holds those of them that only set ELSEWHERE, which are
    duplicates. `ambiguous` counts the stored rows that became ambiguous in this batch.
    """

    inserts: list[Event]
    updates: list[Envelope]
    outcomes: list[tuple[Outcome, int]]
    merged_records: list[tuple[Coordinates, int]] = []
    flagging: AbstractSet[Coordinates] = frozenset()
    ambiguous: int = 0
