"""The database of the store's state machine: one for all its examples, emptied between them."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, Self

import asyncpg
import pytest

from normalizer.cli.ledger_check import verify_ledger
from normalizer.core.batch import Batch
from normalizer.errors import StoreUnavailableError
from normalizer.jobs.forget import ErasureWhoAndWhy, ExecutionToForget, Forget
from normalizer.store.claim import Claim
from normalizer.store.committed_batch import CommittedBatch
from normalizer.store.source_positions import PositionMoves, SourcePositions
from normalizer.store.store import Store
from projector.database_session import open_connection
from projector.maintenance import event_retention
from projector.maintenance.event_retention import raise_retention_horizon
from projector.repair.repair import RepairRequest, repair
from projector.verify.divergences import store_verdict
from projector.verify.ranges import VerifyScope
from projector.verify.verify import verify
from simulator.view_fold import Row
from tests.support import view_rows
from tests.support.factories import TOPIC
from tests.support.projection_oracle import expected_views
from tests.support.stack import Database
from tests.support.tampering import TAMPERING
from tests.support.view_rows import differences

_MOST_TRIES: Final = 20
_WRITERS: Final = 2
_RESET_ROWS: Final = """
    update normalizer.retention_horizon set expired_before = '-infinity';
    update projector.maintenance_state
    set    kept_from = '-infinity', compacted_to = '-infinity', full_scan_at = '-infinity';
"""
"""The tables filled by migrations whose rows change."""


class CrashError(Exception):
    """The writer's process ends here, as far as the database can tell."""


class CrashingPositions(SourcePositions):
    """Raises CrashError at the end of a transaction, before its commit, while `is_crashing` is
    set."""

    is_crashing = False

    async def move(self, connection: asyncpg.Connection, moves: PositionMoves) -> None:
        await super().move(connection, moves)
        if self.is_crashing:
            raise CrashError


class Writer:
    """A store with its claims, which can be made to crash. `written` is what it did last."""

    CRASHES: ClassVar = ("before the commit", "after the commit")

    def __init__(self, url: str, owner: str) -> None:
        self.claims: dict[int, Claim] = {}
        self.written: CommittedBatch | None = None
        self._positions = CrashingPositions()
        self._crashes_after = False
        self._store = Store(url, owner=owner, positions=self._positions, on_commit=self._on_written)

    async def claim(self, partition: int) -> Claim:
        claim = await self._store.claim_partition(
            TOPIC, partition, cluster_id="cluster", log_start=0
        )
        self.claims[partition] = claim
        return claim

    async def write(self, batch: Batch, *, crash: str = "", projections: bool = True) -> None:
        """As the service does: again where the database could not take it. Raises CrashError."""
        self.written = None
        self._positions.is_crashing = crash == "before the commit"
        self._crashes_after = crash == "after the commit"
        try:
            for _ in range(_MOST_TRIES):
                try:
                    await self._store.write(batch, projections=projections)
                except StoreUnavailableError:
                    continue
                return
        finally:
            self._positions.is_crashing = self._crashes_after = False
        raise AssertionError("the database did not take the batch")

    def die(self) -> None:
        """Its connection ends, and it knows of no claim any more."""
        self._store._session.terminate()
        self.forget()

    def forget(self) -> None:
        """As a new process, which has a connection already."""
        self.claims.clear()
        self._store._planner.shared_plans_left = 0

    def _on_written(self, written: CommittedBatch) -> None:
        self.written = written
        if self._crashes_after:
            raise CrashError


