"""The API does what its callers expect: names of fields as filters, links, CSV, and long polls."""

import asyncio
import csv
import io
import re
import time
from datetime import datetime
from typing import Final

import httpx
import pytest

from projector.api.endpoints import API_PATH, ENDPOINTS
from projector.api.queries import playbook_detail
from tests.support.api_client import api_client, get_rows, insert_events
from tests.support.stack import Database
from tests.support.table_rows import connected

END: Final = """
    insert into normalizer.events (event_id, execution_id, event_type, step, status, created_at)
    values ($1, 777, $2, 'flow', $3, now())
"""


async def test_a_field_is_a_filter_by_its_own_name(client: httpx.AsyncClient) -> None:
    row = (await get_rows(client, "calls", failed="true", limit=1))[0]

    for field, parameter in (
        ("execution_id", "execution"),
        ("command_id", "command"),
        ("worker_id", "worker"),
    ):
        by_field = await get_rows(client, "calls", **{field: row[field]})
        assert by_field == await get_rows(client, "calls", **{parameter: row[field]}), field
        assert by_field
    unknown = await client.get(f"{API_PATH}/tiles", params={"execution_id": 1})
    assert unknown.status_code == 400


async def test_links_lead_through_every_page(client: httpx.AsyncClient) -> None:
    address: str | None = f"{API_PATH}/executions?limit=40&status=COMPLETED"
    seen: list[str] = []
    while address:
        answer = await client.get(address)
        seen += [row["execution_id"] for row in answer.json()["rows"]]
        found = re.fullmatch('<(.+)>; rel="next"', answer.headers.get("Link", ""))
        assert (found is not None) == (answer.json().get("next") is not None)
        address = found[1] if found else None

    assert len(seen) == len(set(seen)) > 40
    assert seen == [
        row["execution_id"]
        for row in await get_rows(client, "executions", limit=500, status="COMPLETED")
    ]


async def test_the_root_lists_every_question(client: httpx.AsyncClient) -> None:
    rows = (await client.get(API_PATH)).json()["rows"]
    as_csv = (await client.get(f"{API_PATH}?format=csv")).text

    assert {row["path"] for row in rows} >= {API_PATH + endpoint.path for endpoint in ENDPOINTS}
    assert all(row["question"].strip() for row in rows)
    assert [row["path"] for row in csv.DictReader(io.StringIO(as_csv))] == [
        row["path"] for row in rows
    ]


async def test_the_window_before_is_as_long_and_ends_where_the_window_begins(
    client: httpx.AsyncClient,
) -> None:
    path = f"{API_PATH}/error-rate-by-attempt"
    now = (await client.get(path, params={"last": "1h", "by": "at"})).json()
    before = (await client.get(path, params={"last": "1h", "by": "at", "window": "before"})).json()
    same = await client.get(
        path, params={"since": before["since"], "until": before["until"], "by": "at"}
    )

    assert before["until"] == now["since"]
    assert before["rows"] == same.json()["rows"] != []


async def test_a_request_waits_until_an_execution_has_ended(database: Database) -> None:
    async with connected(database) as connection, api_client(database.url) as client:
        await connection.execute(END, 1, "playbook.started", "STARTED")
        began = time.monotonic()
        (row,) = await get_rows(client, "executions/777", wait="1s")
        assert row["status"] == "RUNNING"
        assert time.monotonic() - began >= 1.0

        waiting = asyncio.create_task(get_rows(client, "executions/777", wait="60s"))
        assert (await get_rows(client, "executions/777"))[0]["status"] == "RUNNING"
        await connection.execute(END, 2, "playbook.completed", "COMPLETED")

        assert (await waiting)[0]["status"] == "COMPLETED"
        assert time.monotonic() - began < 50.0
        rejected = await client.get(f"{API_PATH}/executions/777", params={"wait": "61s"})
        assert rejected.status_code == 400
        assert "a time from 1s to 60s" in rejected.json()["detail"]


async def test_two_hundred_who_wait_share_one_connection(database: Database) -> None:
    async with connected(database) as connection, api_client(database.url) as client:
        await connection.execute(END, 1, "playbook.started", "STARTED")
        paths = [f"executions/{n}" for n in (777, *range(1_000, 1_199))]
        waiting = [asyncio.create_task(client.get(f"{API_PATH}/{one}?wait=60s")) for one in paths]
        most = 0
        for _ in range(60):
            (row,) = await get_rows(client, "executions/777")
            assert row["status"] == "RUNNING"
            most = max(
                most,
                await connection.fetchval(
                    "select count(*) from pg_stat_activity where application_name like 'projector%'"
                ),
            )
        assert not any(one.done() for one in waiting)
        assert 1 <= most <= 4

        await connection.execute(END, 2, "playbook.completed", "COMPLETED")
        assert (await waiting[0]).json()["rows"][0]["status"] == "COMPLETED"
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


