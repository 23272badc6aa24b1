"""When each version of a playbook began for the first time, whatever happens to its executions."""

import asyncio
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg

from projector.database_session import open_connection as projecting
from projector.maintenance.maintain import RetentionPeriods, maintain
from projector.repair.repair import RepairRequest, repair
from simulator.view_fold import Row
from tests.support import view_rows
from tests.support.stack import Database
from tests.support.table_rows import connected
from tests.support.view_rows import T0, event

MINUTE: Final = timedelta(minutes=1)


def begin(number: int, began: datetime, version: str | None, **context: Any) -> Row:
    """The event that begins execution `number`."""
    named = {"path": "flow/pay"} | ({} if version is None else {"version": version}) | context
    return event(
        event_id=number,
        execution_id=number,
        event_type="playbook.initialized",
        created_at=began,
        recorded_at=began,
        context=named,
    )


async def marks(connection: asyncpg.Connection) -> list[tuple[Any, ...]]:
    rows = await connection.fetch(
        "select playbook, version, first_at from projector.deployments order by first_at, playbook"
    )
    return [tuple(row) for row in rows]


async def test_a_version_is_marked_when_its_first_execution_began(database: Database) -> None:
    async with connected(database) as connection:
        await view_rows.insert(
            connection,
            [
                begin(1, T0 + MINUTE, "6"),
                begin(2, T0, "6"),
                begin(3, T0 + 2 * MINUTE, "7"),
                begin(4, T0 + 3 * MINUTE, None, path="flow/other"),
                event(event_id=5, execution_id=5, event_type="playbook.completed", step="end",
                      created_at=T0),
            ],
        )  # fmt: skip
        first = await marks(connection)
        await view_rows.insert(connection, [begin(6, T0 + 9 * MINUTE, "6")])
        rows = await connection.fetchval("select count(*) from projector.deployment_marks")
        await view_rows.insert(connection, [begin(7, T0 - MINUTE, "7")])
        later = await marks(connection)

    others = [("flow/pay", "6", T0), ("flow/other", None, T0 + 3 * MINUTE)]
    assert first == [others[0], ("flow/pay", "7", T0 + 2 * MINUTE), others[1]]
    assert rows == 3
    assert later == [("flow/pay", "7", T0 - MINUTE), *others]


async def test_repair_marks_versions_that_were_not_projected_and_a_mark_outlives_its_execution(
    database: Database,
) -> None:
    async with connected(database) as connection:
        await view_rows.insert(connection, [begin(1, T0, "6")])
        await connection.execute("set projector.off = on")
        await view_rows.insert(connection, [begin(2, T0 + MINUTE, "7")])
        await connection.execute("set projector.off = off")
        unseen = await marks(connection)
        async with projecting(database.admin_url) as owner:
            assert [one async for one in repair(owner, RepairRequest())]
            repaired = await marks(connection)
            keep = RetentionPeriods(events=timedelta(days=7), minutes=timedelta(days=20_000))
            assert [one async for one in maintain(owner, keep, dry_run=False)]
        left = await connection.fetchval("select count(*) from projector.executions")

        assert unseen == [("flow/pay", "6", T0)]
        assert repaired == [("flow/pay", "6", T0), ("flow/pay", "7", T0 + MINUTE)]
        assert (left, await marks(connection)) == (0, repaired)


async def test_writers_that_see_a_version_at_the_same_time_do_not_wait_for_each_other(
    database: Database,
) -> None:
    async with connected(database) as one, connected(database) as two:
        transaction = one.transaction()
        await transaction.start()
        await view_rows.insert(one, [begin(1, T0, "6")])
        async with asyncio.timeout(30):
            await view_rows.insert(two, [begin(2, T0, "6")])
        await transaction.commit()

        assert await marks(two) == [("flow/pay", "6", T0)]
