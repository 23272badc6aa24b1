"""A database host that stops answering: who waits for it gives up, or can be stopped."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from itertools import product, starmap

import asyncpg
import pytest

from normalizer.kafka import KafkaPartition
from normalizer.monitoring import source_heartbeat
from normalizer.monitoring.source_heartbeat import HeartbeatWriter, ObservedLogEnd
from normalizer.store.migrate import _connected as migrating
from normalizer.store.read_only import read_only_connection
from projector.database_session import open_connection as projecting
from tests.support.factories import TOPIC
from tests.support.lossy_proxy import Proxy
from tests.support.stack import Database
from tests.support.table_rows import claimed, connected, count, open_store

PATIENCE_S = 15
STATEMENTS = (b"BEGIN", b"select 7", b"select 8", b"COMMIT")

Connecting = Callable[[str], AbstractAsyncContextManager[asyncpg.Connection]]


async def test_a_heartbeat_gives_up_and_the_next_one_is_reported(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition = KafkaPartition(TOPIC, 0)
    seen = {partition: ObservedLogEnd(log_end=9, partition_count=1, age_s=0.0)}
    async with open_store(database) as store, Proxy(database.url) as proxy:
        claim = await claimed(store)
        beats = HeartbeatWriter(proxy.url)
        proxy.lose(b"source_heartbeats", "silence", passed_on=False)

        with monkeypatch.context() as impatient:
            # The connection is opened within this time too.
            impatient.setattr(source_heartbeat, "HEARTBEAT_WRITE_TIMEOUT_S", 2.0)
            async with asyncio.timeout(PATIENCE_S):
                await beats.send({partition: claim}, seen, ())
        assert proxy.lost.is_set()
        await beats.send({partition: claim}, seen, ())
        beats.close()

    async with connected(database) as connection:
        assert await count(connection, "normalizer.source_heartbeats") == 1


async def test_a_stop_ends_a_transaction_that_gets_no_answer(database: Database) -> None:
    """Any statement that it waits for, on the connection of any command, which ends with it."""

    async def is_given_up(connecting: Connecting, lost: bytes) -> bool:
        async with Proxy(database.url) as proxy:
            is_closed = False

            async def work() -> None:
                nonlocal is_closed
                async with connecting(proxy.url) as connection:
                    proxy.lose(lost, "silence", passed_on=False)
                    try:
                        async with connection.transaction():
                            await connection.fetchval("select 7")
                            async for _ in connection.cursor("select 8"):
                                pass
                    finally:
                        is_closed = connection.is_closed()

            working = asyncio.ensure_future(work())
            await proxy.lost.wait()
            working.cancel()
            await asyncio.wait([working], timeout=PATIENCE_S)
            return working.cancelled() and is_closed

    cases = list(product((projecting, read_only_connection, migrating), STATEMENTS))
    assert await asyncio.gather(*starmap(is_given_up, cases)) == [True] * len(cases)
