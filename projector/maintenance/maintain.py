"""Runs every maintenance step in a safe order, and yields one line about each change.

Only one process at a time maintains a database (`maintenance_lock`). You can stop a run anywhere,
because the next run continues. If a step fails, the others still run, but no sample is verified at
the end. So one alert on the age of the last verified sample is enough: it fires if nobody runs
`projector maintain`, and also if a step keeps failing.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg
import msgspec

from normalizer.errors import NormalizerError, StoreUnavailableError
from normalizer.postgres.database import roll_back_lock_transaction
from projector.database_session import error_sentence, open_connection
from projector.hours import start_of_hour
from projector.maintenance.archive import ArchiveFolder
from projector.maintenance.counter_retention import (
    compact_shards,
    delete_hour_counts_without_events,
    delete_old_minute_counts,
)
from projector.maintenance.event_retention import delete_silent_executions
from projector.maintenance.merged_records import delete_orphaned_merged_records
from projector.maintenance.retention import (
    GAPS_RETENTION_RULE,
    QUARANTINE_RETENTION_RULE,
    RAW_BYTES_RETENTION_RULE,
    delete_old_job_runs,
    delete_old_rows,
)
from projector.verify.divergences import store_verdict
from projector.verify.ranges import VerifyScope
from projector.verify.verdict import ProjectionVerdict
from projector.verify.verify import verify

_LOCK: Final = 5_203_947_410_821
_MOST_SKEW: Final = timedelta(hours=1)


class MaintainerBusyError(NormalizerError):
    """`projector maintain` or `projector repair` is already running on this database."""


class ClocksDifferError(NormalizerError):
    """The clocks of the database and this machine differ too much to tell which rows are old."""


class StepsFailedError(NormalizerError):
    """The database rejected some steps. All others are done, and the next run retries."""


class RetentionPeriods(msgspec.Struct, frozen=True, kw_only=True):
    """How long to keep each kind of row. None keeps it indefinitely.

    A record that reached the log longer ago than `events` is ignored. An execution is deleted when
    its last event is older than `events` plus `margin`. So if two reports of an event arrive at
    most `margin` apart, the event is counted only once. `jobs` applies to finished job runs, which
    stay until all of their events are deleted, and `hours` to hourly counts of deleted events.
    `minutes` must be at least two days, because views show counts by minute that far back.
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
    keep: RetentionPeriods,
    *,
    dry_run: bool,
    sample: VerifyScope | None = None,
    folder: ArchiveFolder | None = None,
) -> AsyncGenerator[str | ProjectionVerdict, None]:
    """Run every step, and yield a line per change, then a verdict per projection on the sample.

    With `dry_run` nothing is changed, and the lines say what a run would do. With `folder`, events
    are written there before they're deleted. The verdicts are stored for the view `agreement`. The
    caller must hold `maintenance_lock`.

    Raises ClocksDifferError before the first step if the database's clock differs from this
    machine's by more than an hour, because a wrong clock would delete rows that no later run could
    restore. Raises StepsFailedError after the last step if any step failed.
    """
    now: datetime = await connection.fetchval("select now()")
    here = datetime.now(UTC)
    if abs(now - here) > _MOST_SKEW:
        raise ClocksDifferError(
            "nothing was done because two clocks disagree: the database's clock says "
            f"{now:%Y-%m-%d %H:%M} UTC, and this machine's says {here:%Y-%m-%d %H:%M} UTC. "
            "Correct the wrong clock, then run the command again"
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
            yield f"{name} failed: {error_sentence(error)}"
    if failed:
        raise StepsFailedError(
            f"{len(failed)} of {len(steps)} steps failed: {', '.join(failed)}. The next run tries "
            "them again"
        )


@asynccontextmanager
async def maintenance_lock(url: str) -> AsyncIterator[None]:
    """Hold the lock that lets only one process at a time maintain or repair the database.

    The lock belongs to a transaction that stays open. If it belonged to the session, a connection
    pooler could keep it after this process has ended. Raises MaintainerBusyError if another process
    holds the lock. If its connection breaks, the lock is lost, so the block is cancelled and raises
    StoreUnavailableError.
    """
    async with open_connection(url, idle_in_transaction_session_timeout="0") as connection:
        transaction = connection.transaction()
        await transaction.start()
        if not await connection.fetchval("select pg_try_advisory_xact_lock($1::bigint)", _LOCK):
            raise MaintainerBusyError(
                "`projector maintain` or `projector repair` is already running on this database. "
                "Try again when it has finished"
            )
        try:
            async with _while_open(connection):
                yield
        finally:
            await roll_back_lock_transaction(transaction)


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
            raise StoreUnavailableError(
                "this run was stopped because the connection that holds the maintenance lock was "
                "lost. The next run continues where this one stopped"
            ) from error
        raise


def _steps(
    connection: asyncpg.Connection,
    keep: RetentionPeriods,
    now: datetime,
    folder: ArchiveFolder | None,
    *,
    dry_run: bool,
) -> dict[str, AsyncIterator[str | ProjectionVerdict]]:
    """Return the steps by name, in order. Iterating over one runs it."""
    steps: dict[str, AsyncIterator[str | ProjectionVerdict]] = {}
    if keep.events is not None:
        before = now - keep.events
        steps["retention of events"] = delete_silent_executions(
            connection, before, keep.margin, folder, dry_run=dry_run
        )
        steps["retention of merged records"] = delete_orphaned_merged_records(
            connection, dry_run=dry_run
        )
    for name, old, kept in (
        ("quarantine", QUARANTINE_RETENTION_RULE, keep.quarantine),
        ("rejected bytes", RAW_BYTES_RETENTION_RULE, keep.raw),
        ("gaps", GAPS_RETENTION_RULE, keep.gaps),
    ):
        if kept is not None:
            steps[f"retention of {name}"] = delete_old_rows(
                connection, old, now - kept, dry_run=dry_run
            )
    if keep.jobs is not None:
        steps["retention of jobs"] = delete_old_job_runs(
            connection, now - keep.jobs, dry_run=dry_run
        )
    steps["compaction of shards"] = compact_shards(connection, now, dry_run=dry_run)
    steps["retention of minutes"] = delete_old_minute_counts(
        connection, start_of_hour(now - keep.minutes), dry_run=dry_run
    )
    if keep.hours is not None:
        steps["retention of hours"] = delete_hour_counts_without_events(
            connection, now - keep.hours, dry_run=dry_run
        )
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
    connection: asyncpg.Connection, sample: VerifyScope, failed: list[str]
) -> AsyncIterator[str | ProjectionVerdict]:
    if failed:
        yield "verification of a sample left out: a step failed"
        return
    async for verdict in verify(connection, sample):
        await store_verdict(connection, verdict)
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
