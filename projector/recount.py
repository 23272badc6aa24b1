"""The quarantine in, its hours out: refusals are few, so they are counted anew in one transaction.

No shadow and no swap, as rebuild.py needs: readers see the old counts until the new ones are there.
"""

from collections.abc import AsyncGenerator
from typing import Final

import asyncpg

from projector.comparisons import COMPARISONS
from projector.database import patiently
from projector.maintain import alone
from projector.verify import Verdict, verify
from projector.windows import Scope

RECOUNTED: Final = "quarantine_hours"


async def recount(
    connection: asyncpg.Connection,
    scope: Scope = Scope(),  # noqa: B008 - frozen
) -> AsyncGenerator[Verdict | str, None]:
    """What was counted, and how that compares; what retention let go of stays as it is.

    Whoever refuses a record waits meanwhile: 0.3 s for a million of them.
    """
    counted = 0

    async def work() -> None:
        nonlocal counted
        await connection.execute(_LOCK)
        await connection.execute(_FORGET)
        counted = await connection.fetchval(_COUNT)

    async with alone(connection):
        await patiently(connection, work)
    yield f"counted {counted:,} refusals anew"
    compared = [one for one in COMPARISONS if one.name == RECOUNTED]
    async for verdict in verify(connection, scope, comparisons=compared):
        yield verdict


_LOCK: Final = "lock table normalizer.quarantine in share row exclusive mode"

_FORGET: Final = "delete from projector.quarantine_hours where shard >= 0"

_COUNT: Final = """
    with counted as (
        insert into projector.quarantine_hours (hour, reason, shape, shard, refused)
        select   projector.hour_of(quarantined_at), reason collate "C", shape collate "C", 0,
                 count(*)
        from     normalizer.quarantine
        group by 1, 2, 3
        returning refused
    )
    select coalesce(sum(refused), 0)::bigint from counted
"""
