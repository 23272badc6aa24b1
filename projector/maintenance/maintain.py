"""What an operator wants kept in, what was done about it out: one line a thing, in a safe order.

One maintainer at a time: an advisory lock on its own connection, freed at once if it dies. Every
step can stop anywhere; the next run goes on. A step that fails keeps no other from its turn.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final

import asyncpg
import msgspec

from normalizer.errors import NormalizerError
from projector.database_session import sentence
from projector.maintenance.archive import ArchiveFolder
from projector.maintenance.bookkeeping import drop_gaps, drop_jobs
from projector.maintenance.housekeeping import (
    compact_shards,
    drop_hours,
    drop_minutes,
    refresh_statistics,
)
from projector.maintenance.merged_records import drop_merged_records
from projector.maintenance.retention import (
    drop_events,
    drop_executions,
    drop_quarantine,
    drop_raw,
)
from projector.verify.ranges import Scope
from projector.verify.verify import Verdict, record, verify

_LOCK: Final = 5_203_947_410_821


class MaintainerBusy(NormalizerError):  # noqa: N818 - a state, not a mistake
    """Another process maintains this database just now."""


class StepsFailed(NormalizerError):  # noqa: N818 - the steps are the mistake, not this
    """The database refused some of what is to be done; all else is done, and the next run tries."""


class Keep(msgspec.Struct, frozen=True, kw_only=True):
    """How long rows are kept; None: for ever. Minutes: at least as long as the views show them.

    Events are taken in for as long as `events` says, and kept for the margin longer: reports of one
    event that are at most so far apart count once. Executions are forgotten only when none of their
    events is left; so are runs of jobs. `hours` is of what is counted of events that are gone.
    """

    minutes: timedelta = timedelta(days=2)
    hours: timedelta | None = None
    events: timedelta | None = None
    margin: timedelta = timedelta(days=7)
    executions: timedelta | None = None
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
    """Each thing that was done, or would be, and what it verified.

    Events that go are written into the folder, if there is one, before they do. `sample` is
    verified at the end, and what is found kept for the view `agreement`. Raises MaintainerBusy;
    StepsFailed after the last step, if the database refused one or more of them.
    """
    async with maintenance_lock(connection):
        now: datetime = await connection.fetchval("select now()")
        steps = _steps(connection, keep, now, folder, dry_run=dry_run)
        if sample is not None and not dry_run:
            steps["verification of a sample"] = _verified(connection, sample)
        failed: list[str] = []
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
            raise StepsFailed(f"{len(failed)} of {len(steps)} steps failed: {', '.join(failed)}")


@asynccontextmanager
async def maintenance_lock(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """No other process maintains or repairs meanwhile. Raises MaintainerBusy."""
    if not await connection.fetchval("select pg_try_advisory_lock($1::bigint)", _LOCK):
        raise MaintainerBusy("another process maintains or repairs this database just now")
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute("select pg_advisory_unlock($1::bigint)", _LOCK)


def _steps(
    connection: asyncpg.Connection,
    keep: Keep,
    now: datetime,
    folder: ArchiveFolder | None,
    *,
    dry_run: bool,
) -> dict[str, AsyncIterator[str | Verdict]]:
    """By name, in order; none has begun."""
    steps: dict[str, AsyncIterator[str | Verdict]] = {}
    if keep.events is not None:
        before = now - keep.events
        steps["retention of events"] = drop_events(
            connection, before, keep.margin, folder, dry_run=dry_run
        )
        steps["retention of merged records"] = drop_merged_records(connection, dry_run=dry_run)
    if keep.executions is not None:
        steps["retention of executions"] = drop_executions(
            connection, now - keep.executions, dry_run=dry_run
        )
    if keep.quarantine is not None:
        steps["retention of quarantine"] = drop_quarantine(
            connection, now - keep.quarantine, dry_run=dry_run
        )
    if keep.raw is not None:
        steps["retention of refused bytes"] = drop_raw(connection, now - keep.raw, dry_run=dry_run)
    if keep.gaps is not None:
        steps["retention of gaps"] = drop_gaps(connection, now - keep.gaps, dry_run=dry_run)
    if keep.jobs is not None:
        steps["retention of jobs"] = drop_jobs(connection, now - keep.jobs, dry_run=dry_run)
    steps["compaction of shards"] = compact_shards(connection, now, dry_run=dry_run)
    steps["retention of minutes"] = drop_minutes(
        connection, _hour_of(now - keep.minutes), dry_run=dry_run
    )
    if keep.hours is not None:
        steps["retention of hours"] = drop_hours(connection, now - keep.hours, dry_run=dry_run)
    steps["statistics"] = refresh_statistics(connection, dry_run=dry_run)
    if not dry_run:
        steps["retention of verdicts"] = _drop_verdicts(connection, now - keep.verifications)
    return steps


async def _drop_verdicts(connection: asyncpg.Connection, before: datetime) -> AsyncIterator[str]:
    """Those that a later one has taken the place of, and notes that ended before then."""
    dropped = await connection.fetchval(_DROP_VERDICTS, before)
    if dropped:
        yield f"dropped {dropped:,} verdicts that later ones have followed"


async def _verified(connection: asyncpg.Connection, sample: Scope) -> AsyncIterator[Verdict]:
    async for verdict in verify(connection, sample):
        await record(connection, verdict)
        yield verdict


def _hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


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
                    )
        returning   1
    )
    select count(*) from dropped
"""
