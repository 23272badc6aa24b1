"""The quarantine in, its hours out: refusals are few, so whole hours of them are counted anew.

No shadow and no swap, as rebuild.py needs: each hour shows its old count until its new one is
there. Stopped at any moment, what was not counted is as it was; the same command begins again.
"""

from collections.abc import AsyncGenerator
from typing import Final

import asyncpg

from projector.comparisons import COMPARISONS
from projector.database import patiently
from projector.maintain import alone
from projector.rebuild import RebuildDiffers
from projector.verify import Verdict, verify
from projector.windows import Scope

RECOUNTED: Final = "quarantine_hours"
REFUSALS_A_STRETCH: Final = 200_000

_EVERYTHING: Final = Scope()


async def recount(
    connection: asyncpg.Connection,
    scope: Scope = Scope(),  # noqa: B008 - frozen
    *,
    most: int = REFUSALS_A_STRETCH,
) -> AsyncGenerator[Verdict | str, None]:
    """What was counted, and how that compares; what retention let go of stays as it is.

    Hours that have `most` refusals together go in one transaction, an hour in no more than one:
    whoever refuses a record waits for that long, 0.05 s for 200,000. Raises RebuildDiffers where
    they are not proven to be as the quarantine says.
    """
    counted = 0
    low, last = _EVERYTHING.since, _EVERYTHING.until

    async def work() -> None:
        nonlocal counted, low
        await connection.execute(_LOCK)
        high = await connection.fetchval(_HOUR_AFTER, low, most) or last
        await connection.execute(_FORGET, low, high)
        counted += await connection.fetchval(_COUNT, low, high)
        low = high

    async with alone(connection):
        while low < last:
            await patiently(connection, work)
    yield f"counted {counted:,} refusals anew"
    compared = [one for one in COMPARISONS if one.name == RECOUNTED]
    async for verdict in verify(connection, scope, comparisons=compared):
        yield verdict
        if verdict.verdict != "match":
            raise RebuildDiffers(f"{RECOUNTED} is not proven to be as the quarantine says")


_LOCK: Final = "lock table normalizer.quarantine in share row exclusive mode"

_HOUR_AFTER: Final = """
    select   projector.hour_of(quarantined_at) + interval '1 hour'
    from     normalizer.quarantine
    where    quarantined_at >= $1::timestamptz
    order by quarantined_at
    offset   $2::integer - 1
    limit    1
"""

_FORGET: Final = """
    delete from projector.quarantine_hours
    where       shard >= 0 and hour >= $1::timestamptz and hour < $2::timestamptz
"""

_COUNT: Final = """
    with counted as (
        insert into projector.quarantine_hours (hour, reason, shape, shard, refused)
        select   projector.hour_of(quarantined_at), reason collate "C", shape collate "C", 0,
                 count(*)
        from     normalizer.quarantine
        where    quarantined_at >= $1::timestamptz and quarantined_at < $2::timestamptz
        group by 1, 2, 3
        returning refused
    )
    select coalesce(sum(refused), 0)::bigint from counted
"""
