"""Locks dedup horizons, so that writers of the same records see each other's rows.

The dedup horizon of a partition is the offset below which any process or job may have written
records before. The write transaction looks up records below it by their coordinates. Records from
it on are new, and need no lookup.

The horizon of a partition that the service reads is the column `source_positions.dedup_offset`. A
job raises it before it writes records beyond it (`jobs/engine/job_positions.py`). The
table `dedup_horizon` says how far jobs, and positions that an operator deleted, got in a partition.
A new position takes its horizon from there.
"""

from collections.abc import Sequence
from typing import Final

import asyncpg

from normalizer.core.identity.coordinates import NO_DEDUP_HORIZONS, DedupHorizons

# Adds a row for each partition that has none, only so that there's a row to lock. The first claim
# of a partition and a job that writes the partition's records both lock this row, so one of them
# has to wait for the other. The parameters are a list of topics, of incarnations, and of
# partitions, and the id of their cluster.
ADD_MISSING_DEDUP_HORIZONS_SQL: Final = """
    insert into normalizer.dedup_horizon (topic, incarnation, partition, next_offset, cluster_id)
    select   topic, incarnation, partition, 0, $4::text
    from     unnest($1::text[], $2::integer[], $3::integer[])
                 as wanted (topic, incarnation, partition)
    order by topic, incarnation, partition
    on conflict on constraint dedup_horizon_pkey do nothing
"""

# Locks these rows in the order of their keys, until the transaction ends. A transaction that also
# locks positions locks those first.
LOCK_DEDUP_HORIZON_SQL: Final = """
    select   horizon.topic, horizon.incarnation, horizon.partition, horizon.next_offset
    from     normalizer.dedup_horizon as horizon
    join     unnest($1::text[], $2::integer[], $3::integer[])
                 as wanted (topic, incarnation, partition)
             using (topic, incarnation, partition)
    order by horizon.topic, horizon.incarnation, horizon.partition
    for update of horizon
"""


async def lock_and_read_dedup_horizons(
    connection: asyncpg.Connection, rows: Sequence[asyncpg.Record]
) -> DedupHorizons:
    """Return the dedup horizon of each position that hasn't reached it yet.

    `rows` are rows of LOCK_POSITIONS_SQL. A job may be writing records below a horizon at this
    moment, so this also locks the rows of these partitions in the table `dedup_horizon`, and so
    does the job. If both write the same records, the second one to get the lock then sees the rows
    of the first. A position beyond its horizon is left out and locks nothing more, which is the
    normal case.
    """
    dedup_horizons = {
        (row["topic"], row["incarnation"], row["partition"]): row["dedup_offset"]
        for row in rows
        if row["next_offset"] < row["dedup_offset"]
    }
    if not dedup_horizons:
        return NO_DEDUP_HORIZONS
    await connection.fetch(LOCK_DEDUP_HORIZON_SQL, *map(list, zip(*dedup_horizons, strict=True)))
    return dedup_horizons
