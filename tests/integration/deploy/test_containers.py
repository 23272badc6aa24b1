"""A real PostgreSQL and a real Kafka get what compose.yaml hands to theirs."""

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import asyncpg
import httpx
import pytest

from normalizer.cli.check_database import DatabaseCheck
from normalizer.cli.check_result import CheckResult
from normalizer.config.settings import Settings
from normalizer.embedded import PostgresServer
from normalizer.store.migrate import MigrationFailedError, migrate
from normalizer.store.store import Store
from projector.api.app import build_app
from projector.api.execution_waiter import ExecutionEndWaiter
from projector.api.snapshots import ReaderPool
from tests.support.factories import envelope, make_batch
from tests.support.job_runs import (
    backfill_files,
    record_lines,
    simulated_records,
    write_file,
)
from tests.support.stack import Database
from tests.support.table_rows import claimed

ROOT = Path(__file__).parents[3]
ROLES = ROOT / "deploy" / "postgres" / "roles.sql"
"""Read by Kafka's scripts. Every other KAFKA_ variable becomes a property of the broker."""


async def test_the_roles_may_do_what_they_are_for_and_nothing_else(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    server = postgres_server
    passwords = {"WRITER_PASSWORD": "it's a writer", "READER_PASSWORD": "a reader"}
    owner, writer, reader = (
        f"postgresql://{role}:{quote(password)}@127.0.0.1:{urlsplit(server.superuser_url).port}/events"
        for role, password in zip(
            ("own-er", "writer", "reader"), ("owns", *passwords.values()), strict=True
        )
    )
    psql = (str(server.bin_dir / "psql"), "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1")
    said: list[str] = []

    for made in (
        "create role \"own-er\" login password 'owns'",
        'create database events owner "own-er"',
    ):
        await _done(*psql, "--dbname", server.superuser_url, "--command", made)
    with pytest.raises(MigrationFailedError, match='grant projector_reader to "own-er"'):
        await migrate(owner, report=said.append)
    for given in (dict.fromkeys(passwords, "an older one"), passwords):
        await _done(
            *(*psql, "--dbname", server.superuser_url, "--file", str(ROLES)),
            env=os.environ | given | {"POSTGRES_USER": "own-er"},
        )
    await migrate(owner, report=said.append)

    assert [line for line in said if not line.startswith("applied ")] == []
    async with Store(writer, owner="one") as store:
        await store.write(make_batch(envelope(0), claim=await claimed(store)))
    history = write_file(tmp_path / "records", record_lines(simulated_records(200)))
    done = await backfill_files(
        Database(name="events", url=writer, admin_url=server.superuser_url), history
    )
    assert done.state == "complete"

    async with (
        ReaderPool(reader, connections=1, timeout_s=30.0) as views,
        httpx.AsyncClient(
            # As projector serves it.
            transport=httpx.ASGITransport(
                build_app(views, views, waiter=ExecutionEndWaiter(views), token="t" * 16)
            ),
            base_url="http://projector",
            headers={"Authorization": f"Bearer {'t' * 16}"},
        ) as client,
    ):
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get("/metrics", headers={"Authorization": ""})).status_code == 200
        assert (await client.get("/api/v1/freshness")).json()["rows"]
    connection = await asyncpg.connect(reader)
    try:
        assert await connection.fetchval("select sum(stored) from projector.freshness") > 0
        assert await connection.fetchval(
            "select pg_has_role('writer', 'pg_read_all_stats', 'usage')"
        )
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("select from normalizer.quarantine_raw")
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await connection.execute("create table t ()")
    finally:
        await connection.close()


@pytest.mark.every_postgres(oldest_in_soak=True)
async def test_no_login_makes_large_objects_or_writes_to_the_wal_once_public_may_not(
    postgres_server: PostgresServer,
) -> None:
    """An owner without superuser can't revoke what PostgreSQL grants: `check` says so."""
    server, passwords = postgres_server, {"WRITER_PASSWORD": "writes", "READER_PASSWORD": "reads"}
    owner = await server.create_database("shared")
    reader = f"postgresql://reader:reads@127.0.0.1:{server.port}/shared"
    psql = (str(server.bin_dir / "psql"), "--no-psqlrc", "--quiet", "--file", str(ROLES))
    revoking = os.environ | passwords | {"REVOKE_FROM_PUBLIC": "yes", "POSTGRES_USER": "noetl"}

    await _done(*psql, "--dbname", owner, env=revoking)
    await migrate(owner, report=lambda _: None)
    as_owner = await _wasteful(reader), await _warnings(owner)
    superuser = server.database_url("shared", role="postgres")
    await _done(*psql, "--dbname", superuser, env=os.environ | passwords)
    by_default = await _wasteful(reader), await _warnings(owner)
    await _done(*psql, "--dbname", superuser, env=revoking)
    revoked = await _wasteful(reader), await _warnings(owner)

    assert as_owner == by_default
    assert as_owner[0] == ["lo_create", "lo_from_bytea", "pg_logical_emit_message"]
    assert [one.about for one in as_owner[1]] == ["large objects, WAL"]
    assert "REVOKE_FROM_PUBLIC" in as_owner[1][0].remedy
    assert revoked == ([], [])


async def _wasteful(reader: str) -> list[str]:
    """Functions by which a login without a right to any table can fill the disk."""
    calls = {
        "lo_create": "lo_create(0)",
        "lo_from_bytea": "lo_from_bytea(0, 'waste')",
        "pg_logical_emit_message": "pg_logical_emit_message(false, 'waste', 'waste')",
    }
    connection = await asyncpg.connect(reader)
    may = []
    try:
        await connection.execute("set default_transaction_read_only = off")
        for name, call in calls.items():
            with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"select {call}")
                may.append(name)
    finally:
        await connection.close()
    return may


async def _warnings(url: str) -> list[CheckResult]:
    """What `normalizer check` warns of in what this server lets everybody do."""
    database = DatabaseCheck(Settings(database_url=url))
    assert [one async for one in database.check_connection()]
    return [one async for one in database.check_public_rights() if one.warns]


async def _done(*command: str, **options: Any) -> None:
    child = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, **options
    )
    assert await child.wait() == 0, command
