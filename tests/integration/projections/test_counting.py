"""Counts are true at their edges: buckets, windows, storms, what is stuck, classes of errors."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final

import asyncpg
import httpx
import pytest

from deploy.calls import classify_error
from tests.support import view_rows
from tests.support.api_client import api_client, get_rows, insert_events
from tests.support.stack import Database, Stack
from tests.support.table_rows import connected
from tests.support.view_rows import event

HOUR: Final = timedelta(hours=1)


@pytest.fixture(scope="module")
async def filled(stack: Stack) -> AsyncIterator[Database]:
    """Three hours of history, read only."""
    cluster = await stack.cluster("current")
    async with cluster.database() as made:
        await insert_events(made, 1_000)
        yield made


async def this_hour(connection: asyncpg.Connection) -> datetime:
    """The hour that the views have throughout the transaction."""
    now: datetime = await connection.fetchval("select now()")
    return now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


async def test_no_event_is_in_two_buckets(connection: asyncpg.Connection) -> None:
    async with connection.transaction():
        edge = await this_hour(connection) - 48 * HOUR
        moments = [edge - 30 * HOUR, edge - timedelta(microseconds=1), edge, edge + 40 * HOUR]
        await view_rows.insert(
            connection,
            [event(event_id=n, created_at=at) for n, at in enumerate(moments, 1)],
        )

        rows = await connection.fetch(
            "select bucket_start, bucket_s, events from projector.attempts_by_status order by 1"
        )

    assert [tuple(row) for row in rows] == [
        (edge - 30 * HOUR, 3_600, 1),
        (edge - HOUR, 3_600, 1),
        (edge, 60, 1),
        (edge + 40 * HOUR, 60, 1),
    ]


QUESTIONS: Final = (
    ("call-outcomes-by-attempt", "calls", ""),
    ("error-rate-by-attempt", "failed", "and status <> 'COMPLETED'"),
    ("call-durations-by-attempt", "calls", "and duration_s is not null"),
    ("failures-by-error", "calls", "and status <> 'COMPLETED'"),
    ("worker-failures", "calls", ""),
)


@pytest.mark.parametrize(("path", "column", "where"), QUESTIONS)
@pytest.mark.parametrize("length", [timedelta(minutes=15), timedelta(minutes=150)], ids=str)
async def test_calls_are_counted_within_the_bounds_that_the_answer_names(
    client: httpx.AsyncClient, filled: Database, path: str, column: str, where: str,
    length: timedelta,
) -> None:  # fmt: skip
    until = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=13)
    bounds = {"since": (until - length).isoformat(), "until": until.isoformat()}

    answer = (await client.get(f"/api/v1/{path}", params=bounds | {"limit": "5000"})).json()

    low, high = (datetime.fromisoformat(answer[name]) for name in ("since", "until"))
    async with connected(filled) as connection:
        wanted = await connection.fetchval(
            "select count(*) from projector.calls "
            f"where finished_at >= $1::timestamptz and finished_at < $2::timestamptz {where}",
            low,
            high,
        )
    assert low <= until - length < until <= high
    assert (low, high) == (until - length, until) or length > 2 * HOUR
    assert sum(row[column] for row in answer["rows"]) == wanted > 0


STORMS: Final = {
    "steady": ((200, 24), (200, 24), False),
    "a rise": ((20, 2), (2_000, 240), False),
    "begins": ((0, 0), (2_000, 240), False),
    "few": ((200, 2), (10, 15), False),
    "storm": ((200, 24), (200, 90), True),
    "a storm at once": ((0, 0), (50, 90), True),
    "always so": ((200, 180), (200, 200), False),
    "exactly 3 times 0.1": ((0, 0), (100, 30), True),
    "just under": ((0, 0), (101, 30), False),
    "exactly 3 times": ((90, 27), (100, 90), True),
    "exactly 3 times 0.7": ((100, 70), (10, 21), True),
    "just under 0.7": ((100, 70), (1_001, 2_102), False),
    "retries alone": ((10, 0), (0, 20), True),
}
"""First tries and retries before and now, and whether they are a storm."""


async def test_a_storm_is_more_retries_for_each_first_try(connection: asyncpg.Connection) -> None:
    this = datetime.now(UTC).replace(second=0, microsecond=0)
    found = {}
    for case, (before, now, _) in STORMS.items():
        counts = [(this - timedelta(minutes=30), *before), (this - timedelta(minutes=2), *now)]
        await connection.execute("delete from projector.retry_minutes")
        await connection.executemany(
            "insert into projector.retry_minutes (minute, step, shard, first_tries, retries) "
            "values ($1, 'fetch', 0, $2, $3)",
            counts,
        )
        row = await connection.fetchrow("select * from projector.retry_storms")
        found[case] = (
            (row["first_tries_baseline"], row["retries_baseline"]),
            (row["first_tries_now"], row["retries_now"]),
            row["storm"],
        )

    assert found == STORMS


async def test_stuck_executions_are_listed_by_silence_apart_from_strays(
    connection: asyncpg.Connection, database: Database
) -> None:
    now = datetime.now(UTC)
    silences = [timedelta(minutes=10), 3 * HOUR, 50 * HOUR, 27 * 24 * HOUR]
    rows = [
        event(event_id=n, execution_id=n, event_type="playbook.started", created_at=now - silence)
        for n, silence in enumerate(silences, 1)
    ]
    stray = event(event_id=9, execution_id=9, event_type="step.enter", created_at=now - 2 * HOUR)
    place = {"source_topic": "noetl.events", "source_partition": 0}
    await view_rows.read_up_to(connection, "noetl.events", 0, now)
    await view_rows.insert(connection, [row | place for row in (*rows, stray)])

    async with api_client(database.url) as client:
        stuck = await get_rows(client, "stuck-executions", begun="true")
        strays = await get_rows(client, "stuck-executions", begun="false")
        ages = await get_rows(client, "stuck-by-age")

    assert [row["execution_id"] for row in stuck] == ["4", "3", "2", "1"]
    assert [row["execution_id"] for row in strays] == ["9"]
    assert [(row["begun"], row["silent_for"], row["executions"]) for row in ages] == [
        (True, "under 1 h", 1),
        (True, "under 1 day", 1),
        (True, "under 7 days", 1),
        (True, "7 days and more", 1),
        (False, "under 1 day", 1),
    ]


WAITING: Final[dict[str, list[tuple[int, int | None, int, str, bool]]]] = {
    "a running child": [(1, None, 20, "step.enter", False), (11, 1, 1, "step.enter", False)],
    "a silent child with a running one": [
        (2, None, 20, "step.enter", False),
        (21, 2, 15, "step.enter", False),
        (22, 21, 1, "step.enter", False),
    ],
    "a silent child beside a running one": [
        (3, None, 20, "step.enter", False),
        (31, 3, 15, "step.enter", True),
        (32, 3, 1, "step.enter", False),
    ],
    "a silent child": [(4, None, 20, "step.enter", True), (41, 4, 15, "step.enter", True)],
    "an ended child with a running one": [
        (5, None, 20, "step.enter", True),
        (51, 5, 15, "playbook.completed", False),
        (52, 51, 1, "step.enter", False),
    ],
    "a call that no worker has taken": [
        (6, None, 20, "command.issued", True),
        (61, 6, 1, "step.enter", False),
    ],
    "a call that may run the child": [
        (7, None, 20, "command.started", False),
        (71, 7, 1, "step.enter", False),
    ],
    "itself above it": [(8, 81, 20, "step.enter", False), (81, 8, 1, "step.enter", False)],
    "only itself": [(9, 9, 20, "step.enter", True)],
    "an execution that nobody reads": [
        (10, None, 20, "step.enter", False),
        (101, 10, 15, "unread", False),
    ],
}
"""For each kind of child or call: id, parent, minutes of silence, last event, is stuck."""


async def test_parent_that_waits_for_a_running_child_is_not_stuck(
    connection: asyncpg.Connection, database: Database
) -> None:
    now = datetime.now(UTC)
    lives = [life for case in WAITING.values() for life in case]
    rows = [
        event(
            event_id=2 * one + is_last, execution_id=one, parent_execution_id=parent,
            event_type=last if is_last else "playbook.started",
            command_id=f"{one}:call" if is_last and last.startswith("command.") else None,
            created_at=now - timedelta(minutes=silent if is_last else 30),
            source_topic="noetl.events", source_partition=1 if last == "unread" else 0,
        )
        for one, parent, silent, last, _ in lives
        for is_last in (False, True)
    ]  # fmt: skip
    await view_rows.read_up_to(connection, "noetl.events", 0, now)
    await view_rows.insert(connection, rows)

    async with api_client(database.url) as client:
        listed = await get_rows(client, "stuck-executions")
        ages = await get_rows(client, "stuck-by-age")
        tiles = await get_rows(client, "tiles", last="1h")
        executions = await get_rows(client, "executions", last="1h")
    reasons = await connection.fetch("select execution_id from projector.stuck_reasons")

    stuck = sorted(one for one, *_, is_stuck in lives if is_stuck)
    assert sorted(int(row["execution_id"]) for row in listed) == stuck
    assert sorted(row["execution_id"] for row in reasons) == stuck
    assert sorted(int(row["execution_id"]) for row in executions if "waits_for" in row) == stuck
    assert sum(row["executions"] for row in ages) == len(stuck)
    assert [row["value"] for row in tiles if row["tile"] == "stuck"] == [len(stuck)]
    children = {row["execution_id"]: row.get("waits_child") for row in listed}
    assert {one for one, child in children.items() if child} == {"4"}
    assert children["4"] == "41"


ERROR_CLASSES: Final = {
    "HTTP 503 from https://api.example.com/posts": None,
    "HTTP/1.1 404 Not Found": None,
    "got 429 Too Many Requests": None,
    "status_code=502 upstream": None,
    "command exited with 137": None,
    "exit code 1, signal 9": None,
    "[Errno 111] Connection refused": None,
    "code 12345 of row 7": "code # of row #",
    "job 01ARZ3NDEKTSV4RRFFQ69G5FAV failed": "job # failed",
    "pod worker-7f9c6d5b8-xkzqp gone": "pod worker-# gone",
    "token sk_live_4eC39HqLyjWDarjtT1zdp7dc": "token sk_live_#",
    "123e4567-e89b-12d3-a456-426614174000 at 10.0.0.1:5432": "# at #",
    "no column \"a7\" in 't9'": "no column ? in ?",
    "took  30.5\ns": "took # s",
    "\u00e9status 500": None,
    "can't find 'bob', won't retry": "can't find ?, won't retry",
    "no row of 'bob's cars' or b'x' in users' data": "no row of ? or ? in users' data",
    "deadbeefcafebabe failed": "# failed",
    "no facade for DEADBEEF in a decade": "no facade for # in a decade",
    "key deadbeef-cafebabe, feedface_deadbeef": "key #, #",
    "no mail to alice.o'neil+x@mail.example.com.": "no mail to #.",
    "rejected <J\u00f6rg@example.co.uk>, b7@example.org": "rejected <#>, #",
    "code404@example.org gave code 404, exit 1.bob@example.org": "# gave code 404, exit 1#",
    "psql: root@localhost, npm i left-pad@1.3.0": "psql: root@localhost, npm i left-pad@#",
    "bad value '" + "some data " * 50 + "'": "bad value ?",
    'bad answer "' + "<html> it's " * 50: "bad answer ?",
}
"""The class of each error text, or None if it's the text itself."""


