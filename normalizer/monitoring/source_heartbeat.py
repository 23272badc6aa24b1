"""Writes this process's partitions, and where their logs end, to the table `source_heartbeats`.

The views and the API read this table to show lag and dead processes without a connection to Kafka.
The heartbeat is written every three seconds, on a separate database connection.
"""

import asyncio
from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from normalizer.kafka import KafkaPartition
from normalizer.runtime.logging_setup import describe_error_without_secrets, get_logger
from normalizer.store.claim import Claim
from normalizer.store.reconnecting_connection import ReconnectingConnection
from normalizer.store.sqlstate import STATEMENT_ERRORS

HEARTBEAT_WRITE_TIMEOUT_S: Final = 4.0
"""If the server's machine is gone, no error comes from it, so the client needs a timeout of its
own."""

_log: Final = get_logger()

_SESSION: Final = {
    "statement_timeout": "3s",
    # If a server crash loses this heartbeat, the next one replaces it.
    "synchronous_commit": "off",
    "search_path": "normalizer, public",
}

# Writes a row for each partition that this process still owns. If it has lost a partition, the new
# owner reports that one. The position is read without a lock, so a heartbeat never waits for a
# batch.
#
# `behind_since` is the time since when the partition has had unread records. A broker reports only
# where a log ends now, so the time is an estimate that never comes too late. When unread records
# first appear, they're newer than the end that the previous heartbeat saw, so `behind_since` is the
# time at which that end was seen. The heartbeat also stores a mark, which is the present end of the
# log and its time. Once the position has passed the mark, every unread record is newer than the
# mark. Then `behind_since` becomes the mark's time, and the present end becomes the next mark. The
# mark of a stopped partition doesn't change, because the broker may be reporting the end of another
# log.
_HEARTBEAT: Final = """
    with mine as (
        select   owned.*, position.next_offset,
                 owned.stopped or owned.log_end > position.next_offset as is_behind,
                 clock_timestamp() - make_interval(secs => owned.end_age_s) as end_seen_at
        from     unnest(
                     $1::text[], $2::integer[], $3::integer[], $4::bigint[], $5::integer[],
                     $6::bigint[], $7::double precision[], $8::boolean[]
                 ) as owned (
                     topic, partition, incarnation, epoch, partition_count, log_end, end_age_s,
                     stopped
                 )
        join     normalizer.source_positions as position
                 using (topic, partition, incarnation, epoch)
        order by owned.topic, owned.partition
    )
    insert into normalizer.source_heartbeats as reported (
        topic, partition, incarnation, epoch, partition_count, log_end, next_offset, end_seen_at,
        behind_since, mark_offset, mark_at, stopped, heartbeat_at
    )
    select topic, partition, incarnation, epoch, partition_count, log_end, next_offset, end_seen_at,
           case when is_behind then end_seen_at end,
           case when is_behind and not stopped then log_end end,
           case when is_behind then end_seen_at end,
           stopped, clock_timestamp()
    from   mine
    on conflict on constraint source_heartbeats_pkey do update
    set    (incarnation, epoch, partition_count, log_end, next_offset, end_seen_at, stopped,
            heartbeat_at)
         = (excluded.incarnation, excluded.epoch, excluded.partition_count, excluded.log_end,
            excluded.next_offset, excluded.end_seen_at, excluded.stopped, excluded.heartbeat_at),
           behind_since = case
               when excluded.behind_since is null or reported.incarnation < excluded.incarnation
               then excluded.behind_since
               when reported.behind_since is null
               then coalesce(reported.end_seen_at, excluded.behind_since)
               when reported.mark_offset <= excluded.next_offset then reported.mark_at
               else reported.behind_since
           end,
           (mark_offset, mark_at) = (
               select reported.mark_offset, reported.mark_at
               where  reported.incarnation = excluded.incarnation
               and    excluded.behind_since is not null
               and    (excluded.stopped or reported.mark_offset > excluded.next_offset)
               union all
               select excluded.mark_offset, excluded.mark_at
               limit  1
           )
    where  (reported.incarnation, reported.epoch) <= (excluded.incarnation, excluded.epoch)
"""

# Marks partitions as stopped if this process can't claim them, for example because it's connected
# to the wrong cluster. It has no heartbeat of its own for these partitions, so it updates the
# heartbeat of the last owner. It does so only if that owner has stopped too, or has been silent
# long enough to count as dead. If the owner comes back, its next heartbeat overwrites the update.
_STOPPED_WITHOUT_CLAIM: Final = """
    update normalizer.source_heartbeats as reported
    set    stopped = true,
           behind_since = coalesce(reported.behind_since, reported.end_seen_at),
           heartbeat_at = clock_timestamp()
    from   unnest($1::text[], $2::integer[]) as stopped (topic, partition)
    where  (reported.topic, reported.partition) = (stopped.topic, stopped.partition)
    and    (reported.stopped or reported.heartbeat_at < now() - interval '10 seconds')
"""


class ObservedLogEnd(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a partition's log as the broker last reported it, and how long ago that was."""

    log_end: int
    partition_count: int
    age_s: float


class HeartbeatWriter:
    """Reports that this process is alive and where its logs end, on its own connection."""

    def __init__(self, database_url: str) -> None:
        self._connection = ReconnectingConnection(
            database_url, application_name="normalizer heartbeat", session=_SESSION
        )

    async def send(
        self,
        claims: Mapping[KafkaPartition, Claim],
        observed: Mapping[KafkaPartition, ObservedLogEnd],
        stopped: Collection[KafkaPartition],
    ) -> None:
        """Report these partitions.

        An error is only logged, because the next call reports them again.
        """
        rows = [
            (
                *(*partition, claim.incarnation, claim.epoch),
                *(at.partition_count, at.log_end, at.age_s, partition in stopped),
            )
            for partition, claim in sorted(claims.items())
            if (at := observed.get(partition))
        ]
        without_claim = sorted(set(stopped) - claims.keys())
        statements = ((_HEARTBEAT, rows), (_STOPPED_WITHOUT_CLAIM, without_claim))
        if not rows and not without_claim:
            return
        try:
            async with (
                asyncio.timeout(HEARTBEAT_WRITE_TIMEOUT_S),
                self._connection.acquire() as connection,
            ):
                for statement, reported in statements:
                    if reported:
                        await connection.execute(statement, *map(list, zip(*reported, strict=True)))
        except STATEMENT_ERRORS as error:
            _log.debug("heartbeat.failed", why=describe_error_without_secrets(error))

    def close(self) -> None:
        """Close the connection."""
        self._connection.terminate()
