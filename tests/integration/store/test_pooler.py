"""Everything through PgBouncer in transaction mode, where no session of the server is ours."""

import asyncio
import contextlib
import json
import os
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import asyncpg
import msgspec
import pytest

from normalizer.cli.read_only_commands import check, ledger
from normalizer.config.settings import Settings
from normalizer.errors import FatalError
from normalizer.jobs.engine.job_run import JobRun
from normalizer.jobs.engine.job_spec import JobSpec
from normalizer.postgres.database import connect
from normalizer.postgres.database_connection import PoolerSafeConnection
from projector.api.endpoints import API_PATH, ENDPOINTS
from projector.cli import main as projector
from projector.maintenance.maintain import maintenance_lock
from tests.support.api_client import api_client
from tests.support.commands import invoked, typed
from tests.support.job_runs import backfill_files, record_lines, simulated_records, write_file
from tests.support.pgbouncer import PgBouncer
from tests.support.service_runs import (
    Watcher,
    environment,
    running,
    settings_for,
    watching,
)
from tests.support.simulator_runs import compare_database, load_topic, traffic_mix
from tests.support.stack import Cluster, Database, Stack, Topic

SESSIONS: Final = 8
OF_A_POOLER: Final = {"application_name", "client_encoding"}
"""Settings that PgBouncer itself sets for a client, and for the next one."""


@pytest.fixture
async def pooler(stack: Stack, cluster: Cluster) -> AsyncIterator[PgBouncer]:
    folder = stack.folder / f"pgbouncer-{secrets.token_hex(4)}"
    async with PgBouncer(cluster.server, folder, sessions=SESSIONS) as started:
        yield started


@pytest.fixture
def pooled(pooler: PgBouncer, database: Database) -> Database:
    """The database through the pooler. Its superuser's address is the server's."""
    return msgspec.structs.replace(database, url=pooler.through(database.url))


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ("password", "SASL authentication failed"),
        ("user", "SASL authentication failed"),
        ("database", 'database "wrong" does not exist'),
    ],
)
async def test_a_wrong_login_through_it_ends_the_service_and_says_why(
    pooled: Database, topic: Topic, bootstrap_servers: str, wrong: str, text: str
) -> None:
    address = urlsplit(pooled.url)
    host = f"{address.hostname}:{address.port}"
    parts = {"user": address.username, "password": address.password, "database": pooled.name}
    parts |= {wrong: "wrong"}
    url = "postgresql://{user}:{password}@{host}/{database}".format(host=host, **parts)
    settings = msgspec.structs.replace(
        settings_for(pooled, topic, bootstrap_servers), database_url=url
    )

    code, log = await typed(settings, "run")

    last = json.loads(log.splitlines()[-1])
    assert (code, last["event"]) == (3, "process.ended")
    assert f"database: sign-in through a pooler: {text} (SQLSTATE 08P01)" in last["why"]
    assert "rejected 5 times in a row" in last["why"]
    assert str(address.password) not in log


async def open_sessions(url: str) -> None:
    """Have the pooler open all of its sessions: it needs as many at one time."""
    async with contextlib.AsyncExitStack() as opened:
        for number in range(SESSIONS):
            one = await opened.enter_async_context(client(url, f"client {number}"))
            await opened.enter_async_context(one.transaction())


@contextlib.asynccontextmanager
async def client(
    url: str, name: str = "test", **settings: str
) -> AsyncIterator[PoolerSafeConnection]:
    connection = await connect(url, application_name=name, session=settings)
    try:
        yield connection
    finally:
        await connection.close()


async def left_in_sessions(url: str) -> set[str]:
    """Settings, prepared statements and locks in the server's sessions behind the pooler."""
    left: set[str] = set()
    connection = await asyncpg.connect(url, statement_cache_size=0)
    for _ in range(2 * SESSIONS):
        found = await connection.fetch(
            """
            select name from pg_settings where source = 'session'
            union all
            select statement from pg_prepared_statements where statement not like '%prepared%'
            union all
            select locktype from pg_locks where locktype = 'advisory'
            """
        )
        left |= {name for (name,) in found} - OF_A_POOLER
    await connection.close()
    return left


@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_a_pooler_is_seen_and_a_server_is_none(
    mode: Literal["transaction", "session"], stack: Stack, cluster: Cluster, database: Database
) -> None:
    folder = stack.folder / f"pgbouncer-{secrets.token_hex(4)}"
    async with (
        PgBouncer(cluster.server, folder, mode=mode) as pooler,
        client(pooler.through(database.url)) as pooled,
        client(database.url) as direct,
    ):
        seen = [one.is_pooled for one in (pooled, direct)]

    assert seen == [True, False]


async def test_settings_hold_in_every_transaction_and_stay_in_no_session(pooled: Database) -> None:
    settings = {"search_path": "projector, public", "statement_timeout": "7s"}
    await open_sessions(pooled.url)

    async with client(pooled.url, **settings) as connection:
        seen = [
            await connection.fetchrow(
                "select pg_backend_pid(), current_setting('search_path'), "
                "current_setting('statement_timeout')"
            )
            for _ in range(2 * SESSIONS)
        ]

    assert len({pid for pid, *_ in seen}) > SESSIONS // 2
    assert {tuple(rest) for _, *rest in seen} == {("projector, public", "7s")}
    assert await left_in_sessions(pooled.url) == set()


