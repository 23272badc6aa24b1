"""Runs every maintenance step in a safe order, and reports each change in one line.

A lock ensures that only one maintainer runs at a time. Any step can be interrupted, and the next
run continues. If a step fails, the others still run, but the sample isn't verified. So a single
alert, on the age of the last verified sample, covers both that nothing runs and that a step fails.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg
import msgspec

from normalizer.errors import NormalizerError, StoreUnavailableError
from normalizer.postgres.database import release
from projector.database_session import open_connection, sentence
from projector.hours import start_of_hour
from projector.maintenance.archive import ArchiveFolder
from projector.maintenance.event_retention import drop_events
from projector.maintenance.housekeeping import (
    compact_shards,
    drop_hours,
    drop_minutes,
)
from projector.maintenance.merged_records import drop_merged_records
from projector.maintenance.retention import (
    GAPS,
    QUARANTINE,
    RAW,
    drop_jobs,
    drop_old,
)
from projector.verify.divergences import record
from projector.verify.ranges import Scope
from projector.verify.verdict import Verdict
from projector.verify.verify import verify

_LOCK: Final = 5_203_947_410_821
_MOST_SKEW: Final = timedelta(hours=1)


class MaintainerBusyError(NormalizerError):
    """Another process is maintaining or repairing this database."""


class ClocksDifferError(NormalizerError):
    """One of two clocks is so wrong that nobody can tell what's old."""


class StepsFailedError(NormalizerError):
    """The database rejected some steps. All others are done, and the next run retries."""


class Keep(msgspec.Struct, frozen=True, kw_only=True):
    """How long to keep rows. None means indefinitely.

    `events` is how old a record may be to be stored. `margin` is how much longer an execution must
    have been silent before it's deleted, so that two reports of one event at most this far apart
    count once. `jobs` are deleted only after all of their events. `hours` are counts of deleted
    events. `minutes` must be at least the two days that the views show.
    """

    minutes: timedelta = timedelta(days=2)
    hours: timedelta | None = None
    events: timedelta | None = None
    margin: timedelta = timedelta(days=7)
    quarantine: timedelta | None = None
    raw: timedelta | None = timedelta(days=30)
    gaps: timedelta | None = None
    jobs: timedelta | None = None
    verifications: timedelta = timedelta(days=30)


async def maintain(
    connection: asyncpg.Connection,
    keep: Keep,
    *,
    dry_run: bool,
    sample: Scope | None = None,
    folder: ArchiveFolder | None = None,
) -> AsyncGenerator[str | Verdict, None]:
    """Yield one line for each change (with `dry_run`, each possible change), then verdicts.

    It writes events to `folder`, if there is one, before it deletes them. It verifies `sample` at
    the end if no step failed, and stores its verdicts for the view `agreement`. The caller holds
    the lock. Raises ClocksDifferError before the first step, because no later run could restore
    what a wrong clock deletes. Raises StepsFailedError after the last step if the database
    rejected any.
    """
    now: datetime = await connection.fetchval("select now()")
    here = datetime.now(UTC)
    if abs(now - here) > _MOST_SKEW:
        raise ClocksDifferError(
            f"the database's clock says {now:%Y-%m-%d %H:%M}, this machine's "
            f"{here:%Y-%m-%d %H:%M}, both UTC, so nothing was done; correct the clock that is wrong"
        )
    steps = _steps(connection, keep, now, folder, dry_run=dry_run)
    failed: list[str] = []
    if sample is not None and not dry_run:
        steps["verification of a sample"] = _verified(connection, sample, failed)
    for name, step in steps.items():
        try:
            async for done in step:
                yield done
        except (asyncpg.PostgresError, NormalizerError) as error:
            if connection.is_closed():
                raise
            failed.append(name)
            yield f"{name} failed: {sentence(error)}"
    if failed:
        raise StepsFailedError(f"{len(failed)} of {len(steps)} steps failed: {', '.join(failed)}")


