"""Settings in, records of a Kafka log out; the only importer of aiokafka.

connection.py  what every client shares: options, partitions, records, errors
group_reader.py  GroupReader: the partitions that a consumer group gives this process
fetch_positions.py  how far each was read, and whether its log may be another one by now
range_reader.py  stretches of partitions, outside any group
lenient_reader.py  batches that the client cannot take apart, taken apart
topic_reader.py  LogReader: a log seen from outside any group
topic_identity.py  whether a log is still the one that was read
"""

from normalizer.kafka.connection import (
    Bounds,
    FetchedChunk,
    KafkaPartition,
    UnreadableBatch,
    connection_options,
)
from normalizer.kafka.fetch_positions import UnverifiedLog, wall_ms
from normalizer.kafka.group_reader import GroupReader
from normalizer.kafka.topic_identity import why_reset
from normalizer.kafka.topic_reader import TopicReader

__all__ = [
    "Bounds",
    "FetchedChunk",
    "GroupReader",
    "KafkaPartition",
    "TopicReader",
    "UnreadableBatch",
    "UnverifiedLog",
    "connection_options",
    "wall_ms",
    "why_reset",
]