async def test_codes_stay_in_an_error_class_and_ids_go(connection: asyncpg.Connection) -> None:
    """In any database: its collation, of which "C" is the tests', says what a letter is."""
    expected = {error: kind or error for error, kind in ERROR_CLASSES.items()}
    for collation in ("default", "pg_c_utf8"):
        rows = await connection.fetch(
            f'select error, projector.classify_error(error collate "{collation}") '
            "from unnest($1::text[]) as error",
            list(ERROR_CLASSES),
        )

        assert dict(tuple(row) for row in rows) == expected, collation
    assert {error: classify_error(error) for error in ERROR_CLASSES} == expected


@pytest.mark.every_postgres
async def test_any_text_has_the_class_that_the_fold_gives_it(
    connection: asyncpg.Connection,
) -> None:
    choose = Random(7)
    texts = ["".join(choose.choices(_PARTS, k=choose.randrange(40))) for _ in range(3_000)]

    rows = await connection.fetch(
        "select error, projector.classify_error(error) from unnest($1::text[]) as error", texts
    )

    assert [row for row in map(tuple, rows) if row[1] != classify_error(row[0])] == []


_PARTS: Final = (
    *"abu1 '\"#:-.\u00e9\t404codeHTP()@<f,/\\_=\n\u00a0",
    *("alice", "@ab.cd", "@x-1.io.", "a@b.c1", "deadbeef", "DEADBEEF", "@@"),
    *("code 4", "http404", " 503 Service", "exit=1", "status_code 5"),
)
"""The parts of error texts: ids, codes, addresses, quotes, and other text."""
