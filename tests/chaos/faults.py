"""The faults of a running pair of normalizers. Each fault is over when its method returns."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Final, Self

import asyncpg

from normalizer.config.settings import Settings
from normalizer.embedded import KafkaBroker, PostgresServer
from tests.chaos.accounts import read_so_far
from tests.support.service_runs import process
from tests.support.small_disk import SmallDisk
from tests.support.stack import Database
from tests.support.waiting import moment, until

PATIENCE_S: Final = 240.0
OURS: Final = "application_name like 'normalizer%'"
"""Connections of the service, in pg_stat_activity."""


class Pair:
    """Two normalizers of one group. One that ends is replaced by another."""

    def __init__(self, settings: Settings, *arguments: str) -> None:
        self._settings = settings
        self._arguments = arguments
        self._running: list[asyncio.subprocess.Process] = []
        self._exits = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        for _ in range(2):
            await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    async def end_one(self, number: signal.Signals) -> None:
        """The older one gets the signal."""
        victim = self._running.pop(0)
        victim.send_signal(number)
        code = await victim.wait()
        assert code == (-number if number == signal.SIGKILL else 0)
        await self._start()

    @contextlib.contextmanager
    def one_frozen(self) -> Iterator[None]:
        """The older one stands still meanwhile, and is the younger one afterwards."""
        victim = self._running.pop(0)
        self._running.append(victim)
        victim.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            victim.send_signal(signal.SIGCONT)

    def all_live(self) -> bool:
        """Whether neither has ended by itself."""
        return all(one.returncode is None for one in self._running)

    async def _start(self) -> None:
        child = process(self._settings, *self._arguments)
        self._running.append(await self._exits.enter_async_context(child))


class Faults:
    """Faults of one stack by name. Those that last, last at least `lasts_s`."""

    def __init__(
        self,
        pair: Pair,
        postgres: PostgresServer,
        broker: KafkaBroker,
        database: Database,
        disk: SmallDisk | None = None,
        *,
        lasts_s: float = 0.0,
    ) -> None:
        self._lasts_s = lasts_s
        self._pair = pair
        self._postgres = postgres
        self._broker = broker
        self._database = database
        self._disk = disk
        self._hand: asyncpg.Connection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._hand:
            self._hand.terminate()

    def named(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """Every fault that this stack can have."""
        faults: dict[str, Callable[[], Awaitable[None]]] = {
            "a process is killed": lambda: self._pair.end_one(signal.SIGKILL),
            "a process is stopped": lambda: self._pair.end_one(signal.SIGTERM),
            "Postgres is killed": self._kill_postgres,
            "Postgres is restarted": partial(_restart, self._postgres),
            "Kafka is killed": self._kill_kafka,
            "Kafka is restarted": partial(_restart, self._broker),
            "a process is frozen beyond its session": self._freeze,
            "rows are locked": self._lock_rows,
            "Postgres has no connection left": self._exhaust_connections,
            "Postgres is read-only": self._make_read_only,
            "backends are terminated in COPY": self._terminate_copies,
            "statements are cancelled": self._cancel_statements,
        }
        if self._disk:
            faults["the disk is full"] = self._fill_disk
        return faults

    async def read(self) -> int:
        """Return the offsets read so far, or 0 if the database doesn't answer."""
        try:
            return sum((await self._positions()).values())
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return 0

    async def until_more_is_read(self, more: int) -> None:
        """Wait until positions have moved by this number of offsets: traffic flows again."""
        begun = await self.read()

        async def moved() -> int:
            assert self._pair.all_live(), "a process ended by itself"
            return await self.read() - begun

        await until(moved, is_so=lambda by: by >= more, deadline_s=PATIENCE_S)

    async def _kill_postgres(self) -> None:
        await self._postgres.kill()
        await self._postgres.start()

    async def _kill_kafka(self) -> None:
        await self._broker.kill()
        await self._broker.start()

    async def _freeze(self) -> None:
        """Until the other process has read on in every partition."""
        before = await self._positions()

        async def all_moved() -> bool:
            assert self._pair.all_live(), "a process ended by itself"
            now = await self._positions()
            return all(now[one] > before[one] for one in before)

        with self._pair.one_frozen():
            await until(all_moved, deadline_s=PATIENCE_S)

    async def _lock_rows(self) -> None:
        """An operator's open transaction holds executions and events, until somebody waits.

        Tried again where it is the one that the database ends a deadlock by.
        """
        is_held = False
        async with self._administrator() as hand:
            while not is_held:
                with contextlib.suppress(asyncpg.DeadlockDetectedError):
                    async with hand.transaction():
                        await hand.execute(
                            "select from normalizer.events order by event_id desc limit 500 "
                            "for update"
                        )
                        await hand.execute("select from projector.execution_facts for update")
                        is_held = True
                        await until(lambda: self._somebody_waits(hand), deadline_s=PATIENCE_S)
                        await self._stand_still()

    async def _exhaust_connections(self) -> None:
        """No role but a superuser gets a connection any more, and those of the service end."""
        async with self._administrator() as hand:
            name = self._database.name
            await hand.execute(f"alter database {name} connection limit 0")
            await hand.execute(
                f"select pg_terminate_backend(pid) from pg_stat_activity where {OURS}"
            )
            try:
                await self._stand_still()
            finally:
                await hand.execute(f"alter database {name} connection limit -1")

    async def _make_read_only(self) -> None:
        async with self._administrator() as hand:
            await hand.execute("alter system set default_transaction_read_only = on")
            await hand.execute("select pg_reload_conf()")
            try:
                await self._stand_still()
            finally:
                await hand.execute("alter system reset default_transaction_read_only")
                await hand.execute("select pg_reload_conf()")

    async def _terminate_copies(self) -> None:
        await self._strike("pg_terminate_backend", "query ilike 'copy %'", times=5)

    async def _cancel_statements(self) -> None:
        await self._strike("pg_cancel_backend", "state = 'active'", times=50)

    async def _strike(self, function: str, which: str, *, times: int) -> None:
        struck, until_s = 0, time.monotonic() + self._lasts_s
        async with self._administrator() as hand:
            async with asyncio.timeout(PATIENCE_S + self._lasts_s):
                while struck < times or time.monotonic() < until_s:
                    struck += await hand.fetchval(
                        f"select count({function}(pid)) from pg_stat_activity "
                        f"where {OURS} and state = 'active' and {which}"
                    )
                    await moment()

    async def _fill_disk(self) -> None:
        assert self._disk
        self._disk.fill()
        try:
            await self._stand_still()
        finally:
            self._disk.resize(4_000)

    async def _stand_still(self) -> None:
        """Until nothing has moved in two seconds, or ten seconds have passed; for `lasts_s`."""
        at, since, begun = await self._positions(), 0, 0
        until_s = time.monotonic() + self._lasts_s
        while (since < 20 and begun < 100) or time.monotonic() < until_s:
            assert self._pair.all_live(), "a process ended by itself"
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await asyncio.Event().wait()
            now = await self._positions()
            since = since + 1 if now == at else 0
            at, begun = now, begun + 1

    async def _positions(self) -> dict[int, int]:
        if self._hand is None or self._hand.is_closed():
            self._hand = await asyncpg.connect(self._database.admin_url)
        return await read_so_far(self._hand)

    async def _somebody_waits(self, hand: asyncpg.Connection) -> bool:
        waits: bool = await hand.fetchval(
            f"select exists (select from pg_stat_activity where {OURS} "
            "and wait_event_type = 'Lock')"
        )
        return waits

    @contextlib.asynccontextmanager
    async def _administrator(self) -> AsyncIterator[asyncpg.Connection]:
        """A superuser's connection: some are reserved for it where there is no other left."""
        hand = await asyncpg.connect(self._database.admin_url)
        try:
            yield hand
        finally:
            await hand.close()


async def _restart(server: PostgresServer | KafkaBroker) -> None:
    await server.stop()
    await server.start()
