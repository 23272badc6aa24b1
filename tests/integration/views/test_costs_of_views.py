"""Older rows cost nothing, neither for the reader of a view nor for the writer of an execution."""

import asyncio
from datetime import UTC, datetime
from typing import Final

import asyncpg
import pytest

from bench.history import make_history
from bench.views import SMALL_BUFFERS, count_buffers, day
from projector.views.catalog import VIEWS
from tests.support.stack import Cluster
from tests.support.table_rows import connected, execute, pages_touched

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
        await execute(database, _AS_ON_SSD.format(database.name))
        async with connected(database) as connection:
            await connection.execute(_NO_HOLES)
            await make_history(connection, events, until=datetime.now(UTC), per_day=events / days)
            await connection.execute(_REJECTED, events // 5, days)
            await connection.execute("vacuum (analyze)")
            return {view.name: await count_buffers(connection, day(view.example)) for view in VIEWS}


async def test_no_index_of_ours_asks_autovacuum_to_summarize(
    connection: asyncpg.Connection,
) -> None:
    """It has room to note few ranges, and writes a line into the server's log for each lost one."""
    indexes = await connection.fetch(
        """
        select relname, reloptions
        from   pg_class join pg_am on pg_am.oid = relam
        where  amname = 'brin'
        and    relnamespace in ('normalizer'::regnamespace, 'projector'::regnamespace)
        """
    )

    assert indexes
    assert [one for one in indexes if "autosummarize" in str(one["reloptions"])] == []


@pytest.mark.timeout(300)
async def test_a_merge_into_100_000_events_touches_at_most_twice_the_pages_of_one_into_100(
    connection: asyncpg.Connection,
) -> None:
    """A merge is one more command, event by event, and then a second report of each event."""
    for first in range(0, LARGE, 5_000):
        await connection.execute(_EVENTS, 1, first, first + 4_999)
    await connection.execute(_EVENTS, 2, 0, 99)
    await connection.execute("vacuum (analyze)")

    touched: dict[int, int] = {}
    # What each session reads once is read by the first command, of both.
    for number, execution_id in enumerate((1, 2, 1, 2)):
        before = await pages_touched(connection)
        for nth in range(LARGE + 5 * number, LARGE + 5 * number + 5):
            await connection.execute(_EVENTS, execution_id, nth, nth)
            await connection.execute(_REPORT_AGAIN, execution_id, nth)
        touched[execution_id] = await pages_touched(connection) - before
    calls = await connection.fetch(
        "select execution_id, count(*) from projector.calls group by 1 order by 1"
    )

    assert list(map(tuple, calls)) == [(1, LARGE / 5 + 2), (2, 22)]
    assert 0 < touched[1] <= 2 * touched[2]


LARGE: Final = 100_000
_EVENTS: Final = """
    insert into normalizer.events (
        event_id, execution_id, event_type, status, step, created_at, command_id, evidence
    )
    select $1::bigint * 10000000 + number, $1,
           (array['command.issued', 'command.claimed', 'command.started', 'call.done',
                  'command.completed'])[1 + number % 5],
           'COMPLETED', 'a', '2026-07-10 09:00:00+00'::timestamptz + number * interval '10 ms',
           (number / 5)::text, 212
    from   generate_series($2::integer, $3::integer) as number
"""
_REPORT_AGAIN: Final = """
    update normalizer.events
    set    worker_id = 'worker-7', merge_flags = merge_flags | 4
    where  event_id = $1::bigint * 10000000 + $2::integer
"""
