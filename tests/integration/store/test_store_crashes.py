"""A process that ends in the middle of a batch, at the last moment before its commit and after."""

import pytest

from tests.support.factories import envelope, make_batch, rejected, snowflake
from tests.support.machine_database import CrashError, Writer
from tests.support.stack import Database
from tests.support.table_rows import assert_ledger_holds, connected, count, read_position


async def test_a_crash_before_the_commit_leaves_neither_rows_nor_position(
    database: Database,
) -> None:
    writer = Writer(database.url, "one")
    batch = make_batch(envelope(0), rejected(), claim=await writer.claim(0))

    with pytest.raises(CrashError):
        await writer.write(batch, crash="before the commit")
    writer.die()

    async with connected(database) as connection:
        assert await count(connection, "normalizer.events") == 0
        assert await count(connection, "normalizer.quarantine") == 0
        assert (await read_position(connection))["next_offset"] == 0


async def test_a_merge_before_a_crash_is_counted_as_merged_after_it(
    database: Database,
) -> None:
    """Rows of another writer are changed in a transaction of their own, before the batch's."""
    one, two = Writer(database.url, "one"), Writer(database.url, "two")
    await one.write(make_batch(envelope(0), claim=await one.claim(0)))
    report = envelope(1, event_id=snowflake(0), worker_id="worker-7")
    unchanged = envelope(2, event_id=snowflake(0))
    batch = make_batch(report, envelope(5), unchanged, claim=await two.claim(1))

    with pytest.raises(CrashError):
        await two.write(batch, crash="before the commit")
    two.die()
    async with connected(database) as connection:
        workers = await connection.fetch("select worker_id from normalizer.events")
    again = Writer(database.url, "three")
    batch = make_batch(report, envelope(5), unchanged, claim=await again.claim(1))
    await again.write(batch)

    assert [row["worker_id"] for row in workers] == ["worker-7"]
    assert again.written is not None
    totals = again.written.totals
    assert (totals.stored, totals.merged, totals.duplicate) == (1, 1, 1)
    async with connected(database) as connection:
        await assert_ledger_holds(connection)
