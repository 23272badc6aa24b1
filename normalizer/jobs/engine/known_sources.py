"""Reads what the database knows about sources: positions, incarnations, and topics of files.

A job reads this state once, when it begins. It needs the state to recognize a topic that was
recreated, and a file that has grown.
"""

from collections.abc import Callable
from typing import Final

import asyncpg
import msgspec

from normalizer.errors import ConfigurationError
from normalizer.store.claim import Claim
from normalizer.store.read_only import read_only_connection


class KnownSources(msgspec.Struct, frozen=True, kw_only=True):
    """What the database knew about sources when the job began.

    - `live` has the positions of Kafka partitions, including deleted positions.
    - `clusters` maps each topic that was read to the id of its Kafka cluster.
    - `incarnations` maps (topic, partition) to its newest incarnation, and to how many there are. A
      topic gets a new incarnation each time that it's recreated.
    - `file_topics` are the topics that represent files from which at least one record has been
      read. Source: docs/spec/wire-shapes.md#g6.
    """

    live: tuple[Claim, ...]
    clusters: dict[str, str]
    incarnations: dict[tuple[str, int], tuple[int, int]]
    file_topics: frozenset[str]

    def incarnation_resolver(self, named_incarnation: int | None) -> Callable[[str, int], int]:
        """Return a function that returns the incarnation for records of a topic and partition.

        If the operator has named an incarnation, the function always returns that one. Otherwise
        the topic must have only one. If the topic was recreated, the function raises
        ConfigurationError, because nobody can tell which of its logs the records come from. Under
        the wrong incarnation, they'd count as duplicates of other records.
        """

        def incarnation(topic: str, partition: int) -> int:
            if named_incarnation is not None:
                return named_incarnation
            newest, incarnations = self.incarnations.get((topic, partition), (0, 1))
            if incarnations > 1:
                raise ConfigurationError(
                    f"{topic}[{partition}] was deleted and created again, so these records may be "
                    "from any of its logs. Choose the log with --incarnation, for example "
                    f"--incarnation {newest} for the newest"
                )
            return newest

        return incarnation


# Selects how far each partition was read in its newest incarnation, and how many incarnations it
# has. A partition gets a new incarnation each time its topic is recreated. Positions that an
# operator deleted count too, because a new position would continue in the incarnation of the
# deleted one.
_LAST_READ: Final = """
    with known as (
        select topic, incarnation, partition, epoch, next_offset, cluster_id, last_offset,
               last_recorded_ms, last_crc
        from   normalizer.source_positions
        union all
        select topic, incarnation, partition, 0, coalesce(last_offset + 1, 0), cluster_id,
               last_offset, last_recorded_ms, last_crc
        from   normalizer.dedup_horizon as deleted
        where  cluster_id is not null
        and    not exists (
                   select
                   from   normalizer.source_positions as present
                   where  (present.topic, present.incarnation, present.partition)
                        = (deleted.topic, deleted.incarnation, deleted.partition)
               )
    )
    select   distinct on (topic, partition)
             topic, incarnation, partition, epoch, next_offset, cluster_id, last_offset,
             last_recorded_ms, last_crc, cluster_id <> '' as is_in_kafka,
             count(*) over (partition by topic, partition) as incarnations
    from     known
    order by topic, partition, incarnation desc
"""

_CLUSTERS_OF_TOPICS: Final = "select topic, cluster_id from normalizer.source_topics"


# Selects the topics that represent files with at least one record read, whether or not a job read
# it.
_FILE_TOPICS: Final = """
    select topic from normalizer.job_parts where topic like 'file:%' and records > 0
    union
    select topic from normalizer.dedup_horizon where topic like 'file:%'
"""


async def read_known_sources(database_url: str) -> KnownSources:
    """Read the state. Raises StoreUnavailableError and FatalError."""
    async with read_only_connection(database_url) as connection:
        last_read = await connection.fetch(_LAST_READ)
        clusters = await connection.fetch(_CLUSTERS_OF_TOPICS)
        file_topics = await connection.fetch(_FILE_TOPICS)
    return KnownSources(
        live=tuple(_claim(row) for row in last_read if row["is_in_kafka"]),
        clusters={row["topic"]: row["cluster_id"] for row in clusters},
        incarnations={
            (row["topic"], row["partition"]): (row["incarnation"], row["incarnations"])
            for row in last_read
        },
        file_topics=frozenset(row["topic"] for row in file_topics),
    )


def _claim(row: asyncpg.Record) -> Claim:
    return Claim(**{name: row[name] for name in Claim.__struct_fields__ if name in row})
