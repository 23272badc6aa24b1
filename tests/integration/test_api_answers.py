"""Search, errors as groups, the matrix, tiles, one refused record, trees and files of the API."""

import asyncio
import csv
import gzip
import io
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx
import msgspec
import pytest

from normalizer.envelope import RULES_VERSION
from projector.api import downloads
from projector.api.thresholds import Threshold, Thresholds
from projector.api.visible_settings import VisibleSettings
from tests.support.api_client import api_client, get_rows, insert_events
from tests.support.factories import raw_event
from tests.support.job_runs import backfill_files, write_file
from tests.support.stack import Database, Stack
from tests.support.table_rows import connected

DAY: Final = {"last": "24h"}
FAILED: Final = ("FAILED", "ERROR", "CANCELLED")

_FAMILY: Final = """
    insert into normalizer.events (event_id, execution_id, event_type, step, status, created_at,
                                   parent_execution_id, source_topic, source_partition,
                                   source_offset, context, trace_id)
    select 900 + number, 90 + number, 'playbook.started', 'flow', 'STARTED',
           now() - make_interval(mins => 100 - number), parent, 'noetl.events', 2, 70 + number,
           '{}',
           case when number < 2 then '4bf92f3577b34da6a3ce929d0e0e4736' end
    from   (values (0, null), (1, 90), (2, 90), (3, 91), (4, 93)) as child (number, parent);

    insert into normalizer.redrive_attempts
           (quarantine_id, tried_at, tried_by, normalizer_version, outcome, detail, job_id, run)
    select quarantine_id, now() - interval '2 minutes', 'operator', 1, 'refused', 'no JSON', 'j', 1
    from   normalizer.quarantine;
"""
"""An execution 90 with children, grandchildren and below; a try to redrive the refused record."""


@pytest.fixture(scope="module")
async def filled(stack: Stack) -> AsyncIterator[Database]:
    """Three hours of history, read only."""
    cluster = await stack.cluster("current")
    async with cluster.database() as made:
        await insert_events(made, 3_000)
        connection = await asyncpg.connect(made.admin_url)
        await connection.execute(_FAMILY)
        await connection.close()
        yield made


