"""Builds the aiokafka consumer with which GroupReader joins a consumer group.

Our positions are in PostgreSQL, so this consumer doesn't commit any offset by itself. If it doesn't
know where to read, it raises an error instead of choosing an offset.
"""

from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener

from normalizer.config.settings import Settings
from normalizer.kafka.client_setup import (
    MAX_FETCH_BYTES,
    MAX_PARTITION_FETCH_BYTES,
    REBALANCE_TIMEOUT_MS,
    connection_options,
    limit_metadata_requests,
)
from normalizer.kafka.fetch_sizes import limit_fetch_sizes

_NO_POLL_LIMIT_MS: Final = 2**31 - 1
"""No limit between two polls. With a limit, aiokafka would leave the group while a batch takes
long. The service has its own watchdog instead."""

METADATA_MAX_AGE_MS: Final = 30_000
"""The consumer notices new partitions within this time. aiokafka's default is five minutes."""


def new_group_consumer(settings: Settings, listener: ConsumerRebalanceListener) -> Any:
    """Return a consumer that's subscribed to the topics, but not started.

    aiokafka calls the listener during a rebalance, so its methods must not wait.
    """
    consumer = AIOKafkaConsumer(
        **connection_options(settings),
        group_id=settings.kafka_group_id,
        group_instance_id=settings.instance or None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        # Positions are stored in PostgreSQL. If Kafka has deleted the offset at which a partition
        # would continue, raise an error. With "earliest" or "latest", the consumer would silently
        # jump to another offset, and nobody would notice the records in between.
        auto_offset_reset="none",
        fetch_max_bytes=MAX_FETCH_BYTES,
        max_partition_fetch_bytes=MAX_PARTITION_FETCH_BYTES,
        client_rack=settings.kafka_client_rack,
        session_timeout_ms=settings.kafka_session_timeout_ms,
        # A consumer learns about a rebalance only from the response to its next heartbeat, so long
        # intervals would delay every rebalance. Never wait longer than three seconds, which is
        # Kafka's default.
        heartbeat_interval_ms=min(3_000, settings.kafka_session_timeout_ms // 4),
        rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
        max_poll_interval_ms=_NO_POLL_LIMIT_MS,
        metadata_max_age_ms=METADATA_MAX_AGE_MS,
    )
    client = consumer._client  # noqa: SLF001 - the public API has no access to it
    limit_metadata_requests(client)
    limit_fetch_sizes(client, MAX_FETCH_BYTES)
    consumer.subscribe(list(settings.kafka_topics), listener=listener)
    return consumer
