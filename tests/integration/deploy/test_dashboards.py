"""Every SQL in a Grafana panel, as the reader role, against two hours of a platform's traffic."""

import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from simulator.mix import Mix
from simulator.simulator_run import now_us
from tests.support.dashboards import DASHBOARDS, VARIABLES, Query, filled, queries
from tests.support.job_runs import (
    backfill_files,
    record_lines,
    simulated_records,
    write_file,
)
from tests.support.stack import Database, Stack
from tests.support.table_rows import connected

HOURS = 2
SQL = [query for query in queries() if query.source == "projector"]
CHOICES = [(one, name) for one in SQL for name in VARIABLES if f"${{{name}" in one.text]
"""Each query with each variable that it has."""


@pytest.fixture(scope="module")
async def filled_database(
    stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Database]:
    """A platform that has run for two hours until now, with its log and a look at the views."""
    cluster = await stack.cluster("current")
    async with cluster.database() as database:
        mix = Mix(
            start_us=now_us() - HOURS * 3_600_000_000,
            rate=0.5,
            in_flight=20,
            failing=0.3,
            contradicting=0.05,
            poison=0.01,
            stuck=0.05,
        )
        folder = tmp_path_factory.mktemp("traffic")
        await backfill_files(database, write_file(folder / "history.ndjson", _lines(mix)))
        async with connected(database) as connection:
            await connection.execute(_HAPPENED)
        yield database


def _lines(mix: Mix) -> bytes:
    return record_lines(simulated_records(int(HOURS * 3_600 * mix.rate), mix=mix))


_HAPPENED = """
    insert into normalizer.source_positions
           (topic, incarnation, partition, cluster_id, owner, start_offset, next_offset,
            last_recorded_ms)
    select   source_topic, source_incarnation, source_partition, 'c', 'o',
             max(source_offset) + 1, max(source_offset) + 1, extract(epoch from now()) * 1000
    from     normalizer.events
    group by source_topic, source_incarnation, source_partition;

    insert into projector.verifications
           (projection, scope, verdict, compared, divergent, archived, detail, took_s)
    values ('event_hours', 'all', 'match', 7, 0, 0, '', 0.1);
"""


@pytest.fixture(scope="module")
async def reader(filled_database: Database) -> AsyncIterator[asyncpg.Connection]:
    async with connected(filled_database) as connection:
        await connection.execute("set role projector_reader")
        await connection.execute("set statement_timeout = '10s'")
        yield connection


def test_there_are_dashboards_and_each_has_its_own_id() -> None:
    assert {path.stem for path in DASHBOARDS} == {"workflows", "service"}
    assert SQL
    uids = [json.loads(path.read_text())["uid"] for path in DASHBOARDS]
    assert len(set(uids)) == len(uids)


@pytest.mark.parametrize("query", SQL, ids=str)
async def test_every_panel_shows_rows(query: Query, reader: asyncpg.Connection) -> None:
    until = datetime.now(UTC) + timedelta(minutes=5)
    text = filled(query.text, until - timedelta(hours=HOURS + 1), until)

    rows = await reader.fetch(text)

    assert rows
    assert set(query.named) <= {*rows[0].keys()}, "a column that the panel names is not there"
    if query.format == "time_series":
        assert isinstance(rows[0]["time"], datetime)
        others = [value for name, value in rows[0].items() if name not in ("time", "metric")]
        assert [type(value) for value in others] in ([float], [int])
        assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)


@pytest.mark.parametrize(("query", "name"), CHOICES, ids=str)
async def test_a_value_can_be_chosen(query: Query, name: str, reader: asyncpg.Connection) -> None:
    """A filter that matches nothing: a stat has no value or 0, and everything else no row."""
    until = datetime.now(UTC) + timedelta(minutes=5)
    since = until - timedelta(hours=HOURS + 1)
    values = {name: "it's' or true)--"}

    rows = await reader.fetch(filled(query.text, since, until, **values))

    assert rows == [] or (query.kind == "stat" and [*rows[0].values()] in ([None], [0]))


@pytest.mark.parametrize(("query", "name"), CHOICES, ids=str)
async def test_a_chosen_value_is_what_the_query_compares(
    query: Query, name: str, reader: asyncpg.Connection
) -> None:
    now = datetime.now(UTC)
    value = r"""it's a "name" with a \ and a \" in it"""

    for place in re.findall(rf"\$\{{{name}\b[^}}]*\}}", query.text):
        text = filled(f"select {place}", now, now, **{name: value})
        assert await reader.fetchval(text) == value
