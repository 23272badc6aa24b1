"""docs/flow.md: its event goes through a real broker and database, and the calls are followed."""

import contextlib
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final

import asyncpg
import msgspec
import pytest

from tests.support.api_client import api_client
from tests.support.doc_pages import DOCS, blocks
from tests.support.feed import Feed
from tests.support.service_runs import running, until
from tests.support.stack import Database

ROOT: Final = DOCS.parent
MOST_STOPS: Final = 12


class Stop(msgspec.Struct, frozen=True):
    """A heading of the page: a file, and the function in it that is called."""

    file: str
    name: str


STOPS: Final = [
    Stop(file, name)
    for file, name in re.findall(
        r"^## \d+\. [^`\n]+: `([\w/.]+)`, `([\w.]+)`$", (DOCS / "flow.md").read_text(), re.MULTILINE
    )
]
SQL: Final = [stop for stop in STOPS if stop.file.endswith(".sql")]


def test_there_are_twelve_stops_at_most_and_none_leads_back() -> None:
    files = [stop.file for stop in STOPS]
    headings = re.findall(r"^## ", (DOCS / "flow.md").read_text(), re.MULTILINE)

    assert 2 < len(STOPS) <= MOST_STOPS
    assert len(headings) == len(STOPS)
    assert len(set(files)) == len(files)


def test_every_stop_is_a_function_of_its_file() -> None:
    for stop in STOPS:
        text = (ROOT / stop.file).read_text()
        name = stop.name if stop in SQL else stop.name.split(".")[-1]
        assert f"{'create or replace function' if stop in SQL else 'def'} {name}(" in text, stop


@pytest.mark.parametrize("topic", [1], indirect=True)
async def test_the_event_of_the_page_is_called_through_its_stops_in_order(feed: Feed) -> None:
    record, *_ = blocks("flow.md", "json")
    await _count_calls_of_functions(feed.database)

    with _first_calls() as calls:
        async with (
            # The native lane would take three stops at once.
            running(feed.settings(core="python"))
        ):
            await feed.send_value(record.text.strip().encode(), timestamp_ms=1_783_674_000_100)
            await feed.until_read({0: 1})
        async with api_client(feed.database.url) as client:
            answer = await client.get(
                "/api/v1/error-rate-by-attempt?step=start&attempts=0&since=2026-07-10T00:00:00Z"
            )

    reached = [stop for stop in calls if stop in STOPS]
    assert reached == [stop for stop in STOPS if stop not in SQL]
    for stop in SQL:
        await until(partial(_was_called, feed.database, stop.name))
    (shown,) = blocks("flow.md", "answer")
    assert answer.json()["rows"] == [msgspec.json.decode(shown.text)]


@contextlib.contextmanager
def _first_calls() -> Iterator[dict[Stop, None]]:
    """Every function of this project that is called meanwhile, in the order of first calls."""
    calls: dict[Stop, None] = {}
    root = f"{ROOT}/"

    def see(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(root):
            file = Path(code.co_filename).relative_to(ROOT)
            calls.setdefault(Stop(str(file), code.co_qualname))

    sys.setprofile(see)
    try:
        yield calls
    finally:
        sys.setprofile(None)


async def _count_calls_of_functions(database: Database) -> None:
    connection = await asyncpg.connect(database.admin_url)
    try:
        name = await connection.fetchval("select current_database()")
        await connection.execute(f'alter database "{name}" set track_functions = pl')
    finally:
        await connection.close()


async def _was_called(database: Database, function: str) -> bool:
    schema, name = function.split(".")
    connection = await asyncpg.connect(database.admin_url)
    try:
        return bool(
            await connection.fetchval(
                """
                select calls
                from   pg_stat_user_functions
                where  schemaname = $1 and funcname = $2
                """,
                schema,
                name,
            )
        )
    finally:
        await connection.close()
