"""Keeps a consumer and an admin client connected, for readers without a consumer group.

Callers don't have to reconnect after an outage, because a failed call closes both clients, and the
next call opens new ones.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from normalizer.config.settings import Settings
from normalizer.errors import BrokerUnavailableError
from normalizer.kafka.client_setup import (
    REQUEST_TIMEOUT_MS,
    close_connections_of_cancelled_requests,
    connection_options,
    limit_metadata_requests,
    start_client,
    stop_client,
    translate_kafka_errors,
)

CLOSE_TIMEOUT_S: Final = 5.0
_RESPONSE_TIMEOUT_S: Final = 1.0
"""How long to wait for a broker's response to a request that any other broker can answer too."""


class LazyKafkaClients:
    """Keeps a consumer and an admin client open for its subclasses, for example GrouplessClient.

    The clients are opened by the first call that needs them, and opened again by the first call
    after an outage. Leaving the `async with` block closes them.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer: Any = None
        self._admin: Any = None
        self._turn = asyncio.Lock()
        self._answering: int | None = None
        """The broker that last sent the metadata. The next request goes to it first."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. The next call opens new ones."""
        clients = (self._consumer, self._admin)
        self._consumer = self._admin = None
        await _end(clients)

    @contextlib.asynccontextmanager
    async def _connected(self, doing: str) -> AsyncIterator[None]:
        """Run the caller's block with open clients, one caller at a time.

        If the clients aren't open, they're opened first. If the block raises
        BrokerUnavailableError, they're closed, so that the next caller begins with new connections.
        """
        async with self._turn:
            try:
                with translate_kafka_errors(doing):
                    await self._connect(doing)
                    yield
            except BrokerUnavailableError:
                await self.close()
                raise

    async def _connect(self, doing: str) -> None:
        if self._consumer is None:
            # This consumer joins no group, so none of its requests can take as long as a rebalance.
            options = connection_options(self._settings) | {
                "request_timeout_ms": REQUEST_TIMEOUT_MS
            }
            consumer = AIOKafkaConsumer(
                **options, isolation_level="read_committed", auto_offset_reset="none"
            )
            limit_metadata_requests(consumer._client)  # noqa: SLF001 - the public API has no access to it
            admin = AIOKafkaAdminClient(**options)
            for client in (consumer, admin):
                close_connections_of_cancelled_requests(client._client)  # noqa: SLF001 - as above
            try:
                await start_client(consumer, self._settings, doing)
                await start_client(admin, self._settings, doing)
            except BaseException:
                await _end((consumer, admin))
                raise
            self._consumer, self._admin = consumer, admin

    async def _metadata(self, topics: Iterable[str]) -> Any:
        """Return the metadata of the cluster and of these topics.

        The request names the topics, because the metadata of all topics may have megabytes. Any
        broker can answer it, so one broker after another is tried, in case some are unreachable.
        Each gets one second to answer, except for the last one, which gets the whole request
        timeout.
        """
        request = MetadataRequest([*topics], allow_auto_topic_creation=False)
        client = self._admin._client  # noqa: SLF001 - describe_topics() would create the topics
        *others, last = sorted(
            [broker.nodeId for broker in client.cluster.brokers()] or [None],
            key=lambda node: node != self._answering,
        )
        for node in others:
            with contextlib.suppress(KafkaError, TimeoutError):
                async with asyncio.timeout(_RESPONSE_TIMEOUT_S):
                    answer = await client.send(node, request)
                self._answering = node
                return answer
        return await client.send(last, request)


async def _end(clients: Iterable[Any]) -> None:
    for client in clients:
        if client:
            await stop_client(client, timeout_s=CLOSE_TIMEOUT_S)
