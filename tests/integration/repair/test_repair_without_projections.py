"""Events that went in without their projections, and what comes for them before the repair."""

from projector.database_session import open_connection as projecting
from projector.repair.repair import RepairRequest, repair
from projector.verify.ranges import VerifyScope
from projector.verify.verify import verify
from tests.support.factories import envelope, make_batch, snowflake
from tests.support.stack import Database
from tests.support.table_rows import claimed, open_store


async def test_a_call_that_changed_before_its_execution_was_known_is_counted_under_its_playbook(
    database: Database,
) -> None:
    async with open_store(database) as store:
        call = {"command_id": "c1", "step": ""}
        unseen = make_batch(
            envelope(0, event_type="command.issued", status="RUNNING", **call),
            envelope(1, event_type="command.completed", **call),
            claim=await claimed(store, 0),
        )
        await store.write(unseen, projections=False)
        await store.write(
            make_batch(
                envelope(2, event_type="playbook.completed", step="flow/a"),
                envelope(event_id=snowflake(0), execution_id=2),
                claim=await claimed(store, 1),
            )
        )

    async with projecting(database.admin_url) as connection:
        repaired = [one async for one in repair(connection, RepairRequest())]
        verdicts = [one async for one in verify(connection, VerifyScope())]

    assert [str(one) for one in (*repaired, *verdicts) if one.verdict != "match"] == []


async def test_a_begin_that_changes_before_its_execution_is_known_is_not_counted(
    database: Database,
) -> None:
    """Its execution is divergent. Only the repair makes its row, and counts it."""
    begin = {"event_type": "playbook.initialized", "status": "RUNNING", "step": ""}
    async with open_store(database) as store:
        unseen = make_batch(envelope(0, **begin), claim=await claimed(store, 0))
        await store.write(unseen, projections=False)
        again = envelope(0, **begin, worker_id="w", node_type="task")
        totals = await store.write(make_batch(again, claim=await claimed(store, 1)))

    async with projecting(database.admin_url) as connection:
        counted = "select outcome, sum(executions)::int from projector.execution_hours group by 1"
        before = await connection.fetch(counted)
        repaired = [one async for one in repair(connection, RepairRequest())]
        after = await connection.fetch(counted)
        verdicts = [one async for one in verify(connection, VerifyScope())]

    assert totals.merged == 1
    assert (before, [tuple(row) for row in after]) == ([], [("BEGUN", 1)])
    assert [str(one) for one in (*repaired, *verdicts) if one.verdict != "match"] == []
