"""Settings in, records of a Kafka log out; the only importer of aiokafka.

connection.py  what every client shares: options, partitions, records, errors
group.py       GroupReader: the partitions that a consumer group gives this process
readings.py    how far each was read, and whether its log may be another one by now
stretches.py   stretches of partitions, outside any group
mending.py     batches that the client cannot take apart, taken apart
log.py         LogReader: a log seen from outside any group
identity.py    whether a log is still the one that was read
"""

from normalizer.kafka.connection import (
    Bounds,
    Chunk,
    Partition,
    UnreadableBatch,
    connection_options,
)
from normalizer.kafka.group import GroupReader
from normalizer.kafka.identity import why_reset
from normalizer.kafka.log import LogReader
from normalizer.kafka.readings import Doubt, wall_ms

__all__ = [
    "Bounds",
    "Chunk",
    "Doubt",
    "GroupReader",
    "LogReader",
    "Partition",
    "UnreadableBatch",
    "connection_options",
    "wall_ms",
    "why_reset",
]
