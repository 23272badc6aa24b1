"""One run of a job, protected by an advisory lock and an epoch.

Only one process at a time may run a job. The advisory lock keeps a second runner from starting.
It's held on a separate connection and ends with the process, so nobody has to clean up after a
crash. If a runner loses the lock without noticing, for example in a network failure, the epoch
keeps it from writing. Each runner takes the next epoch, and every batch checks in its own
transaction that the epoch is still the runner's.
"""

from collections.abc import Iterable
from typing import Final, Literal, Self

import asyncpg
import msgspec
from asyncpg.transaction import Transaction

from normalizer.core.batch import OutcomeTotals
from normalizer.errors import FatalError
from normalizer.jobs.engine.job_spec import JobSpec
from normalizer.jobs.engine.throttle import ThrottleCause
from normalizer.jobs.sources.job_source import PartKey, ReadPosition, SourcePart
from normalizer.postgres.database import roll_back_lock_transaction
from normalizer.store.claim_checks import check_writer_protocol
from normalizer.store.migrate import check_applied_migrations
from normalizer.store.reconnecting_connection import ReconnectingConnection
from normalizer.store.sqlstate import STATEMENT_ERRORS, translate_error

RunState = Literal["running", "stopped", "complete", "truncated", "failed"]

_SESSION: Final = {
    "statement_timeout": "60s",
    "search_path": "normalizer, public",
}