async def test_a_job_has_one_runner_and_its_lock_ends_with_it(pooled: Database) -> None:
    spec = JobSpec(kind="backfill", source="a file")
    await open_sessions(pooled.url)

    async with await JobRun.begin_or_resume(pooled.url, spec, owner="one"):
        with pytest.raises(FatalError, match="is already running in process one"):
            await JobRun.begin_or_resume(pooled.url, spec, owner="another")
    async with await JobRun.begin_or_resume(pooled.url, spec, owner="another") as run:
        assert run.resumed
    async with maintenance_lock(pooled.url):
        pass

    assert await left_in_sessions(pooled.url) == set()


@pytest.mark.parametrize("failure", [None, RuntimeError], ids=["done", "failed"])
@pytest.mark.parametrize("held", ["maintenance", "job"])
async def test_a_lock_is_free_once_its_holder_has_ended(
    held: Literal["maintenance", "job"], failure: type[Exception] | None, pooled: Database
) -> None:
    """Although the server is slow to notice that a connection has ended."""

    async def lock() -> AbstractAsyncContextManager[object]:
        if held == "maintenance":
            return maintenance_lock(pooled.url)
        return await JobRun.begin_or_resume(
            pooled.url, JobSpec(kind="backfill", source="a"), owner="me"
        )

    with pytest.raises(failure) if failure else contextlib.nullcontext():
        async with client(pooled.admin_url) as hand, await lock():
            holder = await hand.fetchval(
                """
                select pid
                from   pg_locks
                where  locktype = 'advisory'
                and    database = (select oid from pg_database where datname = current_database())
                """
            )
            os.kill(holder, signal.SIGSTOP)
            asyncio.get_running_loop().call_later(0.5, os.kill, holder, signal.SIGCONT)
            if failure:
                raise failure

    async with await lock():
        pass


async def drained(watcher: Watcher, topic: Topic, settings: Settings, ends: dict[int, int]) -> None:
    """Read to the end with two services."""
    other = msgspec.structs.replace(settings, instance="other")
    async with running(settings), running(other):
        await watcher.until_read(topic, ends)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("topic", [6], indirect=True)
async def test_everything_works_through_it(
    pooled: Database, topic: Topic, bootstrap_servers: str, tmp_path: Path
) -> None:
    settings = settings_for(pooled, topic, bootstrap_servers, batch_rows=200)
    environ = environment(settings)
    ends = await load_topic(traffic_mix(), 800, topic, bootstrap_servers, tmp_path / "ledger")
    history = write_file(tmp_path / "history", record_lines(simulated_records(200, seed=7)))
    await open_sessions(pooled.url)

    async with watching(pooled.admin_url) as watcher:
        await drained(watcher, topic, settings, ends)
        report = await compare_database(watcher, topic, tmp_path / "ledger")
    assert report.agrees, "\n".join(report.lines())
    await backfill_files(pooled, history)
    answered = [
        await typed(settings, *command.split())
        for command in ("renormalize", f"export {tmp_path / 'export.zst'}")
    ]
    answered += [
        await invoked(command, *arguments, environment=environ)
        for command, *arguments in (
            (ledger, "verify"),
            (projector.commands["maintain"],),
            (projector.commands["repair"], "--all"),
            (projector.commands["verify"],),
        )
    ]
    checked = await invoked(check, environment=environ)
    async with api_client(pooled.url) as api:
        answers = {
            endpoint.path: (
                await api.get(API_PATH + endpoint.path, params=endpoint.example)
            ).status_code
            for endpoint in ENDPOINTS
        }

    failed = [said for code, said in (checked, *answered) if code != 0]
    assert not failed, "\n".join(failed)
    assert "through a connection pooler" in checked[1]
    # Without an id in its place, and of an error that this traffic does not have.
    missing = {path for path in answers if "{" in path} | {"/error-group"}
    assert answers == {path: 404 if path in missing else 200 for path in answers}
    assert await left_in_sessions(pooled.url) == set()


async def test_a_download_leaves_no_statement_in_a_session(pooled: Database) -> None:
    async with client(pooled.admin_url) as owner:
        await owner.execute(
            """
            insert into normalizer.events (event_id, execution_id, event_type, step, status,
                                           created_at)
            select number, 7, 'call.done', 'fetch', 'COMPLETED', now()
            from   generate_series(1, 40) as number
            """
        )
    await open_sessions(pooled.url)

    async with api_client(pooled.url) as api:
        answers = [await api.get(f"{API_PATH}/executions/7/events.ndjson") for _ in range(3)]

    assert {answer.content.count(b"\n") for answer in answers} == {40}
    assert await left_in_sessions(pooled.url) == set()


@pytest.mark.parametrize("topic", [6], indirect=True)
async def test_a_pooler_that_loses_its_server_is_an_outage(
    pooler: PgBouncer, pooled: Database, topic: Topic, bootstrap_servers: str, tmp_path: Path
) -> None:
    settings = settings_for(pooled, topic, bootstrap_servers, batch_rows=50)
    ends = await load_topic(traffic_mix(), 1_500, topic, bootstrap_servers, tmp_path / "ledger")

    async with (
        watching(pooled.admin_url) as watcher,
        watching(pooled.admin_url) as hand,
        asyncio.TaskGroup() as tasks,
    ):
        draining = tasks.create_task(drained(watcher, topic, settings, ends))
        for number in range(8):
            await hand.connection.fetch(
                """
                select pg_terminate_backend(pid)
                from   pg_stat_activity
                where  datname = current_database() and usename = 'noetl'
                """
            )
            if number == 4:
                await pooler.kill()
                await pooler.start()
            await asyncio.wait([draining], timeout=0.3)
        await draining
        report = await compare_database(watcher, topic, tmp_path / "ledger")

    assert report.agrees, "\n".join(report.lines())
