"""What an answer reads does not grow with the history behind its window."""

from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import msgspec
import pytest

from bench.history import make_history
from projector.api.endpoints import ENDPOINTS, Endpoint
from projector.api.snapshots import Reader, Snapshot, Statement
from tests.support.stack import Database, Stack

EVENTS: Final = 10_000
PER_DAY: Final = 80_000
"""Three hours of history, or thirty."""

FEW: Final = 64
"""Buffers that the plans of small tables may differ by."""


class Explained(Snapshot):
    """A snapshot that notes the buffers its statement touches, and the tables that it scans."""

    buffers: int
    scanned: list[str]

    async def records(
        self, statement: Statement, values: Mapping[str, Any]
    ) -> list[asyncpg.Record]:
        text = await self._connection.fetchval(
            f"explain (analyze, buffers, format json) {statement.text}",
            *statement.arguments(values),
        )
        (plan,) = msgspec.json.decode(text)
        self.buffers = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
        self.scanned = list(_scanned(plan["Plan"]))
        return await super().records(statement, values)


def _scanned(node: dict[str, Any]) -> Iterator[str]:
    """Tables that are really read from end to end."""
    if node["Node Type"] == "Seq Scan" and node["Actual Loops"]:
        yield node["Relation Name"]
    for inner in node.get("Plans", []):
        yield from _scanned(inner)


@pytest.fixture(scope="module")
async def small_and_large(stack: Stack) -> AsyncIterator[tuple[Database, Database]]:
    cluster = await stack.cluster("current")
    async with cluster.database() as small, cluster.database() as large:
        for database, events in ((small, EVENTS), (large, 10 * EVENTS)):
            connection = await asyncpg.connect(database.admin_url)
            await make_history(
                connection,
                events,
                until=datetime.now(UTC) - timedelta(minutes=10),
                per_day=PER_DAY,
            )
            await connection.execute("vacuum (freeze, analyze)")
            await connection.close()
        yield small, large


async def _explained(database: Database, question: Endpoint) -> Explained:
    """The last hour's answer, queried a second time: hints are set then."""
    names = {field.name for field in msgspec.structs.fields(question.parameters)}
    parameters = question.parameters(**({"last": "1h"} if "last" in names else {}))
    connection = await asyncpg.connect(database.admin_url)
    one = await connection.fetchrow(
        """
        select   execution_id::text, least_event_id::text as event_id
        from     projector.executions
        order by first_at desc
        limit    1 offset 20
        """
    )
    await connection.close()
    path = {name: text for name, text in one.items() if f"{{{name}}}" in question.path}
    async with (
        Reader(database.url, connections=1, timeout_s=30) as reader,
        reader.snapshot() as snapshot,
    ):
        explained = Explained(snapshot._connection, snapshot.read_at, snapshot.as_of)
        await question.run(explained, parameters, **path)
        await question.run(explained, parameters, **path)
    return explained


@pytest.mark.parametrize("question", ENDPOINTS, ids=lambda question: question.name)
async def test_ten_times_the_history_costs_the_same_answer_no_more(
    small_and_large: tuple[Database, Database], question: Endpoint
) -> None:
    small, large = small_and_large

    before = await _explained(small, question)
    after = await _explained(large, question)

    assert after.buffers <= 1.5 * before.buffers + FEW
    assert [name for name in after.scanned if name.startswith("events")] == []
