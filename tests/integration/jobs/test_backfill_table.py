"""Rows of a table replayed, first of all of noetl.event: paged, resumed, and kept apart."""

import re
from itertools import pairwise
from typing import Any, Final

import pytest

from normalizer.errors import FatalError
from normalizer.jobs.engine.run_progress import RunResult
from normalizer.jobs.sources.job_source import ReadPosition
from normalizer.jobs.sources.row_pages import BYTES_PER_PAGE
from normalizer.jobs.sources.table_source import TableSource
from tests.support.commands import typed
from tests.support.job_runs import job_settings, make_backfill
from tests.support.noetl_event_table import EVENT_TABLE, insert
from tests.support.stack import Database
from tests.support.table_rows import connected, stored_events


async def backfilled(database: Database, **options: Any) -> RunResult:
    """The verdict of one run over a table or a query of the same database."""
    source = TableSource(database.url, **options)
    return await make_backfill(job_settings(database), source, str(options)).run()


async def test_pages_of_large_rows_are_short(database: Database) -> None:
    """By rows alone they would all be one page, and all in memory."""
    source = TableSource(
        database.url,
        query="select number as event_id, repeat('x', 100000) as result, 9 as execution_id "
        "from generate_series(1, 300) as number",
        key=["event_id"],
    )
    async with source:
        (part,) = await source.list_parts()
        pages = [page async for page in source.read({part.key: ReadPosition(next_offset=0)})]

    assert [record.offset for page in pages for record in page.records] == list(range(1, 301))
    assert max(len(page.records) for page in pages) < 1.1 * BYTES_PER_PAGE / 100_000
    assert all(one.next_offset == after.from_offset for one, after in pairwise(pages))


async def test_a_query_is_named_and_keyed_and_its_rows_get_what_they_lack(
    database: Database,
) -> None:
    verdict = await backfilled(
        database,
        query="select number as event_id, 'step.enter' as name, 9 as execution_id, "
        "'2026-01-31' as created_at from generate_series(1, 3) as number",
        name="three",
        key=["event_id"],
    )

    async with connected(database) as connection:
        events = await stored_events(connection)
    assert verdict.totals.stored == 3
    assert {event.source_topic for event in events} == {"pg:three"}


_UNPAGED: Final[list[tuple[dict[str, Any], str]]] = [
    (
        {
            "query": "select 1 as event_id, n / 2 as k from generate_series(1, 9) as n",
            "key": ["k"],
        },
        "two rows have the same key",
    ),
    (
        {"query": "select 1 as event_id, null::text as k", "key": ["k"]},
        "a row has null in its key",
    ),
    (
        {"query": "select 'x' as event_id", "key": ["event_id"]},
        "event_id is not a whole number",
    ),
    (
        {"query": "select 9223372036854775807 as event_id", "key": ["event_id"]},
        "event_id has more than 63 bits",
    ),
    (
        {"query": "select -9223372036854775809 as event_id", "key": ["event_id"]},
        "event_id has more than 63 bits",
    ),
]


async def test_a_source_that_cannot_be_paged_fails_with_a_reason(database: Database) -> None:
    for options, why in _UNPAGED:
        verdict = await backfilled(database, **options)

        assert (verdict.state, why in verdict.reason) == ("failed", True), (options, verdict)


async def test_a_sign_in_that_the_source_refuses_is_not_blamed_on_the_address_of_the_store(
    database: Database,
) -> None:
    url = re.sub(r":[^:@/]+@", ":geheim17@", database.url)
    source = TableSource(url, query="select 1 as event_id", name="elsewhere", key=["event_id"])

    with pytest.raises(FatalError) as rejected:
        await make_backfill(job_settings(database), source, "elsewhere").run()

    reason = str(rejected.value)
    assert reason.startswith("elsewhere: SQLSTATE 28P01: password authentication failed")
    assert "DATABASE_URL" not in reason
    assert "geheim17" not in reason


async def test_no_secret_of_a_row_is_in_the_reason_of_a_job(database: Database) -> None:
    for columns in (
        "1 as event_id, ('password=geheim17' || n)::int as k",
        "null as event_id, 'password=geheim17' as k",
        "1 as event_id, 'password=geheim17' as k",
    ):
        query = f"select {columns} from generate_series(1, 2) as n"

        verdict = await backfilled(database, query=query, key=["k"])

        assert verdict.state == "failed"
        assert "password=" in verdict.reason
        assert "geheim17" not in verdict.reason


@pytest.mark.parametrize("key", [["event_id"], ["execution_id", "event_id"]])
async def test_a_row_whose_key_holds_null_is_noticed_after_any_number_of_pages(
    database: Database, key: list[str]
) -> None:
    """It is after no row, so a page that begins after one would leave it out."""
    async with connected(database) as connection:
        await connection.execute(
            """
            create table public.history as
            select nullif(number, 4567) as event_id, 7 as execution_id, 'step.enter' as name,
                   '2026-01-31'::timestamptz as created_at
            from   generate_series(1, 4567) as number;
            grant select on public.history to public;
            """
        )

    verdict = await backfilled(database, table="public.history", key=key)

    assert verdict.state == "failed"
    assert "a row has null in its key" in verdict.reason


async def test_the_command_stores_each_row_of_a_table_once_and_says_so(
    database: Database,
) -> None:
    """Two executions may have rows of one id."""
    places = [(100 + number, 7) for number in range(1_231)] + [(77, one) for one in (1, 2, 3)]
    rows = [
        {
            "event_id": event_id,
            "execution_id": execution_id,
            "event_type": "step.enter",
            "node_name": f"step {event_id}",
            "created_at": "2026-01-31T12:00:00",
        }
        for event_id, execution_id in places
    ]
    async with connected(database) as connection:
        await connection.execute(EVENT_TABLE)
        await insert(connection, rows)

        first = await typed(job_settings(database), "backfill", "table", "noetl.event")
        stored = await stored_events(connection)
        again = await typed(job_settings(database), "backfill", "table", "noetl.event")

        assert await stored_events(connection) == stored
    assert sorted((one.source_offset, one.execution_id) for one in stored) == sorted(places)
    assert [one.step for one in stored] == [f"step {one.source_offset}" for one in stored]
    assert {event.source_topic for event in stored} == {"pg:noetl.event"}
    for (code, said), run, outcome in ((first, 1, "stored"), (again, 2, "duplicate")):
        assert code == 0, said
        assert re.search(rf"complete: job \S+, run {run}$", said, re.MULTILINE), said
        assert f"1,234 records: 1,234 outcomes = 1,234 {outcome}\n" in said


async def test_wrong_usage_of_the_command_is_said_in_words_and_begins_no_job(
    database: Database,
) -> None:
    query = ("--query", "select 1 as event_id")
    for arguments, why in (
        ((), "expected either the name of a table, such as noetl.event, or --query"),
        (
            ("noetl.event", *query),
            "expected either the name of a table, such as noetl.event, or --query",
        ),
        (query, "no primary key. Name the columns"),
        (("nowhere",), 'relation "nowhere" does not exist'),
        (
            ("nowhere", "--set", "x"),
            "--set: expected NAME=VALUE, such as created_at=2026-01-31; got 'x'",
        ),
    ):
        code, said = await typed(job_settings(database), "backfill", "table", *arguments)

        assert (code, why in said, "Traceback" in said) == (2, True, False), said
    async with connected(database) as connection:
        assert await connection.fetchval("select count(*) from normalizer.jobs") == 0
