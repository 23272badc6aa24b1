"""A connection of a consumer and an admin client, opened when needed and again after an outage."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient

from normalizer.errors import BrokerUnavailable
from normalizer.kafka.connection import (
    close_abandoned,
    connection_options,
    ended,
    pace_metadata,
    start_client,
    translated,
)
from normalizer.settings import Settings

ENDING_S: Final = 5.0


class ReaderConnection:
    """The two clients of a reader; leaving the `async with` block closes them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer: Any = None
        self._admin: Any = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        clients = (self._consumer, self._admin)
        self._consumer = self._admin = None
        await _end(clients)

    @contextlib.asynccontextmanager
    async def _connected(self, doing: str) -> AsyncIterator[None]:
        """Yields the connection to one caller at a time; opens it when first needed."""
        async with self._turn:
            try:
                with translated(doing):
                    await self._connect(doing)
                    yield
            except BrokerUnavailable:
                await self.close()
                raise

    async def _connect(self, doing: str) -> None:
        if self._consumer is None:
            options = connection_options(self._settings)
            consumer = AIOKafkaConsumer(
                **options, isolation_level="read_committed", auto_offset_reset="none"
            )
            pace_metadata(consumer._client)  # noqa: SLF001 - the public API has no access to it
            admin = AIOKafkaAdminClient(**options)
            for client in (consumer, admin):
                close_abandoned(client._client)  # noqa: SLF001 - as above
            try:
                await start_client(consumer, self._settings, doing)
                await start_client(admin, self._settings, doing)
            except BaseException:
                await _end((consumer, admin))
                raise
            self._consumer, self._admin = consumer, admin


async def _end(clients: Iterable[Any]) -> None:
    for client in clients:
        if client:
            await ended(client, timeout_s=ENDING_S)
