"""Named points in a batch where a process can be held for certain, from outside: by locks."""

import contextlib
from collections.abc import AsyncIterator
from typing import Final

import asyncpg
import msgspec

from normalizer.config.settings import Settings
from tests.support.lossy_proxy import Proxy
from tests.support.service_runs import DEADLINE_S
from tests.support.stack import Database
from tests.support.table_rows import connected
from tests.support.waiting import until

GATE: Final = 90_210
"""The advisory lock that a held process waits for."""


class Point(msgspec.Struct, frozen=True):
    """A point, made by a trigger whose function lets its first visitor wait at the gate.

    `visits` go through before one is held.
    """

    name: str
    trigger: str
    visits: int = 0
    function: str = "wait_at_the_gate"

    def __str__(self) -> str:
        return self.name


_FUNCTIONS: Final = f"""
    drop sequence if exists visits;
    create sequence visits;
    grant all on sequence visits to public;
    create function wait_at_the_gate() returns trigger language plpgsql as $$
    begin
        if nextval('public.visits') > current_setting('chaos.visits')::integer then
            perform set_config('lock_timeout', '5s', true);
            perform pg_advisory_xact_lock_shared({GATE});
        end if;
        return new;
    end
    $$;
    create or replace function wait_at_the_second_bad_row() returns trigger language plpgsql as $$
    begin
        if new.step = 'bad' then
            if nextval('visits') > 1 then
                perform pg_advisory_xact_lock_shared({GATE});
            end if;
            raise exception 'no' using errcode = '22003';
        end if;
        return new;
    end
    $$;
"""

POINTS: Final = (
    Point(
        "in a claim",
        "before insert or update of epoch on normalizer.source_positions for each row",
    ),
    Point("before the insert", "before insert on normalizer.events for each statement"),
    Point(
        "in the middle of the insert", "before insert on normalizer.events for each row", visits=20
    ),
    Point(
        "after the insert and before the commit",
        "before update of next_offset on normalizer.source_positions for each row",
    ),
    Point(
        "while a bad row is looked for",
        "before insert on normalizer.events for each row",
        function="wait_at_the_second_bad_row",
    ),
    Point(
        "while a rejected record goes to quarantine",
        "before insert on normalizer.quarantine for each row",
    ),
)


class Gate:
    """A gate at which processes wait."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def until_somebody_waits(self) -> None:
        """Until a process stands at the point."""
        await until(self.somebody_waits, deadline_s=DEADLINE_S)

    async def open(self) -> None:
        """Let them go on, and nobody wait again."""
        await self._connection.execute(f"select pg_advisory_unlock({GATE})")
        await self._connection.execute("drop function wait_at_the_gate cascade")

    async def somebody_waits(self) -> bool:
        """Whether a process stands at the point now."""
        found: bool = await self._connection.fetchval(
            "select exists (select from pg_locks where objid = $1 and not granted)", GATE
        )
        return found


@contextlib.asynccontextmanager
async def gate_at(point: Point, database: Database) -> AsyncIterator[Gate]:
    """A session that comes to the point waits there for 5 s at most, or until the block's end."""
    async with connected(database) as connection:
        await connection.execute(_FUNCTIONS)
        kind = "constraint trigger" if "deferred" in point.trigger else "trigger"
        await connection.execute(
            f"create {kind} gate {point.trigger} execute function {point.function}()"
        )
        await connection.execute(
            f"alter database \"{database.name}\" set chaos.visits = '{point.visits}'"
        )
        await connection.execute(f"select pg_advisory_lock({GATE})")
        gate = Gate(connection)
        try:
            yield gate
        finally:
            await gate.open()


@contextlib.asynccontextmanager
async def commit_answer_lost(settings: Settings) -> AsyncIterator[tuple[Settings, Proxy]]:
    """Settings that lead through a proxy, which loses the answer to the commit of a batch.

    Then the batch is written, the process does not know, and Kafka has no commit of it.
    """
    assert settings.database_url
    async with Proxy(settings.database_url) as proxy:
        proxy.lose(b"COMMIT;", "silence", after=b"COPY")
        yield msgspec.structs.replace(settings, database_url=proxy.url), proxy