@asynccontextmanager
async def maintenance_lock(url: str) -> AsyncIterator[None]:
    """Hold the lock of maintenance and repair with a transaction that stays open.

    A session lock would stay with a pooler after this process has ended. Raises
    MaintainerBusyError if another process has the lock, and ends the block with
    StoreUnavailableError if it's lost.
    """
    async with open_connection(url, idle_in_transaction_session_timeout="0") as connection:
        transaction = connection.transaction()
        await transaction.start()
        if not await connection.fetchval("select pg_try_advisory_xact_lock($1::bigint)", _LOCK):
            raise MaintainerBusyError("another process is maintaining or repairing this database")
        try:
            async with _while_open(connection):
                yield
        finally:
            await release(transaction)


@asynccontextmanager
async def _while_open(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Cancel the block when the connection ends, as if it timed out."""

    def end(_: asyncpg.Connection) -> None:
        block.reschedule(asyncio.get_running_loop().time())

    block = asyncio.timeout(None)
    try:
        async with block:
            connection.add_termination_listener(end)
            try:
                yield
            finally:
                connection.remove_termination_listener(end)
    except TimeoutError as error:
        if block.expired():
            raise StoreUnavailableError("the connection that holds the lock has ended") from error
        raise


def _steps(
    connection: asyncpg.Connection,
    keep: Keep,
    now: datetime,
    folder: ArchiveFolder | None,
    *,
    dry_run: bool,
) -> dict[str, AsyncIterator[str | Verdict]]:
    """Yield the steps by name, in order. Iterating over one runs it."""
    steps: dict[str, AsyncIterator[str | Verdict]] = {}
    if keep.events is not None:
        before = now - keep.events
        steps["retention of events"] = drop_events(
            connection, before, keep.margin, folder, dry_run=dry_run
        )
        steps["retention of merged records"] = drop_merged_records(connection, dry_run=dry_run)
    for name, old, kept in (
        ("quarantine", QUARANTINE, keep.quarantine),
        ("rejected bytes", RAW, keep.raw),
        ("gaps", GAPS, keep.gaps),
    ):
        if kept is not None:
            steps[f"retention of {name}"] = drop_old(connection, old, now - kept, dry_run=dry_run)
    if keep.jobs is not None:
        steps["retention of jobs"] = drop_jobs(connection, now - keep.jobs, dry_run=dry_run)
    steps["compaction of shards"] = compact_shards(connection, now, dry_run=dry_run)
    steps["retention of minutes"] = drop_minutes(
        connection, start_of_hour(now - keep.minutes), dry_run=dry_run
    )
    if keep.hours is not None:
        steps["retention of hours"] = drop_hours(connection, now - keep.hours, dry_run=dry_run)
    if not dry_run:
        steps["retention of verdicts"] = _drop_verdicts(connection, now - keep.verifications)
    return steps


async def _drop_verdicts(connection: asyncpg.Connection, before: datetime) -> AsyncIterator[str]:
    """Delete verdicts that a later one replaces, and divergences that ended before `before`.

    An inconclusive verdict replaces only another one.
    """
    dropped = await connection.fetchval(_DROP_VERDICTS, before)
    if dropped:
        yield f"dropped {dropped:,} verdicts that later ones replace"


async def _verified(
    connection: asyncpg.Connection, sample: Scope, failed: list[str]
) -> AsyncIterator[str | Verdict]:
    if failed:
        yield "verification of a sample left out: a step failed"
        return
    async for verdict in verify(connection, sample):
        await record(connection, verdict)
        yield verdict


_DROP_VERDICTS: Final = """
    with ended as (
        delete from divergences where ended_at < $1::timestamptz
    ),
    dropped as (
        delete from verifications
        where       verified_at < $1::timestamptz
        and         exists (
                        select
                        from   verifications as later
                        where  later.projection = verifications.projection
                        and    later.scope = verifications.scope
                        and    later.verification_id > verifications.verification_id
                        and    (
                                   later.verdict <> 'inconclusive'
                                   or verifications.verdict = 'inconclusive'
                               )
                    )
        returning   1
    )
    select count(*) from dropped
"""
