"""What an answer reads does not grow with the history behind its window."""

import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, Self

import asyncpg
import msgspec
import pytest

from bench.history import make_history
from projector.api import event_download
from projector.api.api_errors import NotFoundError
from projector.api.endpoints import ENDPOINTS, Endpoint
from projector.api.parameters import PagedParams, Parameters
from projector.api.queries.event_detail import execution_event
from projector.api.queries.execution_detail import execution_calls
from projector.api.query_strings import parse_query_string
from projector.api.snapshots import ReaderPool, Snapshot, Statement
from tests.support.api_client import typed_example
from tests.support.stack import Database, Stack
from tests.support.table_rows import connected, execute, insert_row

EVENTS: Final = 10_000
PER_DAY: Final = 80_000
"""Three hours of history, or thirty."""

FEW: Final = 64
"""Buffers that the plans of small tables may differ by."""


class Explained(Snapshot):
    """A snapshot that notes what its statements touch.

    scanned: tables that are really read from end to end. compared: pairs of rows that no join kept.
    """

    @classmethod
    def beside(cls, other: Snapshot) -> Self:
        """The same snapshot, with a minute left."""
        ends_at_s = time.monotonic() + 60
        return cls(other._connection, other.read_at, other.as_of, ends_at_s=ends_at_s)

    buffers = 0
    compared = 0
    scanned: tuple[str, ...] = ()

    async def untyped_rows(
        self, statement: Statement, values: Mapping[str, Any]
    ) -> list[asyncpg.Record]:
        text = await self._connection.fetchval(
            f"explain (analyze, buffers, format json) {statement.text}",
            *statement.arguments(values),
        )
        (plan,) = msgspec.json.decode(text)
        self.buffers += plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
        self.scanned += tuple(
            node["Relation Name"]
            for node in _nodes(plan["Plan"])
            if node["Node Type"] == "Seq Scan" and node["Actual Loops"]
        )
        self.compared += sum(
            node.get("Rows Removed by Join Filter", 0) * node["Actual Loops"]
            for node in _nodes(plan["Plan"])
        )
        return await super().untyped_rows(statement, values)


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for inner in node.get("Plans", []):
        yield from _nodes(inner)


class Filled(NamedTuple):
    """A reader of a database, and an execution, an event and a rejected record in it."""

    reader: ReaderPool
    ids: Mapping[str, str]


@pytest.fixture(scope="module")
async def small_and_large(stack: Stack) -> AsyncIterator[tuple[Filled, Filled]]:
    cluster = await stack.cluster("current")
    async with contextlib.AsyncExitStack() as opened:
        filled = []
        for events in (EVENTS, 10 * EVENTS):
            database = await opened.enter_async_context(cluster.database())
            connection = await asyncpg.connect(database.admin_url)
            await make_history(
                connection,
                events,
                until=datetime.now(UTC) - timedelta(minutes=10),
                per_day=PER_DAY,
            )
            await insert_row(connection, "normalizer.quarantine")
            await connection.execute("vacuum (freeze, analyze)")
            ids = dict(await connection.fetchrow(_IDS))
            await connection.close()
            reader = ReaderPool(database.url, connections=1, timeout_s=30)
            filled.append(Filled(await opened.enter_async_context(reader), ids))
        small, large = filled
        yield small, large


_ERROR: Final = "HTTP 503 from https://api.example.com/#"
_IDS: Final = """
    select   execution_id::text,
             (
                 select min(event_id)::text
                 from   normalizer.events
                 where  events.execution_id = executions.execution_id
             ) as event_id,
             (select max(quarantine_id)::text from projector.quarantine_records) as quarantine_id
    from     projector.executions
    order by first_at desc
    limit    1 offset 20
"""


async def _explained(database: Filled, question: Endpoint, parameters: Parameters) -> Explained:
    """The answer, queried a second time: hints are set then."""
    path = {name: text for name, text in database.ids.items() if f"{{{name}}}" in question.path}
    async with database.reader.snapshot() as snapshot:
        explained = Explained.beside(snapshot)
        await question.run(snapshot, parameters, **path)
        await question.run(explained, parameters, **path)
    return explained


@pytest.mark.parametrize("question", ENDPOINTS, ids=lambda question: question.name)
async def test_ten_times_the_history_costs_the_same_answer_no_more(
    small_and_large: tuple[Filled, Filled], question: Endpoint
) -> None:
    small, large = small_and_large

    parameters = typed_example(question, last="1h", error_class=_ERROR)

    before = await _explained(small, question, parameters)
    after = await _explained(large, question, parameters)

    assert after.buffers <= 2 * before.buffers + FEW
    assert [name for name in after.scanned if name.startswith("events")] == []


@pytest.mark.parametrize(
    ("path", "name"),
    [
        *(("/calls", name) for name in ("command", "error_class", "parent", "trace")),
        *(("/executions", name) for name in ("command", "parent", "trace")),
    ],
)
async def test_rare_values_are_found_by_index_in_any_window(
    small_and_large: tuple[Filled, Filled], path: str, name: str
) -> None:
    _, large = small_and_large
    (question,) = (one for one in ENDPOINTS if one.path == path)
    parameters = parse_query_string(f"last=90d&{name}=8".encode(), question.parameters_type)

    explained = await _explained(large, question, parameters)

    assert explained.buffers < FEW
    assert explained.scanned == ()


async def test_a_page_of_an_execution_with_many_calls_compares_none_with_all(
    database: Database,
) -> None:
    """While the statistics do not know this execution yet."""
    async with connected(database) as connection:
        await connection.execute("alter table projector.call_facts set (autovacuum_enabled = off)")
        await make_history(connection, 4_000, until=datetime.now(UTC))
        await connection.execute("analyze")
        await connection.execute(_MANY_CALLS, CALLS)
    async with (
        ReaderPool(database.url, connections=1, timeout_s=30) as reader,
        reader.snapshot() as snapshot,
    ):
        first = await execution_calls(snapshot, PagedParams(), "7")
        explained = Explained.beside(snapshot)
        await execution_calls(explained, PagedParams(cursor=first.next), "7")

    assert explained.compared < CALLS


async def test_an_event_and_a_page_of_a_download_are_read_without_the_other_events(
    database: Database,
) -> None:
    await execute(database, _MANY_CALLS, 4 * CALLS)
    await execute(database, "analyze")
    async with (
        ReaderPool(database.url, connections=1, timeout_s=30) as reader,
        reader.snapshot() as snapshot,
    ):
        explained = Explained.beside(snapshot)
        values = {"id": 7, "event_ids": [900, 901, 3000]}
        await explained.untyped_rows(event_download._PAGE, values)
        first = explained.buffers
        page = await explained.untyped_rows(event_download._PAGE, values)
        before = explained.buffers
        one = await execution_event(explained, Parameters(), "7", "900")
        with pytest.raises(NotFoundError):
            await execution_event(explained, Parameters(), "8", "900")

    assert [row.event_id for row in one.rows] == ["900"]
    assert explained.buffers - before < FEW
    assert [record["event_id"] for record in page] == [900, 901, 3000]
    assert before - first < FEW, first


CALLS: Final = 1_000
_MANY_CALLS: Final = """
    insert into normalizer.events (event_id, execution_id, event_type, step, status, created_at,
                                   command_id, iteration)
    select number, 7, 'call.done', 'each', 'COMPLETED', now(), '7:each:' || number, number
    from   generate_series(1, $1::integer) as number
"""
