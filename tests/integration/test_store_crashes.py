"""A process that ends in the middle of a batch, at the last moment before its commit and after."""

import pytest

from tests.support.factories import batch_of, envelope, rejected
from tests.support.machine_database import Crash, Writer
from tests.support.stack import Database
from tests.support.table_rows import assert_ledger_holds, connected, count, position_of


async def test_a_crash_before_the_commit_leaves_neither_rows_nor_position(
    database: Database,
) -> None:
    writer = Writer(database.url, "one")
    batch = batch_of(envelope(0), rejected(), claim=await writer.claim(0))

    with pytest.raises(Crash):
        await writer.write(batch, crash="before the commit")
    writer.die()

    async with connected(database) as connection:
        assert await count(connection, "normalizer.events") == 0
        assert await count(connection, "normalizer.quarantine") == 0
        assert (await position_of(connection))["next_offset"] == 0


async def test_a_crash_after_the_commit_leaves_both(database: Database) -> None:
    writer = Writer(database.url, "one")
    batch = batch_of(envelope(0), rejected(), claim=await writer.claim(0))

    with pytest.raises(Crash):
        await writer.write(batch, crash="after the commit")
    writer.die()

    async with connected(database) as connection:
        assert await count(connection, "normalizer.events") == 1
        assert (await position_of(connection))["next_offset"] == 2
        await assert_ledger_holds(connection)