_BOUNDS: Final = """
    with read as (
        select   execution.first_at, execution.execution_id, call.finished_at, call.status,
                 row_number() over (order by execution.first_at desc, execution.execution_id desc)
                     as number
        from     projector.executions as execution
        left join projector.calls as call using (execution_id)
        where    execution.playbook = $1
    )
    select (select first_at from read where number = 4) as since,
           count(distinct execution_id) as executions, count(finished_at) as calls,
           count(finished_at) filter (where status <> 'COMPLETED') as failed_calls,
           (select count(distinct execution_id) from read) as all_executions
    from   read
    where  first_at >= (select first_at from read where number = 4)
"""
"""The executions up to the fourth call, from the newest one back."""


async def test_versions_of_a_playbook_are_counted_as_sql_counts_them(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await insert_events(database, 3_000)
    async with connected(database) as connection, api_client(database.url) as client:
        playbook = "team/one"
        # Half of its executions have another version.
        await connection.execute(
            """
            update normalizer.events
            set    context = coalesce(context, '{}') || jsonb_build_object(
                       'path', $1::text, 'version', (execution_id % 2)::text
                   )
            where  event_type = 'playbook.started'
            """,
            playbook,
        )
        expected = await connection.fetch(
            """
            select   execution.version, count(distinct execution.execution_id) as executions,
                     count(distinct execution.execution_id)
                         filter (where execution.status = 'COMPLETED') as completed,
                     count(call.finished_at) as calls,
                     count(call.finished_at) filter (where call.status <> 'COMPLETED')
                         as failed_calls
            from     projector.executions as execution
            left join projector.calls as call using (execution_id)
            where    execution.playbook = $1
            group by execution.version
            """,
            playbook,
        )
        errors = await connection.fetch(
            """
            select version, error_class, count(*) as calls,
                   case
                       when count(distinct coalesce(worker_id, '')) = 1 then min(worker_id)
                   end as only_worker
            from   projector.calls
            where  playbook = $1 and finished_at is not null and status <> 'COMPLETED'
            group by version, error_class
            """,
            playbook,
        )
        steps = await connection.fetch(
            """
            select   version, step, count(*) as calls,
                     count(*) filter (where status <> 'COMPLETED') as failed_calls,
                     percentile_cont(0.5) within group (order by duration_s) as p50_s
            from     projector.calls
            where    playbook = $1 and finished_at is not null
            group by version, step
            """,
            playbook,
        )

        rows = await get_rows(client, "versions-of-playbook", playbook=playbook, last="24h")
        found = await get_rows(client, "errors-by-version", playbook=playbook, last="24h")
        by_step = await get_rows(client, "steps-by-version", playbook=playbook, last="24h")
        (one,) = await get_rows(client, "versions-of-playbook", playbook=playbook, version="1")
        # Of more calls, only those of the newest executions are counted, and the answer says so.
        monkeypatch.setattr(playbook_detail, "MAX_COUNTED_CALLS", 3)
        bounds = await connection.fetch(_BOUNDS, playbook)
        partial = {
            path: (
                await client.get(f"/api/v1/{path}", params={"playbook": playbook, "last": "23h"})
            ).json()
            for path in ("versions-of-playbook", "errors-by-version", "steps-by-version")
        }
        whole = (await client.get(f"/api/v1/errors-by-version?playbook={playbook}&last=22h")).json()
        missing = (await client.get("/api/v1/errors-by-version?playbook=none")).json()

    (bound,) = bounds
    assert bound["executions"] < bound["all_executions"]
    for answer in partial.values():
        assert answer["truncated"]
        assert datetime.fromisoformat(answer["since"]) == bound["since"]
    some = partial["versions-of-playbook"]["rows"]
    assert sum(row["executions"] for row in some) == bound["executions"]
    assert sum(row["calls"] for row in some) == bound["calls"]
    failed = sum(row["calls"] for row in partial["errors-by-version"]["rows"])
    assert failed == sum(row["failed_calls"] for row in some) == bound["failed_calls"]
    parts = partial["steps-by-version"]["rows"]
    assert sum(row["calls"] for row in parts) == bound["calls"]
    assert sum(row["failed_calls"] for row in parts) == bound["failed_calls"]
    assert whole["truncated"], "MAX_COUNTED_CALLS applies to each answer"
    assert not missing["truncated"]
    assert missing["rows"] == []
    assert len(rows) == len(expected) == 2
    for row in expected:
        (same,) = (one for one in rows if one.get("version") == row["version"])
        assert {name: same[name] for name in row.keys()} == dict(row)  # noqa: SIM118 - a record
    assert {
        (one.get("version"), one["error_class"], one["calls"], one["only_worker"]) for one in found
    } == {(row["version"], row["error_class"], row["calls"], row["only_worker"]) for row in errors}
    assert steps
    assert {
        (row.get("version"), row["step"], row["calls"], row["failed_calls"], row["p50_s"])
        for row in by_step
    } == {tuple(row) for row in steps}
    assert one["version"] == "1"
