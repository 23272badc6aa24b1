"""Look-ups stay short, however often retention has replaced all rows."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from projector.maintenance.maintain import RetentionPeriods, maintain
from tests.support.stack import Database

TURNS: Final = 5
TURN: Final = timedelta(days=10)
FIRST: Final = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - TURNS * TURN
ROWS: Final = 20_000
HOURS: Final = 100


async def test_look_ups_read_no_more_after_five_turns_of_retention(database: Database) -> None:
    """Each turn replaces all rows, so new ones lie where old ones lay."""
    settings = {"search_path": "projector, normalizer, public", "TimeZone": "UTC", "jit": "off"}
    connection = await asyncpg.connect(database.admin_url, server_settings=settings)
    blocks: list[dict[str, int]] = []
    for turn in range(TURNS + 1):
        began = FIRST + turn * TURN
        if turn:
            keep = RetentionPeriods(events=datetime.now(UTC) - began + TURN / 2, margin=timedelta())
            async for _ in maintain(connection, keep, dry_run=False):
                pass
            assert await connection.fetchval("select count(*) from normalizer.events") == 0
            await connection.execute("vacuum normalizer.events")
        await connection.execute(_FILL, turn * 1_000_000, began)
        await connection.execute("vacuum analyze normalizer.events")
        blocks.append(await _blocks_read(connection, turn * 1_000_000, began))
    await connection.close()

    fresh, worn = blocks[0], blocks[-1]
    assert {
        name: (read, fresh[name]) for name, read in worn.items() if read > 2 * fresh[name]
    } == {}


async def _blocks_read(
    connection: asyncpg.Connection, first_id: int, began: datetime
) -> dict[str, int]:
    hour = began + timedelta(hours=HOURS // 2)
    bounds = f"'{hour.isoformat()}' and '{(hour + timedelta(hours=1)).isoformat()}'"
    middle = first_id + ROWS // 2
    conditions = {
        "id": f"event_id = {middle}",
        "execution": f"execution_id = {first_id + ROWS // 40}",
        "coordinates": "source_topic = 'noetl.events' and source_incarnation = 0 "
        f"and source_partition = 0 and source_offset between {middle} and {middle + 100}",
        "arrival": f"coalesce(recorded_at, created_at) between {bounds}",
        "created": f"created_at between {bounds}",
    }
    return {name: await _shared_blocks(connection, where) for name, where in conditions.items()}


async def _shared_blocks(connection: asyncpg.Connection, where: str) -> int:
    statement = f"select * from normalizer.events where {where}"
    plan: Any = json.loads(
        await connection.fetchval(f"explain (analyze, buffers, format json) {statement}")
    )
    return int(plan[0]["Plan"]["Shared Hit Blocks"]) + int(plan[0]["Plan"]["Shared Read Blocks"])


_FILL: Final = f"""
    insert into normalizer.events (event_id, execution_id, event_type, status, created_at,
                                   recorded_at, source_topic, source_offset, context)
    select $1::bigint + number, $1::bigint + number / 20 + 1, 'step.enter', 'STARTED', at, at,
           'noetl.events', $1::bigint + number, jsonb_build_object('text', repeat('abc ', 50))
    from   generate_series(1, {ROWS}) as number
    cross join lateral (
        select $2::timestamptz + number * interval '{HOURS} hours' / {ROWS}
    ) as times (at)
"""
