"""Moves or retires a position for an operator, and records who did it and why.

The position and its audit entry change in one transaction, which also raises the epoch. So the
partition's owner loses its claim. It then claims the partition again and continues from the new
position. Skipped offsets are written like a batch without records, so that the position's running
totals still add up.
"""

from collections.abc import Sequence
from typing import Final, Literal

import asyncpg
import msgspec

from normalizer.core.batch import Batch, PartitionBatch
from normalizer.core.identity.coordinates import DedupHorizons
from normalizer.errors import PositionMovedError
from normalizer.store.dedup_horizon import lock_and_read_dedup_horizons
from normalizer.store.source_positions import (
    LOCK_POSITIONS_SQL,
    OPERATOR_OWNER_PREFIX,
    PositionMoves,
    move_positions,
    store_gaps,
)
from normalizer.store.store import Store

PositionAction = Literal["skip", "rewind", "retire"]
"""What an operator changes.

- `skip` moves the position forward, past records that nobody is to read.
- `rewind` moves it back, so that records are read again.
- `retire` leaves it, and only clears the owner, because nobody is to read the partition any more.
"""


class PositionChange(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's change of a position, with who and why."""

    action: PositionAction
    who: str
    why: str


# Sets a position back, and counts the offsets as `rewound`. `dedup_offset` stays as it is, so
# records that are read again are looked up by their coordinates, and none of them is stored twice.
_REWIND_POSITION: Final = """
    update normalizer.source_positions
    set    rewound     = rewound + next_offset - $4::bigint,
           next_offset = $4::bigint
    where  (topic, incarnation, partition) = ($1::text, $2::integer, $3::integer)
"""

# Ends the claim of the present owner, and adds the audit entry.
_RECORD_CHANGE: Final = """
    with taken as (
        update    normalizer.source_positions
        set       owner = $9::text, epoch = epoch + 1, holder = null, slice_records = null
        where     (topic, incarnation, partition) = ($1::text, $2::integer, $3::integer)
        returning epoch
    )
    insert into normalizer.position_changes
           (topic, incarnation, partition, from_offset, to_offset, action, who, why, epoch)
    select $1::text, $2::integer, $3::integer, $4::bigint, $5::bigint, $6::text, $7::text,
           $8::text, epoch
    from   taken
    returning epoch
"""


class PositionChangeApplier:
    """The positions for `Store(positions=...)` that apply one change to one partition."""

    def __init__(self, change: PositionChange) -> None:
        self._change = change
        self._from_offset = 0
        self.epoch = 0

    async def lock(
        self, connection: asyncpg.Connection, parts: Sequence[PartitionBatch]
    ) -> DedupHorizons:
        """Lock the position, even while a process owns it.

        Raises PositionMovedError if it isn't where the operator saw it.
        """
        (part,) = parts
        topic, incarnation, partition = part.key
        rows = await connection.fetch(LOCK_POSITIONS_SQL, [topic], [incarnation], [partition])
        stored = rows[0]["next_offset"] if rows else None
        is_there = stored is not None and (
            stored > part.next_offset
            if self._change.action == "rewind"
            else stored == part.from_offset
        )
        if not is_there:
            raise position_moved_error(topic, partition, stored)
        self._from_offset = rows[0]["next_offset"]
        return await lock_and_read_dedup_horizons(connection, rows)

    async def move(self, connection: asyncpg.Connection, moves: PositionMoves) -> None:
        """Move the position forward with its totals, or back, or leave it. Clears the owner."""
        ((part, _),) = moves.parts
        if self._change.action == "skip":
            await store_gaps(connection, [part], "skipped")
            await move_positions(connection, moves.parts)
        elif self._change.action == "rewind":
            await connection.execute(_REWIND_POSITION, *part.key, part.next_offset)
        self.epoch = await connection.fetchval(
            _RECORD_CHANGE,
            *part.key,
            self._from_offset,
            part.next_offset,
            self._change.action,
            self._change.who,
            self._change.why,
            f"{OPERATOR_OWNER_PREFIX}{self._change.who}",
        )


def position_moved_error(topic: str, partition: int, stored: int | None) -> PositionMovedError:
    """Build the error for a partition that doesn't have the expected position."""
    message = (
        f"{topic}[{partition}]: the position is now {stored}, not the expected one, so nothing was "
        "changed. Check it with `normalizer position show`, and run the command again"
    )
    return PositionMovedError(message, topic=topic, partition=partition)


async def change_position(database_url: str, change: PositionChange, part: PartitionBatch) -> int:
    """Apply the change and return the new epoch.

    Raises PositionMovedError, StoreUnavailableError, and FatalError.
    """
    positions = PositionChangeApplier(change)
    async with Store(
        database_url,
        owner=f"{OPERATOR_OWNER_PREFIX}{change.who}",
        application_name="normalizer position",
        positions=positions,
        # A blocked batch keeps its position locked for up to a minute, so wait longer than that.
        session={"lock_timeout": "70s", "statement_timeout": "80s"},
    ) as store:
        await store.write(Batch(parts=(part,)))
    return positions.epoch
