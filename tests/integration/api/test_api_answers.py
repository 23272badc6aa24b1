"""Search, errors as groups, the matrix, tiles, one rejected record, trees and files of the API."""

import asyncio
import csv
import gzip
import io
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import httpx
import msgspec
import pytest

from normalizer.envelope import RULES_VERSION
from projector.api import event_download
from projector.api.thresholds import Threshold, Thresholds
from projector.api.visible_settings import VisibleSettings
from simulator.view_fold import Row
from tests.support import view_rows
from tests.support.api_client import api_client, get_rows
from tests.support.stack import Database
from tests.support.table_rows import connected, execute
from tests.support.view_rows import event

DAY: Final = {"last": "24h"}


def ago(**since: float) -> datetime:
    return datetime.now(UTC) - timedelta(**since)


def failed(number: int, **columns: Any) -> Row:
    """The end of a call without success, nine minutes ago."""
    defaults = {"event_type": "call.done", "step": "fetch", "status": "ERROR", "command_id": "c"}
    at = {"event_id": number, "execution_id": number, "created_at": ago(minutes=9)}
    return event(**defaults | at | columns)


async def found(client: httpx.AsyncClient, text: str) -> list[tuple[str, dict[str, str]]]:
    return [(hit["kind"], hit["params"]) for hit in await get_rows(client, "search", q=text)]


async def test_search_finds_a_pasted_id_whatever_it_is_of(client: httpx.AsyncClient) -> None:
    """Also with quotes or words around it."""
    call = (await get_rows(client, "calls", failed="true", limit=1))[0]
    execution, command = call["execution_id"], call["command_id"]
    own = await get_rows(client, f"executions/{execution}/calls", limit=500)
    attempts = max(one["attempts"] for one in own if one["command_id"] == command)
    event = (await get_rows(client, f"executions/{execution}/events"))[0]["event_id"]
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    hits = {
        "execution": {"execution": execution},
        "event": {"execution": execution, "event": event},
        "command": {"execution": execution, "command": command, "attempts": str(attempts)},
        "trace": {"execution": "90", "trace": trace},
    }

    for kind, pasted in (
        ("execution", f'"{execution}"'),
        ("execution", f"execution {execution}"),
        ("execution", f'{{"execution_id":{execution},"why":"it hangs"}}'),
        ("execution", f"ERROR: execution_id={execution}, step=fetch."),
        ("event", f"'{event}'"),
        ("event", f"event {event} of noetl.events[2]@9999999"),
        ("command", f"`{command}`"),
        ("command", f"command {command} was claimed."),
        ("trace", f"traceparent: 00-{trace}-00f067aa0ba902b7-01"),
    ):
        assert (kind, hits[kind]) in await found(client, pasted), pasted
    for kind, pasted in (("execution", execution), ("event", f" {event} "), ("command", command)):
        assert await found(client, pasted) == [(kind, hits[kind])]
    traced = [("trace", {"execution": one, "trace": trace}) for one in ("91", "90")]
    for pasted in (trace, trace.upper(), f"00-{trace}-00f067aa0ba902b7-01"):
        assert await found(client, pasted) == traced
    at = ("event", {"execution": "91", "event": "901"})
    assert await found(client, "noetl.events:2:71") == [at]
    for pasted in ("noetl.events:2:71", "noetl.events[2]@71", command):
        answer = (await client.get("/api/v1/search", params={"q": pasted})).json()
        assert answer["error_class"] is None, "a name was searched too"
    assert at in await found(client, 'partition.gap at "noetl.events[2]@71".')
    ((kind, params),) = await found(client, "noetl.events:0:4")
    assert kind == "quarantine"
    (rejected,) = await get_rows(client, f"quarantine-records/{params['quarantine']}")
    assert rejected["source_offset"] == "4"
    assert [kind for kind, _ in await found(client, "noetl.events:1:2")] == ["gap"]
    nothing = ("  ", "no such thing", "9" * 19, "9" * 30, "noetl.events:7:1", "a:b:c")
    for pasted in (*nothing, trace.replace("4", "5")):
        assert await found(client, pasted) == [], pasted


async def test_search_finds_a_short_id_among_words(database: Database) -> None:
    ids = ("900000001997", "333895119667515392")
    rows = [event(event_id=int(one) + 1, execution_id=int(one), created_at=ago()) for one in ids]
    await view_rows.add(database, *rows)
    async with api_client(database.url) as client:
        for execution, pasted in (
            (ids[0], "look at 900000001997"),
            (ids[0], 'please look at "900000001997" thanks'),
            (ids[1], f"1764640000, 1764640001, 1764640002, 1764640003: {ids[1]}"),
        ):
            assert ("execution", {"execution": execution}) in await found(client, pasted), pasted