@pytest.fixture(scope="module")
async def client(filled: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with api_client(filled.url) as made:
        yield made


@pytest.fixture
async def connection(filled: Database) -> AsyncIterator[asyncpg.Connection]:
    made = await asyncpg.connect(filled.admin_url)
    yield made
    await made.close()


async def found(client: httpx.AsyncClient, text: str) -> list[tuple[str, dict[str, str]]]:
    return [(hit["kind"], hit["params"]) for hit in await get_rows(client, "search", q=text)]


async def test_a_pasted_id_is_found_whatever_it_is_of(client: httpx.AsyncClient) -> None:
    call = (await get_rows(client, "calls", failed="true", limit=1))[0]
    execution, command = call["execution_id"], call["command_id"]
    event = (await get_rows(client, f"executions/{execution}/events"))[0]["event_id"]

    assert await found(client, execution) == [("execution", {"execution": execution})]
    assert await found(client, f" {event} ") == [
        ("event", {"execution": execution, "event": event})
    ]
    assert await found(client, command) == [
        ("command", {"execution": execution, "command": command})
    ]
    assert await found(client, "noetl.events:2:71") == [
        ("event", {"execution": "91", "event": "901"})
    ]
    ((kind, params),) = await found(client, "noetl.events:0:4")
    assert kind == "quarantine"
    refused = (await client.get(f"/api/v1/quarantine-records/{params['quarantine']}")).json()
    assert refused["rows"][0]["source_offset"] == "4"
    assert [kind for kind, _ in await found(client, "noetl.events:1:2")] == ["gap"]
    for nothing in ("  ", "no such thing", "9" * 19, "9" * 30, "noetl.events:7:1", "a:b:c"):
        assert await found(client, nothing) == [], nothing


async def test_a_record_between_the_markers_of_transactions_lies_in_no_gap(
    database: Database,
) -> None:
    connection = await asyncpg.connect(database.admin_url)
    await connection.execute(
        """
        insert into normalizer.gaps (topic, incarnation, partition, missing, offsets, reason)
        values ('noetl.events', 0, 0, '{[2, 3), [5, 6)}', 2, 'hole')
        """
    )
    await connection.close()
    async with api_client(database.url) as client:
        kinds = [await found(client, f"noetl.events:0:{offset}") for offset in range(1, 7)]

    assert [[kind for kind, _ in hits] for hits in kinds] == [[], ["gap"], [], [], ["gap"], []]


async def test_a_record_that_only_a_job_has_read_is_found_where_it_was_merged(
    database: Database, tmp_path: Path
) -> None:
    """Nothing reads its partition, so the partition has no position."""
    for number, event in enumerate((raw_event(1, worker_id=None), raw_event(1))):
        line = {
            "topic": "noetl.history", "partition": 0, "offset": 5_000 * number,
            "ts": 1_764_000_000_000, "payload": msgspec.json.encode(event).decode(),
        }  # fmt: skip
        path = write_file(tmp_path / f"{number}.ndjson", msgspec.json.encode(line) + b"\n")
        await backfill_files(database, path)

    async with api_client(database.url) as client:
        first = await get_rows(client, "search", q="noetl.history:0:0")
        # As log lines have it.
        second = await get_rows(client, "search", q="noetl.history[0]@5000")

    assert [hit["kind"] for hit in first] == ["event"]
    assert [hit["params"] for hit in second] == [hit["params"] for hit in first]
    assert "merged into the row of another record" in second[0]["detail"]


async def test_a_trace_is_found_by_its_id_or_a_whole_header(client: httpx.AsyncClient) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    expected = [("trace", {"execution": one, "trace": trace}) for one in ("91", "90")]

    for text in (trace, trace.upper(), f"00-{trace}-00f067aa0ba902b7-01"):
        assert await found(client, text) == expected
    assert await found(client, trace.replace("4", "5")) == []


async def test_names_are_found_exact_ones_first(client: httpx.AsyncClient) -> None:
    hits = await get_rows(client, "search", q="FETCH")
    errors = await get_rows(client, "search", q="http 503")
    team = await get_rows(client, "search", q="team1/")
    worker = await get_rows(client, "search", q="worker-1")

    assert (hits[0]["kind"], hits[0]["label"], hits[0]["exact"]) == ("step", "fetch", True)
    assert hits[0]["params"] == {"step": "fetch"}
    assert {hit["kind"] for hit in errors} == {"error"}
    assert errors[0]["params"] == {"error_class": errors[0]["label"]}
    assert {hit["kind"] for hit in team} == {"playbook"}
    assert all(hit["label"].startswith("team1/") for hit in team)
    assert worker[0]["params"] == {"worker": "worker-1"}
    old = {"since": "2001-01-01T00:00:00Z", "until": "2001-02-01T00:00:00Z"}
    assert await get_rows(client, "search", q="fetch", **old) == []


async def test_an_error_text_is_found_as_it_was_sent(database: Database) -> None:
    """Groups have no numbers and no quoted parts; what somebody copies has both."""
    errors = (
        "deadline exceeded after 30s",
        "deadlock detected: Process 4711 waits for ShareLock on transaction 964958",
        'relation "orders" does not exist (SQLSTATE 42P01)',
        "HTTP 503 from https://api.example/72",
        '{"a": 1}',
        "Pod worker-7f9c4d-xk2zq evicted: " + "memory, " * 40 + "node 12",
    )
    async with connected(database) as owner:
        await owner.execute(
            """
            insert into normalizer.events
                   (event_id, execution_id, event_type, step, status, created_at, command_id, error)
            select number, number, 'call.done', 'fetch', 'ERROR', now() - interval '9 minutes', 'c',
                   error
            from   unnest($1::text[]) with ordinality as sent (error, number)
            """,
            errors,
        )
    texts = {error: error for error in errors} | {
        "exceeded after 45s": errors[0],
        "DEADLINE EXCEEDED AFTER 30S": errors[0],
        "waits for ShareLock on transaction 1": errors[1],
        '"customers" does not exist': errors[2],
        "deadline exceeded after #": errors[0],
        "evicted: memory, memory": errors[5],
    }
    async with api_client(database.url) as client:
        for text, error in texts.items():
            hits = await get_rows(client, "search", q=text[:400])
            groups = await get_rows(client, "error-groups", q=text)
            ((sent,),) = [
                {row["error"] for row in await get_rows(client, "calls", **hit["params"])}
                for hit in hits
            ]
            assert (sent, [row["error"] for row in groups]) == (error, [error]), text

        misses = {
            text: (await client.get("/api/v1/search", params={"q": text})).json()
            for text in ("30s", "after 30 days", "no such thing", "9" * 19)
        }

    assert [answer["rows"] for answer in misses.values()] == [[]] * 4
    assert misses["after 30 days"]["error_class"] == "after # days"
    assert misses["no such thing"]["error_class"] == "no such thing"


async def test_error_groups_are_the_failed_calls_once(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    expected = await connection.fetch(
        "select error_class, count(*) as calls, min(finished_at) as first, "
        "max(finished_at) as last, array_agg(distinct step order by step) as steps "
        "from projector.failed_calls group by 1"
    )

    answer = (await client.get("/api/v1/error-groups", params=DAY)).json()

    rows = {row["error_class"]: row for row in answer["rows"]}
    assert {name: row["calls"] for name, row in rows.items()} == {
        row["error_class"]: row["calls"] for row in expected
    }
    assert answer["calls"] == sum(row["calls"] for row in rows.values())
    assert answer["groups"] == len(rows)
    assert sum(row["share"] for row in rows.values()) == pytest.approx(1.0)
    for one in expected:
        row = rows[one["error_class"]]
        assert datetime.fromisoformat(row["first_seen_at"]) == one["first"]
        assert datetime.fromisoformat(row["last_seen_at"]) == one["last"]
        assert sorted(row["steps"]) == one["steps"]
        assert len(row["trend"]) == answer["trend_intervals"]
        assert sum(row["trend"]) == row["calls"]
        assert (row["new"], row["back"], row["calls_before"]) == (True, False, 0)


async def test_many_error_groups_with_many_steps_hold_up_nobody(database: Database) -> None:
    """Counted in processor time: other load must not matter."""
    owner = await asyncpg.connect(database.admin_url)
    await owner.execute(
        """
        insert into projector.error_hours
               (hour, step, attempts, status, error_class, shard, calls)
        select projector.hour_of(now()), 'step ' || step, attempts, 'FAILED', 'error ' || error, 0,
               step
        from   generate_series(1, 500) as error
        cross join generate_series(1, 40) as step
        cross join generate_series(0, 2) as attempts
        """
    )
    await owner.close()
    longest_s = 0.0

    async def watch() -> None:
        nonlocal longest_s
        while True:
            began_s = time.process_time()
            await asyncio.sleep(0.01)
            longest_s = max(longest_s, time.process_time() - began_s)

    async with api_client(database.url, timeout_s=60) as client:
        watching = asyncio.create_task(watch())
        rows = await get_rows(client, "error-groups", limit=500, **DAY)
        watching.cancel()

    assert len(rows) == 500
    assert rows[0]["steps"] == [f"step {step}" for step in range(40, 0, -1)]
    assert rows[0]["attempts"] == [0, 1, 2]
    assert longest_s < 2.0


async def test_error_groups_are_of_the_calls_that_the_filters_leave(database: Database) -> None:
    connection = await asyncpg.connect(database.admin_url)
    since: datetime = await connection.fetchval(
        "select projector.hour_of(now()) - interval '2 hours'"
    )
    await connection.execute(
        """
        insert into normalizer.events
               (event_id, execution_id, event_type, step, status, created_at, command_id, error,
                meta, attempts)
        select number, number, 'call.done', step, status,
               $1::timestamptz + make_interval(mins => minute), 'c',
               error, jsonb_build_object('attempts', attempts), attempts
        from   (
                   values (1, 'fetch', 'ERROR', 40, 0, 'HTTP 500'),
                          (2, 'store', 'FAILED', 40, 1, 'HTTP 500'),
                          (3, 'store', 'FAILED', 40, 1, 'HTTP 500'),
                          (4, 'early', 'CANCELLED', 5, 2, 'HTTP 500'),
                          (5, 'late', 'FAILED', 40, 3, 'no answer')
               ) as call (number, step, status, minute, attempts, error)
        """,
        since,
    )
    await connection.close()
    late = {"since": f"{since:%Y-%m-%dT%H}:30:00Z", "until": f"{since:%Y-%m-%dT%H}:59:00Z"}
    async with api_client(database.url) as client:
        (by_hour,) = await get_rows(client, "error-groups", last="24h", step="fetch")
        by_minute, _ = await get_rows(client, "error-groups", **late)
        of_failed, _ = await get_rows(client, "error-groups", status="FAILED", **late)
        sought = await client.get("/api/v1/error-groups", params={"last": "24h", "q": "http"})

    found = [
        (row["calls"], row["steps"], row["attempts"], row["statuses"])
        for row in (by_hour, by_minute, of_failed)
    ]
    assert found == [
        (1, ["fetch"], [0], ["ERROR"]),
        (3, ["store", "fetch"], [1, 0], ["FAILED", "ERROR"]),
        (2, ["store"], [1], ["FAILED"]),
    ]
    assert (sought.json()["groups"], sought.json()["calls"]) == (1, 4)
    assert sought.json()["rows"][0]["share"] == 0.8


async def test_an_error_is_new_in_the_window_in_which_it_was_first_seen(database: Database) -> None:
    """One that was there six days ago, and not in the window before, is back."""
    async with connected(database) as owner:
        await owner.execute(
            """
            insert into normalizer.events
                   (event_id, execution_id, event_type, step, status, created_at, command_id, error)
            select number, number, 'call.done', 'fetch', 'ERROR',
                   now() - make_interval(mins => minutes), 'c', error
            from   (
                       values (1, 8640, 'no route'), (2, 5, 'no route'),
                              (3, 5, 'no answer'), (4, 3, 'no answer'),
                              (5, 90, 'no memory'), (6, 4, 'no memory')
                   ) as call (number, minutes, error)
            """
        )
    found: dict[str, dict[str, tuple[bool, bool]]] = {}
    async with api_client(database.url) as client:
        for last in ("1h", "3h", "7d"):
            rows = await get_rows(client, "error-groups", last=last)
            found[last] = {row["error_class"]: (row["new"], row["back"]) for row in rows}
        (detail,) = await get_rows(client, "error-group", error_class="no route", last="1h")
        (gone,) = await get_rows(
            client, "error-group", error_class="no route", since="2001-01-01T00:00:00Z",
            until="2001-01-02T00:00:00Z",
        )  # fmt: skip

    new, back, neither = (True, False), (False, True), (False, False)
    assert found == {
        "1h": {"no route": back, "no answer": new, "no memory": neither},
        "3h": {"no route": back, "no answer": new, "no memory": new},
        "7d": {"no route": new, "no answer": new, "no memory": new},
    }
    assert (detail["new"], detail["back"]) == back
    assert (gone["new"], gone["back"]) == neither


async def test_calls_before_are_those_of_the_window_before(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    latest = await connection.fetchval("select max(finished_at) from projector.failed_calls")
    since = latest - timedelta(minutes=61)
    window = {"since": since.isoformat(), "until": (latest + timedelta(seconds=60)).isoformat()}

    by_call = await get_rows(client, "error-groups", **window)
    by_step = await get_rows(client, "error-groups", **window, worker="worker-1")

    before = since.replace(second=0, microsecond=0) - (latest - since + timedelta(minutes=2))
    for row in by_call:
        had = await connection.fetchval(
            "select count(*) from projector.failed_calls where error_class = $1 "
            "and finished_at >= $2 and finished_at < $3",
            row["error_class"], before, since.replace(second=0, microsecond=0),
        )  # fmt: skip
        assert row["calls_before"] <= had
    assert any(row["calls_before"] for row in by_call)
    assert {row["error_class"] for row in by_step} <= {row["error_class"] for row in by_call}
    assert sum(row["calls"] for row in by_step) < sum(row["calls"] for row in by_call)


async def test_one_error_says_what_its_calls_have_in_common(client: httpx.AsyncClient) -> None:
    group = max(await get_rows(client, "error-groups", **DAY), key=lambda row: row["calls"])
    name = group["error_class"]

    (detail,) = await get_rows(client, "error-group", error_class=name, **DAY)
    calls = await get_rows(client, "calls", error_class=name, limit=500, **DAY)
    (gone,) = await get_rows(
        client, "error-group", error_class=name, since="2001-01-01T00:00:00Z",
        until="2001-01-02T00:00:00Z",
    )  # fmt: skip
    unknown = await client.get("/api/v1/error-group", params={"error_class": "never seen"})

    assert {key: detail[key] for key in group} == group
    assert detail["counted"] == group["calls"] == len(calls)
    for key, column in (("step", "step"), ("playbook", "playbook"), ("attempts", "attempts"),
                        ("status", "status"), ("worker", "worker_id")):  # fmt: skip
        counted = {one["value"]: one["calls"] for one in detail[f"by_{key}"]}
        values = [str(row[column]) for row in calls]
        assert counted == {value: values.count(value) for value in values}
    assert (gone["calls"], gone["last_seen_at"]) == (0, group["last_seen_at"])
    assert unknown.status_code == 404


async def test_a_count_is_compared_with_the_window_before_once_its_own_is_over(
    database: Database,
) -> None:
    """A steady 100 an hour: the hour that has begun counts less, and that is no change."""
    owner = await asyncpg.connect(database.admin_url)
    hour = await owner.fetchval("select projector.hour_of(now())")
    await owner.execute(
        """
        insert into projector.quarantine_hours (hour, reason, shape, shard, refused)
        select   $1::timestamptz - make_interval(hours => ago), 'too_deep', '', 0,
                 case when ago = 0 then 8 else 100 end
        from     generate_series(0, 14) as ago
        """,
        hour,
    )
    await owner.close()
    over = {"last": "6h", "until": hour.isoformat()}
    async with api_client(database.url) as client:
        tiles = [
            next(
                tile
                for tile in await get_rows(client, "tiles", **window)
                if tile["tile"] == "refused"
            )
            for window in ({"last": "6h"}, over)
        ]

    assert [(tile["value"], tile["before"]) for tile in tiles] == [(608, 700), (600, 600)]
    assert [tile["change"] for tile in tiles] == [None, 0]


async def test_the_list_of_a_span_has_what_its_figures_count(database: Database) -> None:
    """Figures of more than two hours begin with an hour."""
    owner = await asyncpg.connect(database.admin_url)
    async with owner.transaction():
        # Both calls stand on the edge of a window: it must not move while the test runs.
        await owner.execute(_FAILED_AS_AN_HOUR_BEGAN)
        now: datetime = await owner.fetchval("select now()")
    await owner.close()
    async with api_client(database.url) as client:
        for last in ("6h", "15m"):
            span = {"last": last, "until": now.isoformat()}
            counted = await get_rows(client, "error-groups", **span)
            listed = await client.get("/api/v1/calls", params={"failed": "true", **span})

            assert sum(row["calls"] for row in counted) == len(listed.json()["rows"]) > 0, last


_FAILED_AS_AN_HOUR_BEGAN: Final = """
    insert into normalizer.events (event_id, execution_id, event_type, step, status, created_at,
                                   command_id, error, source_topic, source_partition)
    values (1, 1, 'call.done', 'fetch', 'FAILED', date_trunc('hour', now() - interval '6 hours'),
            '1:fetch', 'HTTP 500', 'noetl.events', 0),
           (2, 1, 'call.done', 'fetch', 'FAILED',
            date_trunc('minute', now() - interval '15 minutes'), '2:fetch', 'HTTP 500',
            'noetl.events', 0)
"""


@pytest.mark.parametrize("last", ["6h", "15m"])
async def test_a_call_whose_clock_is_ahead_is_listed_where_it_is_counted(
    database: Database, last: str
) -> None:
    """It ends in the last second of the running hour or minute, which the counts cover whole."""
    owner = await asyncpg.connect(database.admin_url)
    grain = "hour" if last == "6h" else "minute"
    await owner.execute(_AHEAD.format(grain=grain))
    await owner.close()
    async with api_client(database.url) as client:
        counted = await get_rows(client, "error-groups", last=last)
        by_worker = await get_rows(client, "worker-failures", last=last)
        listed = await get_rows(client, "calls", failed="true", last=last)

    # Of the two, one is ahead of the clock, also if the hour or minute ends before the answers.
    assert sum(row["calls"] for row in counted) == len(listed) == by_worker[0]["failed"] == 2


_AHEAD: Final = """
    insert into normalizer.events (event_id, execution_id, event_type, step, status, created_at,
                                   command_id, error, source_topic, source_partition)
    select number, 1, 'call.done', 'fetch', 'FAILED',
           date_trunc('{grain}', now()) + number * interval '1 {grain}' - interval '1 second',
           number || ':fetch', 'HTTP 500', 'noetl.events', 0
    from   generate_series(0, 1) as number
"""


async def test_the_executions_behind_a_bar_are_those_that_ended_in_it(
    database: Database,
) -> None:
    """One began in the hour before it ended, and is alone in its hour: that is also paged."""
    connection = await asyncpg.connect(database.admin_url)
    await connection.execute(_ENDS_LATER)
    await connection.close()
    hour = {"since": "2026-07-10T10:00:00Z", "until": "2026-07-10T11:00:00Z"}

    async with api_client(database.url) as client:
        (bar,) = await get_rows(client, "execution-outcomes", every="hour", **hour)
        began = await get_rows(client, "executions", **hour)
        first = await client.get(
            "/api/v1/executions", params=hour | {"time": "ended_at", "limit": "1"}
        )
        cursor = {"cursor": first.json()["next"], "limit": "1"}
        rest = await get_rows(client, "executions", time="ended_at", **hour, **cursor)
        failed = await get_rows(client, "executions", time="ended_at", status="FAILED", **hour)

    assert (bar["begun"], bar["completed"], bar["failed"]) == (1, 1, 1)
    assert [row["execution_id"] for row in began] == ["2"]
    assert [row["execution_id"] for row in (*first.json()["rows"], *rest)] == ["1", "2"]
    assert [row["execution_id"] for row in failed] == ["1"]


_ENDS_LATER: Final = """
    insert into normalizer.events (event_id, execution_id, event_type, step, status, created_at,
                                   source_topic, source_partition, source_offset, context)
    select row_number() over (), execution_id, event_type, 'flow', status,
           '2026-07-10T09:00Z'::timestamptz + make_interval(mins => minute),
           'noetl.events', 0, row_number() over (), '{}'
    from   (values (1, 'playbook.started', 'STARTED', 50), (1, 'playbook.failed', 'FAILED', 70),
                   (2, 'playbook.started', 'STARTED', 61),
                   (2, 'playbook.completed', 'COMPLETED', 62))
           as sent (execution_id, event_type, status, minute)
"""


async def test_a_loop_says_how_many_of_its_iterations_are_done(client: httpx.AsyncClient) -> None:
    far = {"step": "each", "issued": 3, "done": 1, "failed": 1}

    assert await get_rows(client, "executions/3/loops") == [far]
    (open_loop,) = await get_rows(client, "open-loops", **DAY)
    assert open_loop["execution_id"] == "3"
    assert open_loop | far == open_loop
    assert await get_rows(client, "open-loops", step="fetch", **DAY) == []
    assert await get_rows(client, "open-loops", until="2001-01-01T00:00:00Z") == []


async def test_the_matrix_is_the_calls_by_attempt_and_status(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    expected = await connection.fetch(
        "select attempts, status, count(*) as calls from projector.calls "
        "where finished_at is not null group by 1, 2 order by 1, 2"
    )

    answer = (await client.get("/api/v1/attempts-matrix", params=DAY)).json()
    failed = await get_rows(client, "attempts-matrix", status=FAILED, step="fetch", last="2h")

    cells = [(cell["attempts"], cell["status"], cell["calls"]) for cell in answer["rows"]]
    assert cells == [tuple(row) for row in expected]
    assert answer["calls"] == sum(row["calls"] for row in expected)
    assert sum(cell["share"] for cell in answer["rows"]) == pytest.approx(1.0)
    first = [cell for cell in answer["rows"] if cell["attempts"] == 0]
    assert sum(cell["share_of_attempt"] for cell in first) == pytest.approx(1.0)
    assert all(sum(cell["trend"]) == cell["calls"] for cell in answer["rows"])
    assert answer["unfinished"] is True
    assert failed
    assert {cell["status"] for cell in failed} <= set(FAILED)


async def test_the_shares_of_the_matrix_are_of_all_calls_however_few_cells_are_returned(
    database: Database,
) -> None:
    connection = await asyncpg.connect(database.admin_url)
    await connection.execute(
        """
        insert into normalizer.events
               (event_id, execution_id, event_type, step, status, created_at, command_id)
        select number, number, 'call.done', 'fetch', status, now() - age, 'c'
        from   (
                   values (1, 'COMPLETED', interval '1 hour'), (2, 'COMPLETED', '1 hour'),
                          (3, 'COMPLETED', '1 hour'), (4, 'FAILED', '1 hour'),
                          (5, 'COMPLETED', '30 hours'), (6, 'ERROR', '30 hours')
               ) as call (number, status, age)
        """
    )
    await connection.close()
    async with api_client(database.url) as client:
        everything = await get_rows(client, "attempts-matrix", last="24h")
        answer = await client.get("/api/v1/attempts-matrix", params={"last": "24h", "limit": 1})

    (cell,) = answer.json()["rows"]
    assert answer.json()["truncated"]
    assert cell in everything
    assert (cell["share"], cell["share_of_attempt"], cell["share_before"]) == (0.75, 0.75, 0.5)


async def test_tiles_are_what_the_views_say(
    filled: Database, connection: asyncpg.Connection
) -> None:
    calls, succeeded, first, retries = await connection.fetchrow(
        "select sum(calls)::bigint, "
        "(sum(succeeded) filter (where attempts = 0))::bigint, "
        "(sum(calls) filter (where attempts = 0))::bigint, "
        "(sum(calls) filter (where attempts > 0))::bigint "
        "from projector.call_outcomes_by_attempt"
    )
    stuck = await connection.fetchval("select count(*) from projector.stuck_executions where begun")
    thresholds: Thresholds = {
        "executions_completed": Threshold(0.9, 0.5), "first_attempt_success": Threshold(1.0, 0.99),
        "error_rate": Threshold(0.5, 0.9), "retry_ratio": Threshold(0.5, 0.9),
        "stuck": Threshold(1, 10_000), "refused": Threshold(1, 2),
    }  # fmt: skip
    async with api_client(
        filled.url, visible=VisibleSettings(thresholds=thresholds, brokers=("kafka:9092",))
    ) as client:
        answer = (await client.get("/api/v1/tiles", params=DAY)).json()
        short = (await client.get("/api/v1/tiles", params={"last": "15m"})).json()
        settings = (await client.get("/api/v1/settings")).json()

    tiles = {tile["tile"]: tile for tile in answer["rows"]}
    assert set(tiles) == set(thresholds) == set(settings["thresholds"])
    assert (settings["topics"], settings["brokers"]) == ([], ["kafka:9092"])
    assert tiles["first_attempt_success"]["value"] == succeeded / first
    assert tiles["first_attempt_success"]["level"] == "critical"
    assert tiles["retry_ratio"]["value"] == retries / first
    assert tiles["error_rate"]["denominator"] == calls == answer["calls"]
    assert tiles["error_rate"]["level"] == "ok"
    silent_since = await connection.fetchval(
        "select count(*) from projector.stuck_executions where begun and last_at >= $1",
        datetime.fromisoformat(answer["since"]),
    )
    assert (tiles["stuck"]["value"], tiles["stuck"]["before"]) == (stuck, None)
    assert sum(tiles["stuck"]["trend"]) == silent_since > 0
    assert (tiles["refused"]["value"], tiles["refused"]["level"]) == (1, "warn")
    for name, tile in tiles.items():
        assert len(tile["trend"]) == answer["trend_intervals"], name
        assert tile["change"] is None, name
    assert short["every"] == "minute"
    assert short["calls"] < calls


async def test_a_refused_record_says_why_and_what_to_type(client: httpx.AsyncClient) -> None:
    listed = (await get_rows(client, "quarantine-records"))[0]

    (record,) = await get_rows(client, f"quarantine-records/{listed['quarantine_id']}")

    assert {name: record[name] for name in listed} == listed
    assert record["coordinates"] == "noetl.events:0:4"
    assert record["rule"] == "the record is no JSON value, or holds a number beyond the limits"
    assert [(one["outcome"], one["tried_by"]) for one in record["tries"]] == [
        ("refused", "operator")
    ]
    commands = [one["command"] for one in record["commands"]]
    entry = listed["quarantine_id"]
    assert f"normalizer quarantine show {entry}" in commands
    assert f"normalizer quarantine redrive --id {entry} --dry-run" in commands
    assert "normalizer explain noetl.events:0:4" in commands
    assert record["current_rules"] == RULES_VERSION
    for path in ("999999", "x"):
        assert (await client.get(f"/api/v1/quarantine-records/{path}")).status_code == 404


@pytest.mark.parametrize(
    ("change", "redrives"),
    [
        (
            f"update normalizer.redrive_attempts set normalizer_version = {RULES_VERSION}",
            ["--id {} --again --dry-run", "--id {} --again"],
        ),
        ("update normalizer.quarantine set redriven_at = now()", []),
    ],
    ids=["tried under the rules of today", "redriven"],
)
async def test_only_commands_that_would_do_something_are_given(
    database: Database, change: str, redrives: list[str]
) -> None:
    await insert_events(database, 100)
    connection = await asyncpg.connect(database.admin_url)
    await connection.execute(f"{_FAMILY} {change}")
    await connection.close()
    async with api_client(database.url) as client:
        listed = (await get_rows(client, "quarantine-records"))[0]

        (record,) = await get_rows(client, f"quarantine-records/{listed['quarantine_id']}")

    typed = [one["command"] for one in record["commands"]]
    start = "normalizer quarantine redrive "
    entry = listed["quarantine_id"]
    assert [one.removeprefix(start) for one in typed if one.startswith(f"{start}--id")] == [
        one.format(entry) for one in redrives
    ]


async def test_an_execution_has_its_parents_above_and_its_children_below(
    client: httpx.AsyncClient,
) -> None:
    async def tree(execution_id: int) -> list[tuple[str, int, int]]:
        rows = await get_rows(client, f"executions/{execution_id}/tree")
        return [(row["execution_id"], row["depth"], row["children"]) for row in rows]

    assert await tree(90) == [
        ("90", 0, 2), ("91", 1, 1), ("93", 2, 1), ("94", 3, 0), ("92", 1, 0),
    ]  # fmt: skip
    assert await tree(93) == [("90", -2, 2), ("91", -1, 1), ("93", 0, 1), ("94", 1, 0)]
    assert (await client.get("/api/v1/executions/1234567/tree")).status_code == 404


@pytest.mark.parametrize(
    ("execution", "rows", "truncated"),
    [(1, 9, True), (17, 25, True), (18, 26, False), (21, 26, False), (22, 25, True)],
)
async def test_a_tree_says_that_there_is_more_of_it(
    database: Database, execution: int, rows: int, truncated: bool
) -> None:
    owner = await asyncpg.connect(database.admin_url)
    await owner.execute(
        """
        insert into normalizer.events (event_id, execution_id, event_type, step, status, created_at,
                                       parent_execution_id)
        select number, number, 'playbook.started', 'flow', 'STARTED', now(), nullif(number - 1, 0)
        from   generate_series(1, 26) as number
        """
    )
    await owner.close()
    async with api_client(database.url) as client:
        answer = (await client.get(f"/api/v1/executions/{execution}/tree")).json()

    assert (len(answer["rows"]), answer["truncated"]) == (rows, truncated)


async def test_the_events_of_an_execution_are_a_file_of_canonical_lines(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projector.api.downloads._EVENTS_A_PAGE", 3)
    execution = (await get_rows(client, "executions", status="COMPLETED"))[-1]["execution_id"]
    events = await get_rows(client, f"executions/{execution}/events", limit=500)

    answer = await client.get(f"/api/v1/executions/{execution}/events.ndjson")
    (one,) = await get_rows(client, f"executions/{execution}/events/{events[4]['event_id']}")
    pages = 0

    async def counted(*arguments: Any) -> Any:
        nonlocal pages
        pages += 1
        return await read_page(*arguments)

    read_page = downloads._page
    monkeypatch.setattr(downloads, "_page", counted)
    head = await client.head(f"/api/v1/executions/{execution}/events.ndjson")
    assert (head.status_code, head.content, pages) == (200, b"", 1)
    none = await client.get("/api/v1/executions/1234567/events.ndjson")
    wrong = await client.get(f"/api/v1/executions/{execution}/events.ndjson?limit=1")

    lines = answer.text.splitlines()
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert f'filename="execution-{execution}.ndjson"' in answer.headers["content-disposition"]
    assert [f'"event_id":{event["event_id"]},' in line
            for event, line in zip(events, lines, strict=True)] == [True] * len(events)  # fmt: skip
    assert "".join(one["canonical"].split()) == "".join(lines[4].split())
    assert (none.status_code, wrong.status_code) == (404, 400)


async def test_a_download_has_every_event_once_that_was_there_when_it_began(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two pages reports move events to other times, and one event comes."""
    monkeypatch.setattr("projector.api.downloads._EVENTS_A_PAGE", 2)
    owner = await asyncpg.connect(database.admin_url)
    await owner.execute(
        """
        insert into normalizer.events (event_id, execution_id, event_type, status, created_at)
        select number, 95, 'call.done', 'COMPLETED', now() - make_interval(mins => 100 - number)
        from   generate_series(1, 6) as number
        """
    )

    async def moved(*arguments: Any) -> Any:
        page = await read_page(*arguments)
        await owner.execute(
            """
            update normalizer.events
            set    created_at = now() - make_interval(hours => event_id::integer / 2)
            where  event_id in (1, 6);
            insert into normalizer.events (event_id, execution_id, event_type, status)
            values (7, 95, 'call.done', 'COMPLETED')
            on conflict do nothing
            """
        )
        return page

    read_page = downloads._page
    monkeypatch.setattr(downloads, "_page", moved)
    async with api_client(database.url) as client:
        answer = await client.get("/api/v1/executions/95/events.ndjson")
    await owner.close()

    ids = [msgspec.json.decode(line)["event_id"] for line in answer.content.splitlines()]
    assert ids == [1, 2, 3, 4, 5, 6]


async def test_a_download_of_large_events_is_read_in_small_pages(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await asyncpg.connect(database.admin_url)
    await owner.execute(
        """
        insert into normalizer.events (event_id, execution_id, event_type, step, status, created_at,
                                       source_topic, source_partition, context)
        select 950 + number, 95, 'call.done', 'fetch', 'COMPLETED',
               now() - make_interval(mins => 100 - number), 'noetl.events', 3,
               json_build_object('text', repeat('x', 250000))
        from   generate_series(1, 40) as number
        """
    )
    await owner.close()
    sizes: list[int] = []

    async def measured(*arguments: Any) -> Any:
        page = await read_page(*arguments)
        sizes.append(len(page.lines))
        return page

    read_page = downloads._page
    monkeypatch.setattr(downloads, "_page", measured)
    async with api_client(database.url) as client:
        answer = await client.get("/api/v1/executions/95/events.ndjson")

    assert answer.content.count(b"\n") == 40
    assert sum(sizes) == len(answer.content) > 10_000_000
    assert max(sizes) < 1_500_000


async def test_rows_come_as_csv_and_answers_compressed(client: httpx.AsyncClient) -> None:
    params: dict[str, str] = {"limit": "50", **DAY}
    rows = await get_rows(client, "calls", **params)

    answer = await client.get("/api/v1/calls", params=params, headers={"Accept": "text/csv"})
    plain = await client.get(
        "/api/v1/calls", params=params, headers={"Accept-Encoding": "identity"}
    )
    async with client.stream(
        "GET", "/api/v1/calls", params=params, headers={"Accept-Encoding": "gzip"}
    ) as packed:
        raw = b"".join([part async for part in packed.aiter_raw()])

    read: list[dict[str, Any]] = list(csv.DictReader(io.StringIO(answer.text)))
    assert answer.headers["content-type"].startswith("text/csv")
    assert [row["execution_id"] for row in read] == [row["execution_id"] for row in rows]
    assert [row["command_id"] for row in read] == [row["command_id"] or "" for row in rows]
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(raw) == plain.content
    assert len(raw) < len(plain.content) / 3
    assert "content-encoding" not in plain.headers
    assert answer.headers["etag"] != plain.headers["etag"]
    assert "Accept-Encoding" in plain.headers["vary"]


async def test_rows_as_csv_say_whether_there_are_more(client: httpx.AsyncClient) -> None:
    for path, name in (("calls?limit=2", "next"), ("error-groups?limit=1", "truncated")):
        whole = (await client.get(f"/api/v1/{path}")).json()
        answer = await client.get(f"/api/v1/{path}", headers={"Accept": "text/csv"})

        beside = msgspec.json.decode(answer.headers["answer-clock"])
        assert whole[name], path
        assert beside[name] == whole[name]
        assert beside.keys() >= whole.keys() - {"rows"}


async def test_the_first_page_of_a_list_says_how_long_it_is(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A count that takes longer than its limit is left out: on a busy machine any may.
    monkeypatch.setattr("projector.api.queries.run_query._COUNT_WITHIN_S", 10)
    whole = (await client.get("/api/v1/executions", params={"limit": 500, **DAY})).json()
    first = (await client.get("/api/v1/executions", params={"limit": 7, **DAY})).json()
    second = (
        await client.get("/api/v1/executions", params={"limit": 7, "cursor": first["next"], **DAY})
    ).json()
    monkeypatch.setattr("projector.api.queries.run_query.MOST_COUNTED", 20)
    capped = (await client.get("/api/v1/executions", params={"limit": 8, **DAY})).json()
    monkeypatch.setattr("projector.api.queries.run_query._COUNT_WITHIN_S", 0.001)
    slow = (await client.get("/api/v1/calls", params={"limit": 9, **DAY})).json()

    assert first["total"] == whole["total"] == len(whole["rows"])
    assert "at_least" not in first
    assert "total" not in second
    assert (capped["total"], capped["at_least"]) == (20, True)
    assert len(slow["rows"]) == 9


async def test_only_pages_of_allowed_origins_may_read_and_only_the_token_shows_names(
    filled: Database,
) -> None:
    async with api_client(
        filled.url, token="a-token-of-some-length", origins=["https://grafana.example"]
    ) as client:
        allowed = {"Origin": "https://grafana.example"}
        asks = {
            **allowed,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "authorization",
        }
        before = await client.options("/api/v1/jobs", headers=asks)
        read = await client.get(
            "/api/v1/jobs",
            headers={**allowed, "Authorization": "Bearer a-token-of-some-length"},
        )
        closed = (await client.get("/metrics")).text
        named = (
            await client.get("/metrics", headers={"Authorization": "Bearer a-token-of-some-length"})
        ).text
        other = await client.get("/api/v1/jobs", headers={"Origin": "https://other.example"})
        writes = await client.options(
            "/api/v1/jobs", headers={**asks, "Access-Control-Request-Method": "DELETE"}
        )

    assert before.status_code == read.status_code == 200
    for answer in (before, read):
        assert answer.headers["access-control-allow-origin"] == "https://grafana.example"
    assert (other.status_code, writes.status_code) == (401, 400)
    assert 'step="fetch"' in named
    assert "step=" not in closed
    assert "projector_recent_calls{" in closed
    assert "access-control-allow-origin" not in other.headers


async def test_an_unknown_word_of_a_closed_list_is_refused(client: httpx.AsyncClient) -> None:
    for path, params in (
        ("calls", {"status": "DONE"}), ("executions", {"status": "ERROR"}),
        ("quarantine-records", {"reason": "none"}), ("late-arrivals", {"shape": "martian"}),
        ("coercions-by-rule", {"rule": "none"}), ("stuck-executions", {"silent_for": "ever"}),
        ("late-arrivals", {"lateness": "soon"}), ("attempts-matrix", {"status": ["FAILED", "x"]}),
    ):  # fmt: skip
        answer = await client.get(f"/api/v1/{path}", params=params)

        assert answer.status_code == 400, (path, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        assert "expected one of" in answer.json()["detail"]


async def test_metrics_of_outcomes_are_what_the_views_say(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    calls = await connection.fetchval(
        "select sum(calls)::bigint from projector.call_outcomes_by_attempt "
        "where hour >= projector.hour_of(now()) - interval '1 hour' and attempts > 0"
    )

    text = (await client.get("/metrics")).text

    retries = [
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith('projector_recent_calls{attempts="retry"')
    ]
    assert sum(retries) == calls > 0
    assert 'projector_threshold{figure="stuck",level="critical"} 20.0' in text
    assert 'projector_first_attempt_success_ratio{window="recent"}' in text
    assert 'projector_first_attempt_success_ratio{window="last_week"}' not in text


async def test_figures_that_can_no_longer_be_read_grow_old(database: Database) -> None:
    admin = await asyncpg.connect(database.admin_url)

    async def age_s(client: httpx.AsyncClient) -> float:
        text = (await client.get("/metrics")).text
        (line,) = (one for one in text.splitlines() if one.startswith("projector_figures_age"))
        return float(line.rpartition(" ")[2])

    async with api_client(database.url) as client:
        read = await age_s(client)
        async with admin.transaction():
            await admin.execute("lock table normalizer.source_positions in access exclusive mode")
            locked_out = await age_s(client)
        read_again = await age_s(client)
    await admin.close()

    assert read < 1 < locked_out
    assert read_again < 1


async def test_the_last_week_counts_only_if_it_is_whole(database: Database) -> None:
    connection = await asyncpg.connect(database.admin_url)
    insert = (
        "insert into projector.call_hours values (projector.hour_of($1::timestamptz), '', 'load', "
        "0, $2::text, 0, 1, 0, 0, 0)"
    )
    ratios = []
    for days, status in ((6, "FAILED"), (3, "COMPLETED"), (8, "COMPLETED")):
        await connection.execute(insert, datetime.now(UTC) - timedelta(days=days), status)
        async with api_client(database.url) as client:
            text = (await client.get("/metrics")).text
        ratios.append(
            [line[-3:] for line in text.splitlines() if 'ratio{window="last_week"}' in line]
        )
    await connection.close()

    assert ratios == [[], [], ["0.5"]]


async def test_an_hour_whose_parts_add_up_to_nothing_is_no_begin_of_the_week(
    database: Database,
) -> None:
    connection = await asyncpg.connect(database.admin_url)
    await connection.executemany(
        "insert into projector.call_hours values (projector.hour_of(now() - $1::interval), '', "
        "'load', 0, 'COMPLETED', $2, $3, 0, 0, 0)",
        [
            (timedelta(days=8), 0, 1),
            (timedelta(days=8), 1, -1),
            (timedelta(days=3), 0, 1),
        ],
    )
    await connection.close()

    async with api_client(database.url) as client:
        text = (await client.get("/metrics")).text

    assert 'ratio{window="last_week"}' not in text
