"""Records what an owner is working on, so that the next owner can tell what killed it.

`PreviousOwner` says how the next owner reads these notes. Claims and batches write them too: a
claim writes the columns `holder` and `slice_records` of the position, and a batch `slice_records`.
"""

from typing import Final

import asyncpg

from normalizer.core.previous_owner import SLICE_ALONE
from normalizer.store.claim import Claim

# Releases every position that this process holds, whatever its topic, because no other process has
# the same holder.
_RECORD_IDLE: Final = """
    update normalizer.source_positions
    set    holder = null
    where  holder = $1::text
"""


async def mark_owner_idle(connection: asyncpg.Connection, holder: str) -> None:
    """Record that this holder processes no record of any partition.

    A process does so when it stops, and after a rebalance has ended its claims.
    """
    await connection.execute(_RECORD_IDLE, holder)


_TAKE_ALONE: Final = """
    update normalizer.source_positions
    set    slice_records = $5::integer
    where  (topic, incarnation, partition, epoch)
         = ($1::text, $2::integer, $3::integer, $4::bigint)
"""


async def mark_working_on_one_record(connection: asyncpg.Connection, claim: Claim) -> None:
    """Record that the owner works on the partition's next record, and on nothing else."""
    await connection.execute(
        _TAKE_ALONE,
        claim.topic,
        claim.incarnation,
        claim.partition,
        claim.epoch,
        SLICE_ALONE,
    )
