"""What an operator wants kept in, what was done about it out: one line a thing, in a safe order.

One maintainer at a time: an advisory lock on its own connection, freed at once if it dies. Every
step can stop anywhere; the next run goes on.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final

import asyncpg
import msgspec

from normalizer.errors import NormalizerError
from projector.archive import ArchiveFolder
from projector.retention import (
    drop_events,
    drop_executions,
    drop_quarantine,
    drop_raw,
    drop_tellings,
)
from projector.upkeep import drop_minutes, fold_shards, refresh_statistics
from projector.verify import Verdict, record, verify
from projector.windows import Scope

_LOCK: Final = 5_203_947_410_821


class MaintainerBusy(NormalizerError):  # noqa: N818 - a state, not a mistake
    """Another process maintains this database just now."""


class Keep(msgspec.Struct, frozen=True, kw_only=True):
    """How long rows are kept; None: for ever. Minutes: at least as long as the views show them.

    Events are taken in for as long as `events` says, and kept for the margin longer: reports of one
    event that are at most so far apart count once. Executions are forgotten only when none of their
    events is left.
    """

    minutes: timedelta = timedelta(days=2)
    events: timedelta | None = None
    margin: timedelta = timedelta(days=7)
    executions: timedelta | None = None
    quarantine: timedelta | None = None
    raw: timedelta | None = timedelta(days=30)
    verifications: timedelta = timedelta(days=30)


async def maintain(
    connection: asyncpg.Connection,
    keep: Keep,
    *,
    dry_run: bool,
    sample: Scope | None = None,
    folder: ArchiveFolder | None = None,
) -> AsyncGenerator[str | Verdict, None]:
    """Each thing that was done, or would be, and what it verified. Raises MaintainerBusy.

    Events that go are written into the folder, if there is one, before they do. `sample` is
    verified at the end, and what is found kept for the view `agreement`.
    """
    async with alone(connection):
        now: datetime = await connection.fetchval("select now()")
        async for done in _steps(connection, keep, now, folder, dry_run=dry_run):
            yield done
        if sample is not None and not dry_run:
            async for verdict in verify(connection, sample):
                await record(connection, verdict)
                yield verdict


@asynccontextmanager
async def alone(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """No other process maintains or repairs meanwhile. Raises MaintainerBusy."""
    if not await connection.fetchval("select pg_try_advisory_lock($1::bigint)", _LOCK):
        raise MaintainerBusy("another process maintains or repairs this database just now")
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute("select pg_advisory_unlock($1::bigint)", _LOCK)


async def _steps(
    connection: asyncpg.Connection,
    keep: Keep,
    now: datetime,
    folder: ArchiveFolder | None,
    *,
    dry_run: bool,
) -> AsyncIterator[str]:
    steps: list[AsyncIterator[str]] = []
    if keep.events is not None:
        before = now - keep.events
        steps.append(drop_events(connection, before, keep.margin, folder, dry_run=dry_run))
        steps.append(drop_tellings(connection, dry_run=dry_run))
    if keep.executions is not None:
        steps.append(drop_executions(connection, now - keep.executions, dry_run=dry_run))
    if keep.quarantine is not None:
        steps.append(drop_quarantine(connection, now - keep.quarantine, dry_run=dry_run))
    if keep.raw is not None:
        steps.append(drop_raw(connection, now - keep.raw, dry_run=dry_run))
    steps.append(fold_shards(connection, now, dry_run=dry_run))
    steps.append(drop_minutes(connection, _hour_of(now - keep.minutes), dry_run=dry_run))
    steps.append(refresh_statistics(connection, dry_run=dry_run))
    for step in steps:
        async for done in step:
            yield done
    if not dry_run:
        await connection.execute(_FORGET_VERDICTS, now - keep.verifications)


def _hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


_FORGET_VERDICTS: Final = """
    with forgotten as (
        delete from divergent where ended_at < $1::timestamptz
    )
    delete from verification
    where       verified_at < $1::timestamptz
    and         exists (
                    select
                    from   verification as later
                    where  later.projection = verification.projection
                    and    later.scope = verification.scope
                    and    later.verification_id > verification.verification_id
                )
"""
