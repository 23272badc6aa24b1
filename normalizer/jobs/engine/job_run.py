"""One run of a job, protected by an advisory lock and an epoch.

Only one process at a time may run a job. The advisory lock keeps a second runner from starting.
It's held on a separate connection and ends with the process, so nobody has to clean up after a
crash. If a runner loses the lock without noticing, for example in a network failure, the epoch
keeps it from writing: each runner takes the next epoch, and every batch checks it in its own
transaction.
"""

from collections.abc import Iterable
from typing import Final, Literal, Self

import asyncpg
import msgspec
from asyncpg.transaction import Transaction

from normalizer.errors import FatalError
from normalizer.jobs.engine import job_statements
from normalizer.jobs.engine.spec import JobSpec
from normalizer.jobs.sources.source import PartKey, ReadPosition, SourcePart
from normalizer.postgres.database import release
from normalizer.store.migrate import reject_other_files
from normalizer.store.protocol import check_protocol
from normalizer.store.reconnecting_connection import ReconnectingConnection
from normalizer.store.sqlstate import FOREIGN_ERRORS, translate_error

RunState = Literal["running", "stopped", "complete", "truncated", "failed"]

_SESSION: Final = {
    "statement_timeout": "60s",
    "search_path": "normalizer, public",
}


_LOCK_SESSION: Final = {
    "idle_in_transaction_session_timeout": "0",
    # If a runner's machine or network fails, the server should notice within a minute instead of
    # hours, because the lock is held until it ends the session.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}


class RunTotals(msgspec.Struct, frozen=True, kw_only=True):
    """The totals of a run over all its parts. `outcomes` is the sum of the fields after it."""

    records: int = 0
    holes: int = 0
    expired: int = 0
    outcomes: int = 0
    stored: int = 0
    duplicate: int = 0
    merged: int = 0
    quarantined: int = 0
    ignored: int = 0
    changed: int = 0
    unchanged: int = 0
    rejected: int = 0


class RunHeartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of a run, for the table that the pages and the API read."""

    share: float | None
    records_per_s: float
    throttled_by_lag_s: float
    throttled_by_rate_s: float


async def end_unfinished(database_url: str, job_id: str, reason: str) -> bool:
    """End an incomplete job that no process is running. Returns False if there's none with this id.

    Raises StoreUnavailableError and FatalError.
    """
    connection = ReconnectingConnection(
        database_url, application_name="normalizer jobs", session=_SESSION
    )
    try:
        async with connection.use() as used:
            return bool(await used.fetch(job_statements.END_UNFINISHED, job_id, reason))
    except FOREIGN_ERRORS as error:
        raise translate_error(error) from error
    finally:
        connection.terminate()


class JobRun:
    """One run of a job, while this process is its runner. Use `JobRun.begin` with `async with`.

    Every method raises StoreUnavailableError if the database is unreachable, and FatalError if
    another runner has the job.
    """

    def __init__(self, database_url: str, spec: JobSpec, owner: str) -> None:
        name = f"normalizer job {spec.job_id}"
        self._connection = ReconnectingConnection(
            database_url, application_name=name, session=_SESSION
        )
        self._lock = ReconnectingConnection(
            database_url,
            application_name=name,
            session=_SESSION | _LOCK_SESSION,
            prepare=self._take_lock,
        )
        self._lock_pids: list[int] = []
        self._lock_transaction: Transaction | None = None
        self.owner = owner
        self.spec = spec
        self.number = 0
        self.epoch = 0
        self.resumed = False
        self.throttled_before_s = (0.0, 0.0)

    @classmethod
    async def begin(cls, database_url: str, spec: JobSpec, *, owner: str) -> Self:
        """Resume the last run of the job, or begin a new run if the last one has read everything.

        Raises FatalError if another process is running the job.
        """
        run = cls(database_url, spec, owner)
        try:
            async with run._lock.use(), run._connection.use() as connection:
                await run._begin(connection)
        except (*FOREIGN_ERRORS, FatalError) as error:
            await run._release()
            raise error if isinstance(error, FatalError) else translate_error(error) from error
        return run

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._release()

    async def positions(self, parts: Iterable[SourcePart]) -> dict[PartKey, ReadPosition]:
        """Return the position of each part of the run. A new part begins at its start."""
        rows = [(*part.key, part.start, part.end) for part in parts]
        if rows:
            await self._fetch(job_statements.ADD_PARTS, *map(list, zip(*rows, strict=True)))
        return {
            (row["topic"], row["incarnation"], row["partition"]): ReadPosition(
                start=row["start_offset"],
                next_offset=row["next_offset"],
                end=row["end_offset"],
                cursor=row["cursor"],
            )
            for row in await self._fetch(job_statements.READ_PARTS)
        }

    async def totals(self) -> RunTotals:
        """Return the committed totals."""
        (row,) = await self._fetch(job_statements.READ_TOTALS)
        return RunTotals(**row)

    async def heartbeat(self, heartbeat: RunHeartbeat) -> None:
        """Store the progress."""
        if not await self._fetch(
            job_statements.WRITE_HEARTBEAT, self.epoch, *msgspec.structs.astuple(heartbeat)
        ):
            raise self._lost()

    async def end(self, state: RunState, reason: str, heartbeat: RunHeartbeat) -> None:
        """Store the result, or that the run was stopped and can be resumed."""
        last = (*msgspec.structs.astuple(heartbeat), state, reason)
        if not await self._fetch(job_statements.END_RUN, self.epoch, *last):
            raise self._lost()

    def _lost(self) -> FatalError:
        return FatalError(f"job {self.spec.job_id}: another runner took it over, so this one ends")

    async def _fetch(self, statement: str, *values: object) -> list[asyncpg.Record]:
        try:
            async with self._lock.use(), self._connection.use() as connection:
                rows: list[asyncpg.Record] = await connection.fetch(
                    statement, self.spec.job_id, self.number, *values
                )
        except FOREIGN_ERRORS as error:
            raise translate_error(error) from error
        return rows

    async def _release(self) -> None:
        try:
            if self._lock_transaction is not None:
                await release(self._lock_transaction)
        finally:
            self._terminate()

    def _terminate(self) -> None:
        self._connection.terminate()
        self._lock.terminate()

    async def _take_lock(self, connection: asyncpg.Connection) -> None:
        """Take the job's lock, in a transaction that stays open. Called again after an outage.

        A session's lock wouldn't do: behind a pooler, the session continues after this process has
        ended, and so would the lock. After a broken connection the server may not have noticed yet,
        and our old session still has the lock. In that case it's ended first.
        """
        self._lock_transaction = lock = connection.transaction()
        await lock.start()
        lost = tuple(self._lock_pids)
        self._lock_pids.append(connection.get_server_pid())
        await connection.execute(job_statements.END_LOST, self.spec.lock_key, lost)
        if await connection.fetchval(job_statements.TRY_LOCK, self.spec.lock_key):
            del self._lock_pids[:-1]
            return
        last = await connection.fetchrow(job_statements.LAST_RUN, self.spec.job_id)
        by = f" by {last['owner']}" if last else ""
        raise FatalError(
            f"job {self.spec.job_id} ({self.spec}) is already running{by}, and a job can have one "
            "runner at a time"
        )

    async def _begin(self, connection: asyncpg.Connection) -> None:
        await reject_other_files(connection)
        async with connection.transaction():
            await self._take(connection)
            await check_protocol(connection)

    async def _take(self, connection: asyncpg.Connection) -> None:
        job_id = self.spec.job_id
        row: asyncpg.Record | None = None
        while row is None:  # retention may delete the run while we resume it
            last = await connection.fetchrow(job_statements.LAST_RUN, job_id)
            self.resumed = last is not None and not last["is_over"]
            if self.resumed:
                self.number = last["run"]
                row = await connection.fetchrow(
                    job_statements.RESUME_RUN, job_id, self.number, self.owner
                )
            else:
                self.number = last["run"] + 1 if last else 1
                row = await connection.fetchrow(
                    job_statements.BEGIN_RUN,
                    job_id,
                    self.number,
                    self.spec.kind,
                    str(self.spec),
                    self.owner,
                    self.spec.lock_key,
                )
        if self.resumed:
            self.throttled_before_s = (row["throttled_by_lag_s"], row["throttled_by_rate_s"])
        self.epoch = row["epoch"]
