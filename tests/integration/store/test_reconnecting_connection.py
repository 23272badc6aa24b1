"""The connection that all that reconnects shares: one at a time, a new one after a loss."""

from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from normalizer.errors import FatalError
from normalizer.postgres.database import connect
from normalizer.store.reconnecting_connection import ReconnectingConnection
from tests.support.stack import Database

NAME = "normalizer test"


def connection_to(
    url: str,
    prepare: Callable[[asyncpg.Connection], Awaitable[None]] | None = None,
) -> ReconnectingConnection:
    return ReconnectingConnection(
        url,
        application_name=NAME,
        session={"statement_timeout": "20s"},
        command_timeout_s=10.0,
        prepare=prepare,
    )


async def connection_pid(connection: ReconnectingConnection) -> int:
    async with connection.acquire() as opened:
        return int(await opened.fetchval("select pg_backend_pid()"))


async def test_a_session_has_its_name_its_settings_and_times_in_utc(database: Database) -> None:
    one = connection_to(database.url)

    async with one.acquire() as opened:
        names = ("application_name", "statement_timeout", "TimeZone")
        settings = [await opened.fetchval("select current_setting($1)", name) for name in names]
    one.terminate()

    assert settings == [NAME, "20s", "UTC"]


async def test_a_statement_that_fails_keeps_the_connection(database: Database) -> None:
    one = connection_to(database.url)
    before = await connection_pid(one)

    with pytest.raises(asyncpg.DivisionByZeroError):
        async with one.acquire() as opened:
            await opened.fetchval("select 1 / 0")

    assert (await connection_pid(one), one.server_pid) == (before, before)
    one.terminate()
    assert one.server_pid is None


async def test_every_connection_is_prepared_and_ended_if_that_fails(database: Database) -> None:
    refuse = False
    prepared: list[int] = []

    async def prepare(connection: asyncpg.Connection) -> None:
        prepared.append(connection.get_server_pid())
        if refuse:
            raise FatalError("no")

    one = connection_to(database.url, prepare)
    first = await connection_pid(one)
    one.terminate()
    refuse = True
    with pytest.raises(FatalError):
        await connection_pid(one)
    assert one.server_pid is None
    refuse = False
    last = await connection_pid(one)
    one.terminate()

    assert (prepared[0], prepared[2]) == (first, last)
    assert len(set(prepared)) == 3


async def test_a_statement_after_the_end_of_its_connection_is_an_error_of_the_client(
    database: Database,
) -> None:
    connection = await connect(database.url, application_name="test")
    connection.terminate()

    for statement in (connection.fetch, connection.fetchval, connection.execute):
        with pytest.raises(asyncpg.InterfaceError):
            await statement("select 1")
    with pytest.raises(asyncpg.InterfaceError):
        connection.transaction()