_LOCK_SESSION: Final = {
    "idle_in_transaction_session_timeout": "0",
    # The server holds the runner's lock until it ends this session. If the runner's machine or
    # network fails, nothing closes the connection. With these settings the server notices within a
    # minute instead of hours, so another runner can take over.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}


class RunTotals(OutcomeTotals, frozen=True, kw_only=True):
    """The totals of a run over all its parts.

    `outcomes` includes the rows that the run changed, left unchanged, or rejected.
    """

    expired: int = 0
    changed: int = 0
    unchanged: int = 0
    rejected: int = 0


class RunHeartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of a run, for the table that the pages and the API read."""

    share: float | None
    records_per_s: float
    throttled_by_lag_s: float
    throttled_by_rate_s: float


# Ends the last run of a job, unless a process is running it. Such a process holds the job's lock,
# and then this statement finds no row and changes nothing. If a process has lost that lock without
# noticing, the higher epoch makes its next write fail, which stops it.
#
# Each part of the source, such as a file or a partition, ends where reading stopped, because its
# `end_offset` is set to its `next_offset`. That leaves nothing to read, so the run counts as over,
# and the next command begins a new one.
_END_UNFINISHED: Final = """
    with ended as (
        update normalizer.jobs as job
        set    epoch = epoch + 1, state = 'stopped', reason = $2::text, updated_at = now(),
               ended_at = now()
        where  job_id = $1::text
        and    run = (select max(run) from normalizer.jobs where job_id = $1::text)
        and    (state = 'running' or state <> 'complete' and exists (
                   select
                   from   normalizer.job_parts as part
                   where  (part.job_id, part.run) = (job.job_id, job.run)
                   and    (part.next_offset >= part.end_offset) is not true
               ))
        and    pg_try_advisory_xact_lock(lock_key)
        returning job_id, run
    ),
    closed as (
        update normalizer.job_parts as part
        set    end_offset = next_offset
        from   ended
        where  (part.job_id, part.run) = (ended.job_id, ended.run)
    )
    select run from ended
"""


async def end_unfinished_job(database_url: str, job_id: str, reason: str) -> bool:
    """End an incomplete job that no process is running. Returns False if there's none with this id.

    Raises StoreUnavailableError and FatalError.
    """
    connection = ReconnectingConnection(
        database_url, application_name="normalizer jobs", session=_SESSION
    )
    try:
        async with connection.acquire() as used:
            return bool(await used.fetch(_END_UNFINISHED, job_id, reason))
    except STATEMENT_ERRORS as error:
        raise translate_error(error) from error
    finally:
        connection.terminate()


_TRY_LOCK: Final = "select pg_try_advisory_xact_lock($1::bigint)"

TERMINATE_LOCK_SESSIONS_SQL: Final = """
    select pg_terminate_backend(pid, 5000)
    from   pg_locks
    where  locktype = 'advisory' and objsubid = 1 and granted
    and    (classid::bigint << 32 | objid::bigint) = $1::bigint and pid = any($2::integer[])
"""

# A run is over once it has nothing left to read. Then the next run begins.
_LAST_RUN: Final = """
    select   run, owner,
             state = 'complete' or state <> 'running' and (
                 select bool_and(coalesce(part.next_offset >= part.end_offset, false))
                 from   normalizer.job_parts as part
                 where  (part.job_id, part.run) = (job.job_id, job.run)
             ) is true as is_over
    from     normalizer.jobs as job
    where    job_id = $1::text
    order by run desc
    limit    1
"""

_BEGIN_RUN: Final = """
    insert into normalizer.jobs (job_id, run, kind, spec, owner, lock_key)
    values ($1::text, $2::integer, $3::text, $4::text, $5::text, $6::bigint)
    returning epoch
"""

RESUME_RUN_SQL: Final = """
    update normalizer.jobs
    set    owner = $3::text, epoch = epoch + 1, state = 'running', reason = '', ended_at = null,
           updated_at = now()
    where  job_id = $1::text and run = $2::integer
    returning epoch, throttled_by_lag_s, throttled_by_rate_s
"""

_ADD_PARTS: Final = """
    insert into normalizer.job_parts (
        job_id, run, topic, incarnation, partition, start_offset, next_offset, end_offset
    )
    select $1::text, $2::integer, part.topic, part.incarnation, part.partition, part.start_offset,
           part.start_offset, part.end_offset
    from   unnest($3::text[], $4::integer[], $5::integer[], $6::bigint[], $7::bigint[])
           as part (topic, incarnation, partition, start_offset, end_offset)
    on conflict on constraint job_parts_pkey do nothing
"""

_READ_PARTS: Final = """
    select   topic, incarnation, partition, start_offset, next_offset, end_offset, cursor
    from     normalizer.job_parts
    where    job_id = $1::text and run = $2::integer
    order by topic, incarnation, partition
"""

_READ_TOTALS: Final = """
    select coalesce(sum(records), 0)::bigint     as records,
           coalesce(sum(holes), 0)::bigint       as holes,
           coalesce(sum(expired), 0)::bigint     as expired,
           coalesce(sum(outcomes), 0)::bigint    as outcomes,
           coalesce(sum(stored), 0)::bigint      as stored,
           coalesce(sum(duplicate), 0)::bigint   as duplicate,
           coalesce(sum(merged), 0)::bigint      as merged,
           coalesce(sum(quarantined), 0)::bigint as quarantined,
           coalesce(sum(ignored), 0)::bigint     as ignored,
           coalesce(sum(changed), 0)::bigint     as changed,
           coalesce(sum(unchanged), 0)::bigint   as unchanged,
           coalesce(sum(rejected), 0)::bigint     as rejected
    from   normalizer.job_parts
    where  job_id = $1::text and run = $2::integer
"""

# Writes the heartbeat only under the current epoch. A runner that has lost the job still has an
# older epoch, and must not report for the job any more.
_WRITE_HEARTBEAT: Final = """
    update normalizer.jobs
    set    progress_ratio = greatest($4::double precision, progress_ratio),
           records_per_s = $5::double precision,
           throttled_by_lag_s = $6::double precision, throttled_by_rate_s = $7::double precision,
           updated_at = now()
    where  job_id = $1::text and run = $2::integer and epoch = $3::bigint
    returning true
"""

_END_RUN: Final = """
    update normalizer.jobs
    set    progress_ratio = case when $8::text = 'complete' then 1
                        else greatest($4::double precision, progress_ratio) end,
           records_per_s = $5::double precision, throttled_by_lag_s = $6::double precision,
           throttled_by_rate_s = $7::double precision, state = $8::text, reason = $9::text,
           updated_at = now(), ended_at = now()
    where  job_id = $1::text and run = $2::integer and epoch = $3::bigint
    returning true
"""


class JobRun:
    """One run of a job, while this process is its runner. Use `begin_or_resume` with `async with`.

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
        self.throttled_before_s: dict[ThrottleCause, float] = {}
        """How long earlier processes of this run were throttled."""

    @classmethod
    async def begin_or_resume(cls, database_url: str, spec: JobSpec, *, owner: str) -> Self:
        """Resume the last run of the job, or begin a new run if the last one has read everything.

        Raises FatalError if another process is running the job.
        """
        run = cls(database_url, spec, owner)
        try:
            async with run._lock.acquire(), run._connection.acquire() as connection:
                await run._begin(connection)
        except (*STATEMENT_ERRORS, FatalError) as error:
            await run._release()
            raise error if isinstance(error, FatalError) else translate_error(error) from error
        return run

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._release()

    async def read_or_create_positions(
        self, parts: Iterable[SourcePart]
    ) -> dict[PartKey, ReadPosition]:
        """Return the position of each part of the run. A new part begins at its start."""
        rows = [(*part.key, part.start, part.end) for part in parts]
        if rows:
            await self._fetch(_ADD_PARTS, *map(list, zip(*rows, strict=True)))
        return {
            (row["topic"], row["incarnation"], row["partition"]): ReadPosition(
                start=row["start_offset"],
                next_offset=row["next_offset"],
                end=row["end_offset"],
                cursor=row["cursor"],
            )
            for row in await self._fetch(_READ_PARTS)
        }

    async def read_totals(self) -> RunTotals:
        """Return the committed totals."""
        (row,) = await self._fetch(_READ_TOTALS)
        return RunTotals(**row)

    async def store_heartbeat(self, heartbeat: RunHeartbeat) -> None:
        """Store the progress."""
        if not await self._fetch(_WRITE_HEARTBEAT, self.epoch, *msgspec.structs.astuple(heartbeat)):
            raise self.taken_over_error()

    async def end(self, state: RunState, reason: str, heartbeat: RunHeartbeat) -> None:
        """Store the result, or that the run was stopped and can be resumed."""
        last = (*msgspec.structs.astuple(heartbeat), state, reason)
        if not await self._fetch(_END_RUN, self.epoch, *last):
            raise self.taken_over_error()

    def taken_over_error(self) -> FatalError:
        """Build the error for a run that another process has resumed."""
        return FatalError(
            f"job {self.spec.job_id}: another process has taken over this run, so this process "
            "ends and writes nothing more"
        )

    async def _fetch(self, statement: str, *values: object) -> list[asyncpg.Record]:
        try:
            async with self._lock.acquire(), self._connection.acquire() as connection:
                rows: list[asyncpg.Record] = await connection.fetch(
                    statement, self.spec.job_id, self.number, *values
                )
        except STATEMENT_ERRORS as error:
            raise translate_error(error) from error
        return rows

    async def _release(self) -> None:
        try:
            if self._lock_transaction is not None:
                await roll_back_lock_transaction(self._lock_transaction)
        finally:
            self._connection.terminate()
            self._lock.terminate()

    async def _take_lock(self, connection: asyncpg.Connection) -> None:
        """Take the job's lock in a transaction that stays open. Call it again after an outage.

        A session lock wouldn't work, because behind a pooler the session outlives this process, and
        the lock with it. After a connection breaks, the server may not notice for a while, so our
        own old session may still hold the lock. That's why this ends the old session first.
        """
        self._lock_transaction = lock = connection.transaction()
        await lock.start()
        lost = tuple(self._lock_pids)
        self._lock_pids.append(connection.get_server_pid())
        await connection.execute(TERMINATE_LOCK_SESSIONS_SQL, self.spec.lock_key, lost)
        if await connection.fetchval(_TRY_LOCK, self.spec.lock_key):
            del self._lock_pids[:-1]
            return
        last = await connection.fetchrow(_LAST_RUN, self.spec.job_id)
        place = f" in process {last['owner']}" if last else ""
        raise FatalError(
            f"job {self.spec.job_id} ({self.spec}) can't start, because it is already "
            f"running{place}. Wait until that run has ended, or stop it"
        )

    async def _begin(self, connection: asyncpg.Connection) -> None:
        await check_applied_migrations(connection)
        async with connection.transaction():
            await self._take(connection)
            await check_writer_protocol(connection)

    async def _take(self, connection: asyncpg.Connection) -> None:
        job_id = self.spec.job_id
        row: asyncpg.Record | None = None
        while row is None:  # retention may delete the run while we resume it
            last = await connection.fetchrow(_LAST_RUN, job_id)
            self.resumed = last is not None and not last["is_over"]
            if self.resumed:
                self.number = last["run"]
                row = await connection.fetchrow(RESUME_RUN_SQL, job_id, self.number, self.owner)
            else:
                self.number = last["run"] + 1 if last else 1
                row = await connection.fetchrow(
                    _BEGIN_RUN,
                    job_id,
                    self.number,
                    self.spec.kind,
                    str(self.spec),
                    self.owner,
                    self.spec.lock_key,
                )
        if self.resumed:
            self.throttled_before_s = {
                "live_lag": row["throttled_by_lag_s"],
                "max_rate": row["throttled_by_rate_s"],
            }
        self.epoch = row["epoch"]
