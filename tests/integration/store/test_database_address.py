"""The forms of DATABASE_URL: several hosts, and the system's authorities."""

import asyncio
import socket
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from normalizer.errors import ConfigurationError, StoreSignInError, StoreUnavailableError
from normalizer.postgres.database import connect
from normalizer.store.reconnecting_connection import ReconnectingConnection
from normalizer.store.session import Session
from tests.support.certificates import make_certificates
from tests.support.stack import Database

REFUSING = "127.0.0.1:1"


def with_hosts(url: str, *hosts: str) -> str:
    """The address with these hosts before its own."""
    parts = urlsplit(url)
    login, _, own = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{login}@{','.join((*hosts, own))}"))


@pytest.mark.parametrize("sign", ["#", "/", "?"])
async def test_an_address_that_cannot_be_read_is_rejected_without_its_password(sign: str) -> None:
    """For every caller: that of a backfill's source is no setting."""
    with pytest.raises(ConfigurationError, match="percent-encoded") as raised:
        await connect(f"postgresql://u:secret{sign}x@127.0.0.1:1/none", application_name="test")

    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("setting", "rejection"),
    [
        ("sslmode=full", "`sslmode` parameter must be one of"),
        ("target_session_attrs=primary_only", "target_session_attrs is expected to be one of"),
        ("sslmode=verify-full&sslrootcert=/none", "sslrootcert=/none: No such file or directory"),
        ("sslmode=require&sslcert=/none&sslkey=/none", "sslcert=/none: No such file or directory"),
        ("sslrootcert=system&sslcert=/none", "sslcert=/none: No such file or directory"),
        ("sslmode=require&sslcert=/", "sslcert=/: Is a directory"),
        (
            "sslmode=verify-full&sslrootcert=/dev/null",
            "sslrootcert=/dev/null: no certificate or crl found",
        ),
        (
            "sslmode=require&sslcert=/dev/null&sslkey=/dev/null",
            "sslcert, .*: not pem, or locked by a password",
        ),
    ],
)
async def test_a_setting_that_no_server_is_needed_to_refuse_is_no_outage(
    setting: str, rejection: str
) -> None:
    with pytest.raises(ConfigurationError, match=rejection) as raised:
        await connect(f"postgresql://u:secret@{REFUSING}/none?{setting}", application_name="test")

    assert "secret" not in str(raised.value)


async def test_a_server_that_vanishes_is_noticed_however_long_a_statement_may_take(
    database: Database,
) -> None:
    """Without an answer and without a timeout, only the system's probes end the wait."""
    connection = await connect(database.url, application_name="test")
    try:
        probed = connection._transport.get_extra_info("socket")
        seconds = [
            probed.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        ]
        is_on = probed.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    finally:
        await connection.close()

    idle_s, between_s, probes = seconds
    assert is_on
    assert idle_s + between_s * probes <= 60


async def test_hosts_that_refuse_or_say_nothing_are_passed_over(database: Database) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        url = with_hosts(database.url, REFUSING, f"127.0.0.1:{port}")

        connection = await connect(url, application_name="test")
        name = await connection.fetchval("select current_database()")
        await connection.close()

    assert name == database.name


async def test_a_server_that_only_reads_is_left_for_the_next_one(database: Database) -> None:
    one = ReconnectingConnection(database.url, application_name="test", session={})
    async with one.acquire() as connection:
        before = connection.get_server_pid()

    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        async with one.acquire() as connection:
            await connection.execute("set transaction read only; create table t ()")

    async with one.acquire() as connection:
        assert connection.get_server_pid() != before
    one.terminate()


async def test_a_file_that_held_before_is_an_outage_while_it_is_renewed(
    database: Database, tmp_path: Path
) -> None:
    make_certificates(tmp_path)
    url = f"{database.url}?sslmode=prefer&sslrootcert={tmp_path}/ca.pem&sslcert={tmp_path}/both.pem"
    session = Session(url, application_name="test")
    assert await session.fetch("select 1")
    session.terminate()
    (tmp_path / "both.pem").rename(tmp_path / "renewed")

    with pytest.raises(
        StoreUnavailableError, match=r"sslcert=\S+: No such file or directory"
    ) as raised:
        await session.fetch("select 1")
    (tmp_path / "renewed").rename(tmp_path / "both.pem")

    assert not isinstance(raised.value, StoreSignInError)
    assert await session.fetch("select 1")
    session.terminate()


async def test_a_login_whose_transactions_are_to_be_short_may_take_its_time(
    database: Database,
) -> None:
    """PostgreSQL 17 can end a whole transaction, however short its statements are."""
    settings = "options=-c%20transaction_timeout%3D200"
    connection = await connect(f"{database.url}?{settings}", application_name="test")
    try:
        async with connection.transaction():
            assert await connection.fetchval("show transaction_timeout") == "0"
    finally:
        await connection.close()
