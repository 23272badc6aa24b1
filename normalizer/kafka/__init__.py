"""Reads and writes Kafka. No other package imports aiokafka.

This package translates aiokafka's errors into ours. Several modules add what aiokafka lacks, for
example static membership, and support for recreated topics, slow links, and batches that it can't
decode.

client_setup            has what every client shares: options, partitions, records, translated
                        errors.
access_tokens           keeps the access token of SASL OAUTHBEARER for all clients of the process,
                        and replaces a connection before its token expires.
token_sources           requests a token from an authorization server, or signs one for AWS.
connection_diagnosis    finds the step (TCP, TLS, SASL, ...) at which the brokers reject a client.
lazy_clients            opens the clients of a reader when they're first needed.
group_reader            GroupReader reads the partitions that a consumer group assigns to this
                        process.
consumer_factory        builds the aiokafka consumer of a group, with its options.
static_member           lets a process with a name keep its partitions while it restarts.
fetch_sizes             limits each request to what its broker's link carries in about a second.
fetch_positions         tracks how far each partition was read, and whether its topic may have been
                        recreated.
range_reader            OffsetRangeReader reads ranges of offsets, without a consumer group.
lenient_reader          reads record batches that aiokafka can't decode.
record_field_reader     reads the fields of records from bytes that arrive in pieces.
decompression           decompresses batches in bounded memory.
groupless_client        GrouplessClient reads first and last offsets, settings, and single records
                        of a topic, without a consumer group.
topic_identity          finds out whether a topic is still the one that was read, or was recreated.
committed_offsets       reads the offsets that a consumer group has committed.
transactional_producer  writes records and a committed offset in one transaction.
"""

from normalizer.kafka.client_setup import (
    CLIENT_ID,
    FetchedChunk,
    KafkaPartition,
    OffsetBounds,
    acl_grant_command,
    connection_options,
)
from normalizer.kafka.committed_offsets import CommittedOffset
from normalizer.kafka.fetch_positions import UnverifiedPartition, wall_clock_ms
from normalizer.kafka.group_reader import GroupReader
from normalizer.kafka.groupless_client import (
    GrouplessClient,
    no_leader_error,
    optional_groupless_client,
)
from normalizer.kafka.lenient_reader import UnreadableBatchError
from normalizer.kafka.topic_identity import LogMismatch, find_log_mismatch
from normalizer.kafka.transactional_producer import OutputRecord, TransactionalProducer

__all__ = [
    "CLIENT_ID",
    "CommittedOffset",
    "FetchedChunk",
    "GroupReader",
    "GrouplessClient",
    "KafkaPartition",
    "LogMismatch",
    "OffsetBounds",
    "OutputRecord",
    "TransactionalProducer",
    "UnreadableBatchError",
    "UnverifiedPartition",
    "acl_grant_command",
    "connection_options",
    "find_log_mismatch",
    "no_leader_error",
    "optional_groupless_client",
    "wall_clock_ms",
]
