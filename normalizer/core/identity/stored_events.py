"""The interface between reconciling and the database: the rows it reads, and its plan."""

from collections.abc import Sequence, Set as AbstractSet
from typing import Literal, Protocol

import msgspec

from normalizer.core.encoded_events import EnvelopeOrEncoded
from normalizer.core.identity.coordinates import Coordinates
from normalizer.core.identity.digests import Digest
from normalizer.envelope import Envelope

Placement = tuple[Literal["stored", "duplicate", "merged"], int]
"""What becomes of an event, with the id of the row that has it."""


class StoredEvents(Protocol):
    """Reads the stored rows. Only `select_for_update` locks them."""

    async def find_coordinates_of_ids(self, event_ids: Sequence[int]) -> dict[int, Coordinates]:
        """Return the coordinates of those of these ids that are stored. The ids are ascending."""

    async def select_for_update(self, event_ids: Sequence[int]) -> dict[int, Envelope]:
        """Return the complete rows of those of these ids that are stored. The ids are ascending.

        The rows stay locked until the transaction ends.
        """

    async def find_row_ids_at(
        self, coordinates_set: AbstractSet[Coordinates]
    ) -> dict[Coordinates, int]:
        """Return the id of the row in which each of these records is stored or merged.

        Records that aren't stored are missing from the result. An id may differ from the one that
        today's rules give the event.
        """

    async def find_row_ids_merged_into(
        self, coordinates_set: AbstractSet[Coordinates]
    ) -> dict[Coordinates, int]:
        """Return the id of the row that each of these records was merged into."""

    async def digest_as_jsonb(self, values: Sequence[bytes]) -> list[Digest]:
        """Return the length and sha256 of each JSON value's text as jsonb."""

    async def find_assigned_id(self, coordinates: Coordinates) -> int | None:
        """Return the id that was assigned to the event at these coordinates, or None."""

    async def assign_id(self, coordinates: Coordinates) -> int:
        """Return a new id for the event at these coordinates.

        `find_assigned_id` finds it from then on.
        """

    async def let_other_tasks_run(self) -> None:
        """Let other tasks run from time to time. It's called after each compared event."""


class WritePlan(msgspec.Struct, frozen=True, kw_only=True):
    """The rows that a batch inserts and updates, both sorted by event_id.

    - `placements` has the placement of each event of the batch.
    - `merged_records` has the records that were merged into another record's row, each with the id
      of that row.
    - `flagging` has those of `merged_records` that changed nothing in the row but its flag
      REPORTED_ELSEWHERE_FLAG. They count as duplicates.
    - `ambiguous` is the number of stored rows that became ambiguous with this batch, i.e. that may
      contain a report of another event.
    """

    inserts: list[EnvelopeOrEncoded]
    updates: list[Envelope]
    placements: list[Placement]
    merged_records: list[tuple[Coordinates, int]] = []
    flagging: AbstractSet[Coordinates] = frozenset()
    ambiguous: int = 0
