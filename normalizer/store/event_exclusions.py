"""Reads which events a transaction must ignore: expired ones, and those of forgotten executions."""

from datetime import datetime
from typing import Final

import asyncpg
import msgspec

from normalizer.core.batch import Batch
from normalizer.envelope import Ignored, Rejected
from normalizer.store.quarantine_writer import RejectedRecord


class EventExclusions(msgspec.Struct, frozen=True, kw_only=True):
    """Events and rejections to ignore, because they're too old or their execution is forgotten.

    - `retention_horizon` is the time before which they're too old, or None if nothing expires.
    - `forgotten` has the ids of the batch's executions that an operator had erased.
    """

    retention_horizon: datetime | None
    forgotten: frozenset[int]


# Assigns the batch's id, and reads the retention horizon and the forgotten executions. Reading a
# table locks it until the transaction ends, although the lock (ACCESS SHARE) keeps nobody from
# writing. A job that raises the horizon or forgets an execution commits that first. It then waits
# until all transactions that hold such a lock have ended, and deletes rows only after that. So no
# batch that has read the old values can bring a deleted row back. A batch runs this after it has
# locked its positions. Otherwise such a job would have to wait for batches that wait for a lock.
_BEGIN_BATCH: Final = """
    select nextval('normalizer.batch_id') as batch_id,
           nullif(expired_before, '-infinity') as expired_before,
           array(
               select execution_id
               from   normalizer.forgotten_executions
               where  execution_id = any((select $1::bigint[])::bigint[])
           ) as forgotten
    from   normalizer.retention_horizon
"""


async def allocate_batch_id_and_exclusions(
    connection: asyncpg.Connection, batch: Batch
) -> tuple[int, EventExclusions]:
    """Return a new batch id, and the events that this transaction must ignore."""
    execution_ids = {
        RejectedRecord(record, one).execution_id if isinstance(one, Rejected) else one.execution_id
        for part in batch.parts
        for record, outcomes in part.items
        for one in outcomes
        if not isinstance(one, Ignored)
    }
    # Leave out ids that don't fit into a bigint. Even one of them would make the database reject
    # this statement, and with it the whole batch. Later the database rejects only the rows that
    # have such an id.
    storable = [one for one in execution_ids if one is not None and -(1 << 63) <= one < 1 << 63]
    batch_id, retention_horizon, forgotten = await connection.fetchrow(_BEGIN_BATCH, storable)
    return batch_id, EventExclusions(
        retention_horizon=retention_horizon, forgotten=frozenset(forgotten)
    )
