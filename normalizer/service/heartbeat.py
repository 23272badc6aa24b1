"""What this process owns and where its logs end in, the table `source_log` out."""

from collections.abc import Collection, Mapping
from typing import Final

import asyncpg
import msgspec

from normalizer.kafka import Bounds, Partition
from normalizer.store.sqlstate import FOREIGN_ERRORS
from normalizer.store.store import Claim
from normalizer.telemetry import described, get_logger

ANSWER_S: Final = 4.0
"""A host that vanished answers nothing, not even that a statement took too long."""

_log: Final = get_logger()

_SESSION: Final = {
    "application_name": "normalizer heartbeat",
    "statement_timeout": "3s",
    # A heartbeat that a crash of the server takes is followed by the next one.
    "synchronous_commit": "off",
    "search_path": "normalizer, public",
    "TimeZone": "UTC",
}

# Of partitions that are still ours: whoever lost one says nothing of it. The position is read
# without a lock, so a batch that waits is not waited for. A first row that is behind can only say
# since now; later ones since the log was last seen to be read up, or since the mark that the
# position has passed.
_BEAT: Final = """
    with mine as (
        select   owned.*, position.cluster_id, position.next_offset,
                 owned.log_end > position.next_offset as is_behind,
                 clock_timestamp() - make_interval(secs => owned.end_age_s) as end_seen_at
        from     unnest(
                     $1::text[], $2::integer[], $3::integer[], $4::bigint[], $5::integer[],
                     $6::bigint[], $7::bigint[], $8::double precision[], $9::boolean[]
                 ) as owned (
                     topic, partition, generation, epoch, partition_count,
                     log_start, log_end, end_age_s, stopped
                 )
        join     normalizer.source_position as position
                 using (topic, partition, generation, epoch)
        order by owned.topic, owned.partition
    )
    insert into normalizer.source_log as told (
        topic, partition, generation, cluster_id, epoch, partition_count, log_start, log_end,
        next_offset, end_seen_at, behind_since, mark_offset, mark_at, stopped, heartbeat_at
    )
    select topic, partition, generation, cluster_id, epoch, partition_count, log_start, log_end,
           next_offset, end_seen_at, case when is_behind then end_seen_at end,
           case when is_behind then log_end end, case when is_behind then end_seen_at end,
           stopped, clock_timestamp()
    from   mine
    on conflict on constraint source_log_pkey do update
    set    (generation, cluster_id, epoch, partition_count, log_start, log_end, next_offset,
            end_seen_at, stopped, heartbeat_at)
         = (excluded.generation, excluded.cluster_id, excluded.epoch, excluded.partition_count,
            excluded.log_start, excluded.log_end, excluded.next_offset,
            excluded.end_seen_at, excluded.stopped, excluded.heartbeat_at),
           behind_since = case
               when excluded.behind_since is null or told.generation < excluded.generation
               then excluded.behind_since
               when told.behind_since is null then told.end_seen_at
               when told.mark_offset <= excluded.next_offset then told.mark_at
               else told.behind_since
           end,
           (mark_offset, mark_at) = (
               select told.mark_offset, told.mark_at
               where  excluded.mark_offset is not null
               and    told.generation = excluded.generation
               and    told.mark_offset > excluded.next_offset
               union all
               select excluded.mark_offset, excluded.mark_at
               limit  1
           )
    where  (told.generation, told.epoch) <= (excluded.generation, excluded.epoch)
"""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the broker last said of a partition, and how long ago."""

    bounds: Bounds
    partition_count: int
    age_s: float


class Heartbeat:
    """Says that this process lives and where its logs end; on a connection of its own."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._connection: asyncpg.Connection | None = None

    async def beat(
        self,
        claims: Mapping[Partition, Claim],
        seen: Mapping[Partition, Seen],
        stopped: Collection[Partition],
    ) -> None:
        """Tell of the partitions whose claims are still ours; what fails is told the next time."""
        rows = [
            (
                *(*partition, claim.generation, claim.epoch, at.partition_count),
                *(*at.bounds, at.age_s, partition in stopped),
            )
            for partition, claim in sorted(claims.items())
            if (at := seen.get(partition))
        ]
        if not rows:
            return
        try:
            connection = await self._connected()
            await connection.execute(_BEAT, *map(list, zip(*rows, strict=True)))
        except FOREIGN_ERRORS as error:
            _log.debug("no_heartbeat", why=described(error))
            self.close()

    def close(self) -> None:
        """Drop the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(
                self._database_url,
                timeout=ANSWER_S,
                command_timeout=ANSWER_S,
                server_settings=_SESSION,
            )
        return self._connection
