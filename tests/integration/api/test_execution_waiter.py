"""Requests that wait for ends of executions share one query, which none of them takes with it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

import asyncpg
import pytest

from projector.api.app import build_app
from projector.api.endpoints import API_PATH
from projector.api.execution_waiter import ExecutionEndWaiter
from projector.api.snapshots import ReaderPool
from tests.integration.api.test_api_habits import END
from tests.support.stack import Database
from tests.support.table_rows import connected, execute

_SOON_S: Final = 20.0


@contextlib.asynccontextmanager
async def running(waiter: ExecutionEndWaiter) -> AsyncIterator[ExecutionEndWaiter]:
    async with asyncio.TaskGroup() as tasks:
        querying = tasks.create_task(waiter.run())
        yield waiter
        querying.cancel()


@pytest.fixture
async def reader(database: Database) -> AsyncIterator[ReaderPool]:
    async with ReaderPool(database.url, connections=2, timeout_s=30.0) as made:
        yield made


async def never() -> None:
    await asyncio.Event().wait()


async def end(connection: asyncpg.Connection) -> None:
    await connection.execute(END, 1, "playbook.started", "STARTED")
    await connection.execute(END, 2, "playbook.completed", "COMPLETED")


async def test_query_outlives_the_requests_that_it_began_for(
    database: Database, reader: ReaderPool
) -> None:
    async with connected(database) as connection, running(ExecutionEndWaiter(reader)) as waiter:
        async with connection.transaction():
            await connection.execute(
                "lock table projector.execution_facts in access exclusive mode"
            )
            assert (
                await asyncio.gather(*(waiter.wait(777, 0.3, never()) for _ in range(3))) == [0] * 3
            )
        async with asyncio.timeout(_SOON_S):
            while not await waiter.wait(777, 0.001, never()):
                pass


async def test_new_request_gets_a_look_at_once(database: Database, reader: ReaderPool) -> None:
    async with (
        connected(database) as connection,
        asyncio.timeout(_SOON_S),
        running(ExecutionEndWaiter(reader, pause_s=3_600.0)) as waiter,
    ):
        while not await waiter.wait(1, 0.1, never()):
            pass
        other = asyncio.create_task(waiter.wait(1, 60.0, never()))
        await end(connection)

        await waiter.wait(777, 60.0, never())

        assert not other.done()
        waiter.stop()
        await other


async def test_more_requests_than_may_wait_are_answered_at_once(reader: ReaderPool) -> None:
    waiter = ExecutionEndWaiter(reader, most=2)
    waiting = [asyncio.create_task(waiter.wait(one, 60.0, never())) for one in (1, 1)]
    await asyncio.sleep(0)

    async with asyncio.timeout(_SOON_S):
        await waiter.wait(2, 60.0, never())
        assert not any(one.done() for one in waiting)
        waiter.stop()
        await asyncio.gather(*waiting)
        await waiter.wait(1, 60.0, never())


async def test_wait_ends_when_the_client_disconnects(
    database: Database, reader: ReaderPool
) -> None:
    messages: list[dict[str, Any]] = [{"type": "http.request"}, {"type": "http.disconnect"}]
    sent = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await execute(database, END, 1, "playbook.started", "STARTED")
    scope = {
        "type": "http",
        "method": "GET",
        "path": f"{API_PATH}/executions/777",
        "query_string": b"wait=60s",
        "headers": [(b"host", b"localhost")],
    }

    async with asyncio.timeout(_SOON_S):
        await build_app(reader, reader, waiter=ExecutionEndWaiter(reader))(scope, receive, send)

    assert "http.response.start" in sent