class MachineDatabase:
    """Connections to one migrated database, on a loop of their own."""

    def __init__(
        self,
        url: str,
        admin: asyncpg.Connection,
        projector: asyncpg.Connection,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.url = url
        self.loop = loop
        self.writers = {number: Writer(url, f"writer {number}") for number in range(_WRITERS)}
        self._admin = admin
        self._projector = projector
        self._emptying = ""

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, database: Database, loop: asyncio.AbstractEventLoop
    ) -> AsyncIterator[Self]:
        admin = await asyncpg.connect(database.admin_url)
        try:
            async with open_connection(database.admin_url) as projector:
                made = cls(database.url, admin, projector, loop)
                made._emptying = await made._statements_to_empty()
                yield made
                for writer in made.writers.values():
                    writer.die()
        finally:
            await admin.close()

    async def reset(self) -> None:
        """As after the migrations. Triggers are off, so nothing follows the rows that go."""
        await self._admin.execute(self._emptying)

    async def _statements_to_empty(self) -> str:
        deletes = [
            f"delete from {schema}.{name};"
            for schema, name in await self._admin.fetch(_TABLES)
            if not await self._admin.fetchval(f"select exists (select from {schema}.{name})")
        ]
        return "\n".join(
            [
                "set session_replication_role = replica;",
                *deletes,
                _RESET_ROWS,
                "reset session_replication_role;",
            ]
        )

    async def positions(self) -> list[tuple[int, int, int, int, int]]:
        """Of each partition: its number, position, outcomes, their sum, and how far it went back.

        Records and holes explain how far the position came.
        """
        rows = await self._admin.fetch(_POSITIONS)
        return [tuple(row) for row in rows]

    async def archive(self, before: datetime, margin: timedelta, steps: int | None) -> list[Row]:
        """Raise the horizon, and delete executions without recent events. Returns the deleted rows.

        A step deletes one execution, or two events. With a number of steps, it's killed after them.
        """
        stored = await view_rows.stored(self._admin)
        assert await raise_retention_horizon(self._projector, before)
        with _killed_after(steps):
            retention = event_retention._Retention(self._projector, before - margin, None)
            assert [line async for line in retention.run() if line.startswith("waits")] == []
        left = {row["event_id"] for row in await view_rows.stored(self._admin)}
        return [row for row in stored if row["event_id"] not in left]

    async def forget(self, execution_id: int, *, is_killed: bool) -> list[Row]:
        """Erase the execution, whatever its age. Returns the deleted rows.

        If it's killed, it has listed the execution as forgotten and deleted its notes, but none of
        its rows.
        """
        stored = await view_rows.stored(self._admin)
        erasure = Forget(self.url, ExecutionToForget(execution_id=execution_id))
        with _killed_before(Forget, "_delete") if is_killed else nullcontext():
            await erasure.run(ErasureWhoAndWhy(who="the machine", why="a rule of it"))
        left = {row["event_id"] for row in await view_rows.stored(self._admin)}
        gone = [row for row in stored if row["event_id"] not in left]
        assert {row["execution_id"] for row in gone} <= {execution_id}
        assert is_killed or execution_id not in {
            row["execution_id"] for row in await view_rows.stored(self._admin)
        }
        return gone

    async def repair(self) -> None:
        """What was noted as divergent agrees with the log then."""
        verdicts = [one async for one in repair(self._projector, RepairRequest())]
        assert [str(one) for one in verdicts if one.verdict != "match"] == []

    async def assert_tables_hold_what_was_counted(self) -> None:
        assert [tuple(row) for row in await self._admin.fetch(_COUNTED_OTHERWISE)] == []

    async def assert_views_are_the_fold(self, archived: Sequence[Row]) -> None:
        """Check that counts include stored and deleted rows, and everything else only stored rows.

        `archived` has each execution that retention or forget deleted, under a new id, because an
        event that came later began the execution again.
        """
        stored = await view_rows.stored(self._admin)
        expected = expected_views(stored)
        counted = expected_views([*archived, *stored])
        expected |= {
            name: rows for name, rows in counted.items() if name not in view_rows.OF_EXECUTIONS
        }
        assert differences(await view_rows.view_rows(self._admin), expected) == {}

    async def assert_commands_find_nothing_wrong(self) -> None:
        """`ledger verify` and `projector verify`."""
        wrong = [text async for one in verify_ledger(self.url, None) for text in one.wrong]
        assert wrong == []
        async for verdict in verify(self._projector, VerifyScope()):
            assert verdict.verdict == "match", str(verdict)

    async def assert_tampering_is_found_and_repaired(self, projection: str) -> None:
        """One projection is changed behind the triggers, if it has a row that changes."""
        views = await view_rows.view_rows(self._admin)
        tag = await self._admin.execute(TAMPERING[projection])
        if tag.endswith(" 0") or await view_rows.view_rows(self._admin) == views:
            return
        found = [verdict async for verdict in verify(self._projector, VerifyScope())]
        assert projection in {one.projection for one in found if one.verdict == "divergent"}
        for verdict in found:
            assert await store_verdict(self._projector, verdict)
        await self.repair()
        left = differences(await view_rows.view_rows(self._admin), views)
        assert left == {}, f"{projection} after its repair: {left}"
        await self.assert_commands_find_nothing_wrong()


@contextmanager
def _killed_after(steps: int | None) -> Iterator[None]:
    if steps is None:
        yield
        return
    left, archive = steps, event_retention._Retention._archive

    async def counted(*arguments: Any) -> None:
        nonlocal left
        if not left:
            raise CrashError
        left -= 1
        await archive(*arguments)

    with pytest.MonkeyPatch.context() as patch, suppress(CrashError):
        patch.setattr(event_retention, "EVENTS_PER_DELETE", 2)
        patch.setattr(event_retention._Retention, "_archive", counted)
        yield


@contextmanager
def _killed_before(owner: type, method: str) -> Iterator[None]:
    async def crash(*_: object) -> None:
        raise CrashError

    with pytest.MonkeyPatch.context() as patch, suppress(CrashError):
        patch.setattr(owner, method, crash)
        yield


_TABLES: Final = """
    select   relnamespace::regnamespace::text, relname
    from     pg_class
    where    relnamespace::regnamespace::text in ('normalizer', 'projector')
    and      relkind = 'r'
    order by 1, 2
"""

_POSITIONS: Final = """
    select   partition, next_offset, outcomes,
             stored + duplicate + merged + quarantined + ignored,
             records + holes - (next_offset - start_offset)
    from     normalizer.source_positions
    order by partition
"""

_COUNTED_OTHERWISE: Final = """
    with held as (
        select   partition, sum(stored)::bigint as stored, sum(quarantined)::bigint as quarantined
        from     (
                     select source_partition, 1, 0 from normalizer.events
                     union all
                     select source_partition, 0, 1 from normalizer.quarantine
                     union all
                     select source_partition, events, quarantined
                     from   normalizer.archived_row_counts
                 ) as rows (partition, stored, quarantined)
        group by partition
    )
    select    partition, position.stored, held.stored, position.quarantined, held.quarantined
    from      normalizer.source_positions as position
    left join held using (partition)
    where     (position.stored, position.quarantined)
              is distinct from (coalesce(held.stored, 0), coalesce(held.quarantined, 0))
"""