async def test_search_finds_a_command_by_the_beginning_of_its_id(
    client: httpx.AsyncClient,
) -> None:
    call = (await get_rows(client, "calls", failed="true", limit=1))[0]
    execution, step = call["execution_id"], call["step"]
    commands = {
        one["command_id"]
        for one in await get_rows(client, f"executions/{execution}/calls", limit=500)
        if one["command_id"].startswith(f"{execution}:{step}")
    }
    assert commands

    hits = await found(client, f"{execution}:{step}")

    listed = {params["command"] for kind, params in hits if kind == "command"}
    assert listed == set(sorted(commands)[:10])


async def test_search_counts_the_calls_of_few_and_of_many_steps(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    calls = dict(
        await connection.fetch(
            """
            select   step, sum(calls)::bigint
            from     projector.call_outcomes_by_attempt
            where    hour >= projector.to_hour(now() - interval '24 hours') and hour < now()
            group by step
            """
        )
    )
    named = {text: [step for step in calls if text in step.lower()] for text in [*calls, *"aet"]}
    assert {1, 2} <= {min(len(steps), 2) for text, steps in named.items() if text}
    assert max(map(len, named.values())) > 2

    for text, steps in named.items():
        if text:
            rows = await get_rows(client, "search", q=text)
            hits = {
                row["label"]: row["detail"].split(" since ")[0]
                for row in rows
                if row["kind"] == "step"
            }
            assert hits == {step: f"{calls[step]:,} calls" for step in steps}, text


async def test_call_of_an_ended_execution_waits_for_nothing(database: Database) -> None:
    issued = {"event_type": "command.issued", "created_at": ago()}
    runs = event(event_id=1, execution_id=1, step="runs", command_id="1:runs", **issued)
    ends = event(event_id=2, execution_id=2, step="ends", command_id="2:ends", **issued)
    end = {"event_type": "playbook.cancelled", "status": "CANCELLED", "created_at": ago()}
    async with api_client(database.url) as client:
        await view_rows.add(database, runs, ends)
        assert len(await get_rows(client, "open-calls", last="1h")) == 2
        await view_rows.add(database, event(event_id=3, execution_id=2, **end))

        for path in ("open-calls", "open-calls-by-step"):
            rows = await get_rows(client, path, last="2h")
            assert [row["step"] for row in rows] == ["runs"], path


async def test_search_counts_an_execution_that_began_and_ended_once(database: Database) -> None:
    async with connected(database) as connection, api_client(database.url) as client:
        await connection.execute(
            """
            insert into projector.execution_hours (hour, playbook, outcome, shard, executions)
            select projector.to_hour(now()), playbook, outcome, 0, executions
            from   (
                       values ('team/runs', 'BEGUN', 5), ('team/runs', 'COMPLETED', 2),
                              ('team/runs', 'FAILED', 1), ('team/ends', 'CANCELLED', 1)
                   ) as counted (playbook, outcome, executions)
            """
        )

        rows = await get_rows(client, "search", q="team/")

    assert {row["label"]: row["detail"].split(" since ")[0] for row in rows} == {
        "team/runs": "5 executions",
        "team/ends": "1 execution",
    }


async def test_search_says_that_more_names_match_than_it_lists(database: Database) -> None:
    async with connected(database) as connection, api_client(database.url) as client:
        await connection.execute(
            """
            insert into projector.call_hours
                   (hour, playbook, step, attempts, status, shard, calls, exhausted)
            select projector.to_hour(now() - make_interval(hours => age)), '', step, 0, 'COMPLETED',
                   0, 1, 0
            from   (
                       select 48, 'a_gone_step_' || number from generate_series(1, 60) as number
                       union all
                       select 0, 'a_step_' || number from generate_series(1, 60) as number
                       union all
                       select 0, 'step'
                   ) as called (age, step)
            """
        )

        answers = {
            text: (await client.get("/api/v1/search", params={"q": text})).json()
            for text in ("step", "step_7", "gone")
        }

    labels = {text: [row["label"] for row in one["rows"]] for text, one in answers.items()}
    assert labels["step"][0] == "step"
    assert len(labels["step"]) == 10
    assert labels["step_7"] == ["a_step_7"]
    detail = answers["step_7"]["rows"][0]["detail"]
    assert re.fullmatch(r"1 call since \d+ [A-Z][a-z]{2} \d\d:00 UTC", detail)
    assert labels["gone"] == []
    assert [one["more"] for one in answers.values()] == [["step"], [], []]


async def test_search_finds_the_error_in_a_pasted_log_line(client: httpx.AsyncClient) -> None:
    row = (await get_rows(client, "error-groups", last="24h"))[0]

    hits = await found(client, f"2026-11-24 03:12 worker-4 gave up: {row['error']} (retry 2)")

    assert ("error", {"error_class": row["error_class"]}) in hits


async def test_an_error_text_is_found_as_it_was_sent(database: Database) -> None:
    """Groups have no numbers and no quoted parts, but copied text has both."""
    errors = (
        "deadline exceeded after 30s",
        "deadlock detected: Process 4711 waits for ShareLock on transaction 964958",
        'relation "orders" does not exist (SQLSTATE 42P01)',
        "HTTP 503 from https://api.example/72",
        '{"a": 1}',
        "Pod worker-7f9c4d-xk2zq evicted: " + "memory, " * 40 + "node 12",
    )
    await view_rows.add(
        database, *(failed(number, error=error) for number, error in enumerate(errors, 1))
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


async def test_many_error_groups_with_many_steps_hold_up_nobody(database: Database) -> None:
    """Counted in processor time: other load must not matter."""
    await execute(
        database,
        """
        insert into projector.error_hours
               (hour, step, attempts, status, error_class, shard, calls)
        select projector.to_hour(now()), 'step ' || step, attempts, 'FAILED', 'error ' || error, 0,
               step
        from   generate_series(1, 500) as error
        cross join generate_series(1, 40) as step
        cross join generate_series(0, 2) as attempts
        """,
    )
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
    since = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    calls = (
        ("fetch", "ERROR", 40, 0, "HTTP 500"),
        ("store", "FAILED", 40, 1, "HTTP 500"),
        ("store", "FAILED", 40, 1, "HTTP 500"),
        ("early", "CANCELLED", 5, 2, "HTTP 500"),
        ("late", "FAILED", 40, 3, "no answer"),
    )
    rows = [
        failed(number, step=step, status=status, attempts=attempts, error=error)
        | {"created_at": since + timedelta(minutes=minute)}
        for number, (step, status, minute, attempts, error) in enumerate(calls, 1)
    ]
    await view_rows.add(database, *rows)
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
    """A group that was there six days ago, but not in the window before, is back."""
    seen = {"no route": (8640, 5), "no answer": (5, 3), "no memory": (90, 4)}
    calls = [(error, minutes) for error, times in seen.items() for minutes in times]
    rows = [
        failed(number, error=error, created_at=ago(minutes=minutes))
        for number, (error, minutes) in enumerate(calls, 1)
    ]
    await view_rows.add(database, *rows)
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


async def test_a_count_is_compared_with_the_window_before_once_its_own_is_over(
    database: Database,
) -> None:
    """A steady 100 an hour: the hour that has begun counts less, and that is no change."""
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    await execute(
        database,
        """
        insert into normalizer.quarantine
               (reason, detail, shape, normalizer_version, source_topic, source_incarnation,
                source_partition, source_offset, source_index, value_bytes, batch_id,
                quarantined_at)
        select 'too_deep', '', '', 1, 'noetl.events', 0, ago, number, 0, 1, 1,
               $1::timestamptz - make_interval(hours => ago)
        from   generate_series(0, 14) as ago
        cross join generate_series(1, case when ago = 0 then 8 else 100 end) as number
        """,
        hour,
    )
    over = {"last": "6h", "until": hour.isoformat()}
    async with api_client(database.url) as client:
        tiles = [
            tile
            for window in ({"last": "6h"}, over)
            for tile in await get_rows(client, "tiles", **window)
            if tile["tile"] == "rejected"
        ]

    assert [(tile["value"], tile["before"]) for tile in tiles] == [(608, 700), (600, 600)]
    assert [tile["change"] for tile in tiles] == [None, 0]


async def test_the_list_of_a_span_has_what_its_figures_count(database: Database) -> None:
    """Figures of more than two hours begin with an hour."""
    # Both calls stand on the edge of a window: it must not move while the test runs.
    now = ago()
    hour = (now - timedelta(hours=6)).replace(minute=0, second=0, microsecond=0)
    minute = (now - timedelta(minutes=15)).replace(second=0, microsecond=0)
    await view_rows.add(database, failed(1, created_at=hour), failed(2, created_at=minute))
    async with api_client(database.url) as client:
        for last in ("6h", "15m"):
            span = {"last": last, "until": now.isoformat()}
            counted = await get_rows(client, "error-groups", **span)
            listed = await client.get("/api/v1/calls", params={"failed": "true", **span})

            assert sum(row["calls"] for row in counted) == len(listed.json()["rows"]) > 0, last


@pytest.mark.parametrize("last", ["6h", "15m"])
async def test_a_call_whose_clock_is_ahead_is_listed_where_it_is_counted(
    database: Database, last: str
) -> None:
    """It ends in the last second of the running hour or minute, which the counts cover whole."""
    grain = timedelta(hours=1) if last == "6h" else timedelta(minutes=1)
    begun = ago().replace(second=0, microsecond=0)
    begun = begun.replace(minute=0) if last == "6h" else begun
    ends = [begun + number * grain - timedelta(seconds=1) for number in range(2)]
    await view_rows.add(database, *(failed(n, created_at=end) for n, end in enumerate(ends, 1)))
    async with api_client(database.url) as client:
        counted = await get_rows(client, "error-groups", last=last)
        by_worker = await get_rows(client, "worker-failures", last=last)
        listed = await get_rows(client, "calls", failed="true", last=last)

    # One of the two is ahead of the clock, even if the hour or minute ends before the answers.
    assert sum(row["calls"] for row in counted) == len(listed) == by_worker[0]["failed"] == 2


@pytest.mark.parametrize("last", ["6h", "15m"])
async def test_failures_of_workers_can_be_of_one_step(database: Database, last: str) -> None:
    calls = [("charge", "w1", "FAILED"), ("charge", "w1", "COMPLETED"), ("ship", "w1", "FAILED"),
             ("charge", "w2", "COMPLETED")]  # fmt: skip
    await view_rows.add(
        database,
        *(
            failed(n, step=step, worker_id=worker, status=status)
            for n, (step, worker, status) in enumerate(calls, 1)
        ),
    )
    async with api_client(database.url) as client:
        answers = [
            await get_rows(client, "worker-failures", last=last, **chosen)
            for chosen in ({}, {"step": "charge"}, {"step": "ship"}, {"playbook": "none"})
        ]

    shown = [{row["worker_id"]: (row["calls"], row["failed"]) for row in rows} for rows in answers]
    assert shown == [
        {"w1": (3, 2), "w2": (1, 0)},
        {"w1": (2, 1), "w2": (1, 0)},
        {"w1": (1, 1)},
        {},
    ]


async def test_event_counts_can_leave_the_engine_out(database: Database) -> None:
    steps = ("fetch", "__orchestrate__", "__orchestrate__")
    await view_rows.add(database, *(failed(n, step=step) for n, step in enumerate(steps, 1)))
    async with api_client(database.url) as client:
        answers = [
            await get_rows(client, "attempts-by-status", last="6h", engine=engine)
            for engine in ("true", "false")
        ]

    assert [[row["events"] for row in rows] for rows in answers] == [[3], [1]]


async def test_the_shares_of_the_matrix_are_of_all_calls_however_few_cells_are_returned(
    database: Database,
) -> None:
    calls = [("COMPLETED", 1)] * 3 + [("FAILED", 1), ("COMPLETED", 30), ("ERROR", 30)]
    rows = [
        failed(number, status=status, created_at=ago(hours=hours))
        for number, (status, hours) in enumerate(calls, 1)
    ]
    await view_rows.add(database, *rows)
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
        "stuck": Threshold(1, 10_000), "rejected": Threshold(0.5, 0.9),
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
    events = await connection.fetchval("select sum(events) from projector.attempts_by_status")
    rejected = tiles["rejected"]
    assert (rejected["value"], rejected["denominator"]) == (1, events + 1)
    # 1 would be critical, but one of thousands isn't.
    assert rejected["level"] == "ok"
    for name, tile in tiles.items():
        assert len(tile["trend"]) == answer["trend_intervals"], name
        assert tile["change"] is None, name
    assert short["every"] == "minute"
    assert short["calls"] < calls


async def test_a_rejected_record_says_why_and_what_to_type(client: httpx.AsyncClient) -> None:
    listed = (await get_rows(client, "quarantine-records"))[0]

    (record,) = await get_rows(client, f"quarantine-records/{listed['quarantine_id']}")

    assert {name: record[name] for name in listed} == listed
    assert record["coordinates"] == "noetl.events:0:4"
    assert record["rule"] == "the record is not JSON, or holds a number beyond the limits"
    assert [(one["outcome"], one["tried_by"]) for one in record["tries"]] == [
        ("rejected", "operator")
    ]
    commands = [one["command"] for one in record["commands"]]
    entry = listed["quarantine_id"]
    assert f"normalizer quarantine show {entry}" in commands
    assert f"normalizer quarantine redrive --id {entry} --dry-run" in commands
    assert "normalizer explain noetl.events:0:4" in commands
    assert record["current_rules"] == RULES_VERSION
    for path in ("999999", "x"):
        assert (await client.get(f"/api/v1/quarantine-records/{path}")).status_code == 404


async def test_lists_of_executions_and_stuck_executions_say_the_same_reason(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    reasons = {
        row["execution_id"]: dict(row)
        for row in await connection.fetch(
            """
            select execution_id::text, waits_for, step as waits_step, attempts as waits_attempts,
                   worker_id as waits_worker, command_id as waits_command, open_calls
            from   projector.stuck_reasons
            """
        )
    }
    assert {row["waits_for"] for row in reasons.values()} >= {"claim", "next"}
    for path, more in (("executions", {"last": "7d"}), ("stuck-executions", {})):
        rows = await get_rows(client, path, limit=500, **more)
        listed = {row["execution_id"]: row for row in rows if row.get("waits_for")}
        assert listed.keys() == reasons.keys()
        for execution, reason in reasons.items():
            assert {name: listed[execution].get(name) for name in reason} == reason, path
    execution = next(iter(reasons))
    (alone,) = await get_rows(client, f"executions/{execution}")
    assert {name: alone.get(name) for name in reasons[execution]} == reasons[execution]


async def test_stuck_executions_are_counted_and_filtered_by_reason(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    counted = await connection.fetch(
        """
        select   waits_for, begun, count(*) as executions
        from     projector.stuck_reasons join projector.stuck_executions using (execution_id, begun)
        group by waits_for, begun
        order by executions desc, waits_for, begun
        """
    )
    rows = await get_rows(client, "stuck-by-reason")
    assert rows == [dict(row) for row in counted]

    for reason in ("claim", "start", "finish", "next"):
        listed = await get_rows(client, "stuck-executions", waits_for=reason, limit=500)
        assert {row["waits_for"] for row in listed} <= {reason}
        of_reason = [row["executions"] for row in rows if row["waits_for"] == reason]
        assert len(listed) == sum(of_reason), reason


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


async def test_the_events_of_an_execution_are_a_file_of_canonical_lines(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projector.api.event_download._EVENTS_A_PAGE", 3)
    execution = (await get_rows(client, "executions", status="COMPLETED"))[-1]["execution_id"]
    events = await get_rows(client, f"executions/{execution}/events", limit=500)

    answer = await client.get(f"/api/v1/executions/{execution}/events.ndjson")
    (one,) = await get_rows(client, f"executions/{execution}/events/{events[4]['event_id']}")
    pages = 0

    async def counted(*arguments: Any) -> Any:
        nonlocal pages
        pages += 1
        return await read_page(*arguments)

    read_page = event_download._page
    monkeypatch.setattr(event_download, "_page", counted)
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
    monkeypatch.setattr("projector.api.event_download._EVENTS_A_PAGE", 2)
    rows = [failed(n, execution_id=95, created_at=ago(minutes=100 - n)) for n in range(1, 7)]
    await view_rows.add(database, *rows)

    async def moved(*arguments: Any) -> Any:
        page = await read_page(*arguments)
        await execute(
            database,
            """
            update normalizer.events
            set    created_at = now() - make_interval(hours => event_id::integer / 2)
            where  event_id in (1, 6);
            insert into normalizer.events (event_id, execution_id, event_type, status)
            values (7, 95, 'call.done', 'COMPLETED')
            on conflict do nothing
            """,
        )
        return page

    read_page = event_download._page
    monkeypatch.setattr(event_download, "_page", moved)
    async with api_client(database.url) as client:
        answer = await client.get("/api/v1/executions/95/events.ndjson")

    ids = [msgspec.json.decode(line)["event_id"] for line in answer.content.splitlines()]
    assert ids == [1, 2, 3, 4, 5, 6]


async def test_rows_come_as_csv_and_answers_compressed(client: httpx.AsyncClient) -> None:
    params: dict[str, str] = {"limit": "50", **DAY}
    rows = await get_rows(client, "calls", **params)

    answer = await client.get("/api/v1/calls", params=params, headers={"Accept": "text/csv"})
    by_parameter = await client.get("/api/v1/calls", params={"format": "csv", **params})
    assert (await client.get("/api/v1/calls?format=xml")).status_code == 400
    plain = await client.get(
        "/api/v1/calls", params=params, headers={"Accept-Encoding": "identity"}
    )
    async with client.stream(
        "GET", "/api/v1/calls", params=params, headers={"Accept-Encoding": "gzip"}
    ) as packed:
        raw = b"".join([part async for part in packed.aiter_raw()])

    read: list[dict[str, Any]] = list(csv.DictReader(io.StringIO(answer.text)))
    for one in (answer, by_parameter):
        assert one.headers["content-type"].startswith("text/csv")
    assert by_parameter.text == answer.text
    assert [row["execution_id"] for row in read] == [row["execution_id"] for row in rows]
    assert [row["command_id"] for row in read] == [row["command_id"] or "" for row in rows]
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(raw) == plain.content
    assert len(raw) < len(plain.content) / 3
    assert "content-encoding" not in plain.headers
    assert answer.headers["etag"] != plain.headers["etag"]
    assert "Accept-Encoding" in plain.headers["vary"]


async def test_the_first_page_of_a_list_says_how_long_it_is(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A count that takes longer than its limit is left out: on a busy machine any may.
    monkeypatch.setattr("projector.api.queries.query_answers._COUNT_WITHIN_S", 10)
    whole = (await client.get("/api/v1/executions", params={"limit": 500, **DAY})).json()
    first = (await client.get("/api/v1/executions", params={"limit": 7, **DAY})).json()
    second = (
        await client.get("/api/v1/executions", params={"limit": 7, "cursor": first["next"], **DAY})
    ).json()
    monkeypatch.setattr("projector.api.queries.query_answers.MOST_COUNTED_ROWS", 20)
    capped = (await client.get("/api/v1/executions", params={"limit": 8, **DAY})).json()
    monkeypatch.setattr("projector.api.queries.query_answers._COUNT_WITHIN_S", 0.001)
    slow = (await client.get("/api/v1/calls", params={"limit": 9, **DAY})).json()

    assert first["total"] == whole["total"] == len(whole["rows"])
    assert "at_least" not in first
    assert "total" not in second
    assert (capped["total"], capped["at_least"]) == (20, True)
    assert len(slow["rows"]) == 9


async def test_only_pages_of_allowed_origins_may_read_and_only_the_token_shows_names(
    filled: Database,
) -> None:
    token, origin = "a-token-of-some-length", "https://grafana.example"
    allowed, signed_in = {"Origin": origin}, {"Authorization": f"Bearer {token}"}
    asks = {
        **allowed,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }
    async with api_client(filled.url, token=token, origins=[origin]) as client:
        before = await client.options("/api/v1/jobs", headers=asks)
        read = await client.get("/api/v1/jobs", headers=allowed | signed_in)
        closed = (await client.get("/metrics")).text
        named = (await client.get("/metrics", headers=signed_in)).text
        other = await client.get("/api/v1/jobs", headers={"Origin": "https://other.example"})
        writes = await client.options(
            "/api/v1/jobs", headers={**asks, "Access-Control-Request-Method": "DELETE"}
        )

    assert before.status_code == read.status_code == 200
    for answer in (before, read):
        assert answer.headers["access-control-allow-origin"] == origin
    assert (other.status_code, writes.status_code) == (401, 400)
    assert 'step="fetch"' in named
    assert "step=" not in closed
    assert "projector_recent_calls{" in closed
    assert "access-control-allow-origin" not in other.headers


async def test_metrics_of_outcomes_are_what_the_views_say(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    calls = await connection.fetchval(
        "select sum(calls)::bigint from projector.call_outcomes_by_attempt "
        "where hour >= projector.to_hour(now()) - interval '1 hour' and attempts > 0"
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
    async def age_s(client: httpx.AsyncClient) -> float:
        text = (await client.get("/metrics")).text
        (line,) = (one for one in text.splitlines() if one.startswith("projector_figures_age"))
        return float(line.rpartition(" ")[2])

    async with connected(database) as admin, api_client(database.url) as client:
        read = await age_s(client)
        async with admin.transaction():
            await admin.execute("lock table normalizer.source_positions in access exclusive mode")
            locked_out = await age_s(client)
        read_again = await age_s(client)

    assert read < 1 < locked_out
    assert read_again < 1
