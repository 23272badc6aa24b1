"""Older rows cost nothing, neither for the reader of a view nor for the writer of an execution."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final

import asyncpg
import pytest

from bench.drain import connected, copy
from bench.history import make_history
from bench.projections import Row, lives
from bench.views import SMALL_BUFFERS, buffers_of, day
from projector.views.catalog import VIEWS
from tests.support.stack import Cluster, Database
from tests.support.table_rows import pages_touched

GROWTH: Final = 1.5

_AS_ON_SSD: Final = 'alter database "{}" set random_page_cost = 1.1'
_NO_HOLES: Final = """
    do $$
    declare
        name text;
    begin
        for name in select tablename from pg_tables where schemaname = 'projector' loop
            execute format('alter table projector.%I set (autovacuum_enabled = off)', name);
        end loop;
    end $$
"""
"""Rows of today in holes of last week are no matter of how long the history is."""

_REJECTED: Final = """
    insert into normalizer.quarantine
           (reason, detail, shape, normalizer_version, source_topic, source_incarnation,
            source_partition, source_offset, source_index, value_bytes, batch_id, quarantined_at)
    select (array['invalid_json', 'missing_time'])[1 + number % 2], repeat('x', 200), 'executor', 1,
           'noetl.events', 0, 0, number, 0, 7, 1,
           now() - $2::integer * interval '1 day' * (1 - number / $1::double precision)
    from   generate_series(1, $1::integer) as number
"""


@pytest.mark.timeout(400)
async def test_a_day_reads_as_little_after_a_month_as_after_three_days(cluster: Cluster) -> None:
    """A hundred and fifty thousand events and fifteen thousand, at one rate."""
    few, many = await asyncio.gather(_buffers(cluster, 15_000, 3), _buffers(cluster, 150_000, 30))

    assert {
        name: (few[name], many[name])
        for name in many
        if many[name] > max(few[name] * GROWTH, SMALL_BUFFERS)
    } == {}
    assert len(many) == len(VIEWS)


async def _buffers(cluster: Cluster, events: int, days: int) -> dict[str, int]:
    """Shared buffers of each view for the last 24 hours."""
    async with cluster.database() as database:
        connection = await asyncpg.connect(database.admin_url)
        await connection.execute(_AS_ON_SSD.format(database.name))
        await connection.close()
        connection = await asyncpg.connect(database.admin_url)
        try:
            await connection.execute(_NO_HOLES)
            await make_history(connection, events, until=datetime.now(UTC), per_day=events / days)
            await connection.execute(_REJECTED, events // 5, days)
            await connection.execute("vacuum (analyze)")
            return {view.name: await buffers_of(connection, day(view.example)) for view in VIEWS}
        finally:
            await connection.close()


async def test_no_index_of_ours_asks_autovacuum_to_summarize(database: Database) -> None:
    """It has room to note few ranges, and writes a line into the server's log for each lost one."""
    connection = await asyncpg.connect(database.admin_url)
    indexes = await connection.fetch(
        """
        select relname, reloptions
        from   pg_class join pg_am on pg_am.oid = relam
        where  amname = 'brin'
        and    relnamespace in ('normalizer'::regnamespace, 'projector'::regnamespace)
        """
    )
    await connection.close()

    assert indexes
    assert [one for one in indexes if "autosummarize" in str(one["reloptions"])] == []


@pytest.fixture
async def writer(database: Database) -> AsyncIterator[asyncpg.Connection]:
    opened = await connected(database.admin_url)
    yield opened
    await opened.close()


async def test_an_execution_costs_no_more_as_it_grows(writer: asyncpg.Connection) -> None:
    touched = await _pages_of_batches(writer, list(lives(1, 20_000)))

    assert sum(touched[-4:]) < 1.25 * sum(touched[1:5])


async def _pages_of_batches(writer: asyncpg.Connection, rows: list[Row]) -> list[int]:
    """Pages that the server touches for each thousand: counted, so other load does not matter."""
    touched = []
    for first in range(0, len(rows), 1_000):
        before = await pages_touched(writer)
        await copy(writer, rows[first : first + 1_000])
        touched.append(await pages_touched(writer) - before)
    return touched
