"""The HTTP API: each answer is what SQL says of the same moment, page by page, or says why not."""

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import httpx
import msgspec
import pytest
from structlog.testing import capture_logs

from projector.api import event_download, response_cache, snapshots as api_database
from projector.api.api_errors import DatabaseUnavailableError
from projector.api.app import build_app
from projector.api.endpoints import API_PATH, ENDPOINTS
from projector.api.execution_waiter import ExecutionEndWaiter
from projector.api.middleware import SECURITY_HEADERS
from projector.api.snapshots import ReaderPool
from tests.support.api_client import api_client, get_rows, insert_events
from tests.support.stack import Database
from tests.support.table_rows import connected, execute, insert_row

TOKEN: Final = "a-token-of-some-length"
LISTS: Final = (
    "executions", "stuck-executions", "executions-without-end", "contradicting-executions",
    "completed-with-failures", "calls", "open-calls", "open-loops", "gaps", "quarantine-records",
)  # fmt: skip


async def test_every_question_has_an_answer(client: httpx.AsyncClient) -> None:
    execution = (await get_rows(client, "executions", status="COMPLETED"))[-1]["execution_id"]
    event = (await get_rows(client, f"executions/{execution}/events"))[0]["event_id"]
    rejected = (await get_rows(client, "quarantine-records"))[0]["quarantine_id"]
    silent = []
    for question in ENDPOINTS:
        path = question.path.format(execution_id=execution, event_id=event, quarantine_id=rejected)
        answer = await client.get(API_PATH + path, params=question.example)
        decoded = msgspec.json.decode(answer.content, type=question.answer_type)

        assert answer.status_code == 200, answer.text
        assert 1.0 < decoded.behind_s < 3_600.0
        assert decoded.as_of + timedelta(seconds=decoded.behind_s) == decoded.read_at
        if not decoded.rows:
            silent.append(path)

    assert silent == [
        "/errors-by-version",
        f"/executions/{execution}/loops",
        f"/executions/{execution}/rejected-records",
        "/jobs",
    ]


async def test_an_empty_database_is_answered_with_nothing_and_says_it_read_nothing(
    database: Database,
) -> None:
    async with api_client(database.url) as client:
        for question in ENDPOINTS:
            path = question.path.format(execution_id=1, event_id=1, quarantine_id=1)
            answer = await client.get(API_PATH + path, params=question.example)

            lists = ("calls", "loops", "events", "rejected-records")
            one = "{" in question.path and not question.path.endswith(lists)
            if one or question.name == "error_group":
                assert answer.status_code == 404
                continue
            assert answer.status_code == 200, answer.text
            assert answer.json()["as_of"] is None
            assert answer.json()["behind_s"] is None
            if question.path not in ("/choices", "/tiles"):
                assert answer.json()["rows"] == []


async def test_rates_are_what_the_view_says(
    client: httpx.AsyncClient, connection: asyncpg.Connection
) -> None:
    wanted = await connection.fetch(
        """
        select   step, attempts, sum(calls)::bigint as calls, sum(failed)::bigint as failed
        from     projector.call_outcomes_by_attempt
        group by step, attempts
        """
    )

    rows = await get_rows(client, "error-rate-by-attempt", last="24h")

    assert {(row["step"], row["attempts"]): (row["calls"], row["failed"]) for row in rows} == {
        (row["step"], row["attempts"]): (row["calls"], row["failed"]) for row in wanted
    }
    assert all(row["error_rate"] == row["failed"] / row["calls"] for row in rows)
    assert [row["calls"] for row in rows] == sorted((row["calls"] for row in rows), reverse=True)


@pytest.mark.parametrize("path", LISTS)
async def test_pages_hold_each_row_once_in_one_order(client: httpx.AsyncClient, path: str) -> None:
    whole = await client.get(f"/api/v1/{path}", params={"limit": 500})
    size = max(1, len(whole.json()["rows"][:40]) // 3)
    paged: list[Any] = []
    parameters: dict[str, Any] = {"limit": size}
    while len(paged) < 40:
        answer = (await client.get(f"/api/v1/{path}", params=parameters)).json()
        paged += answer["rows"]
        if answer["next"] is None:
            break
        parameters["cursor"] = answer["next"]

    assert paged
    assert [_lasting(row) for row in paged] == [
        _lasting(row) for row in whole.json()["rows"][: len(paged)]
    ]


def _lasting(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not name.endswith(("age_s", "_s"))}


async def test_compression_and_etags_are_compared_as_http_has_it(
    client: httpx.AsyncClient,
) -> None:
    for path in ("/", "/api/v1/executions?limit=500&last=1d"):
        plain = await client.get(path, headers={"Accept-Encoding": "gzip;q=0, identity"})
        assert "Content-Encoding" not in plain.headers
        packed = await client.get(path, headers={"Accept-Encoding": "br, GZIP;q=0.5"})
        assert packed.headers["Content-Encoding"] == "gzip"
        etag = plain.headers["ETag"]
        assert etag.startswith("W/"), "the same for both encodings"
        for known in (etag, etag.removeprefix("W/"), f'"x", {etag}', "*"):
            again = await client.get(path, headers={"If-None-Match": known})
            assert again.status_code == 304, known


async def test_a_bug_is_a_problem_on_every_path_and_its_message_is_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_self: ReaderPool) -> None:
        raise ValueError(TOKEN)

    monkeypatch.setattr(ReaderPool, "snapshot", broken)
    reader = ReaderPool("postgresql://127.0.0.1:1/none", connections=1, timeout_s=1.0)
    transport = httpx.ASGITransport(
        app=build_app(reader, reader, waiter=ExecutionEndWaiter(reader)), raise_app_exceptions=False
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        lines = "/api/v1/executions/1/events.ndjson"
        for path in ("/readyz", "/metrics", "/api/v1/freshness", lines):
            answer = await client.get(path)

            assert (answer.status_code, answer.json()["reason"]) == (500, "internal_error"), path
            assert TOKEN not in answer.text


async def test_a_download_that_the_database_cuts_off_is_logged_as_that(
    filled: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def page(
        _reader: ReaderPool, _execution_id: int, event_ids: list[int]
    ) -> event_download._Page:
        if event_ids != [1]:
            raise DatabaseUnavailableError("the database does not answer")
        return event_download._Page(b"{}\n", 1)

    async def ids(_reader: ReaderPool, _execution_id: int) -> list[int]:
        return [1, 2]

    monkeypatch.setattr(event_download, "_EVENTS_A_PAGE", 1)
    monkeypatch.setattr(event_download, "_event_ids", ids)
    monkeypatch.setattr(event_download, "_page", page)
    async with api_client(filled.url) as client:
        with capture_logs() as lines, pytest.raises(RuntimeError):
            await client.get("/api/v1/executions/1/events.ndjson")

    assert [(line["endpoint"], line["error"]) for line in lines] == [
        ("download", "DatabaseUnavailableError")
    ]


async def test_a_forged_cursor_is_no_page(client: httpx.AsyncClient) -> None:
    first = (await client.get("/api/v1/calls?limit=1")).json()["next"]
    keyset = msgspec.json.decode(urlsafe_b64decode(first + "=" * (-len(first) % 4)))
    for place, value in (
        (-1, 2**31), (-2, -(2**70)), (-3, "a\x00"), (-5, 2**63), (-6, "0001-01-01T00:00:00+14:00"),
        (-6, "9999-12-31T23:59:59-14:00"),
    ):  # fmt: skip
        forged = keyset.copy()
        forged[place] = value
        cursor = urlsafe_b64encode(msgspec.json.encode(forged)).decode().rstrip("=")
        answer = await client.get("/api/v1/calls", params={"limit": 1, "cursor": cursor})

        assert (answer.status_code, answer.json()["reason"]) == (400, "no_such_page"), value


async def test_a_parameter_that_an_answer_needs_is_required(client: httpx.AsyncClient) -> None:
    for path, name in (("search", "q"), ("error-group", "error_class")):
        answer = await client.get(f"/api/v1/{path}?last=24h")
        described = (await client.get("/openapi.json")).json()["paths"][f"/api/v1/{path}"]
        required = [one["name"] for one in described["get"]["parameters"] if one["required"]]

        assert (answer.status_code, answer.json()["detail"]) == (400, f"{name}: required")
        assert required == [name]

    assert (await client.get("/api/v1/search?q=")).status_code == 400


@pytest.mark.parametrize(
    ("filters", "column"),
    [
        ({"step": ["load", "fetch"]}, "step"),
        ({"attempts": ["1"]}, "attempts"),
        ({"status": ["FAILED", "ERROR"]}, "status"),
        ({"playbook": ["team1/flow_1"]}, "playbook"),
        ({"worker": ["worker-1"]}, "worker_id"),
        ({"worker": [""]}, "worker_id"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_filter_leaves_what_it_names(
    client: httpx.AsyncClient, filters: dict[str, list[str]], column: str
) -> None:
    everything = await get_rows(client, "calls", limit=500)
    (wanted,) = filters.values()

    rows = await get_rows(client, "calls", limit=500, **filters)

    assert rows
    named = ["" if row[column] is None else str(row[column]) for row in everything]
    assert len(rows) == 500 or rows == [
        row for row, name in zip(everything, named, strict=True) if name in wanted
    ]
    assert {"" if row[column] is None else str(row[column]) for row in rows} <= set(wanted)


_PARENT_AND_CHILD: Final = """
    insert into normalizer.events (event_id, execution_id, event_type, step, status, created_at,
                                   parent_execution_id, context, command_id, error,
                                   trace_id, shape)
    select row_number() over (), execution_id, event_type, 'fetch', status,
           now() - interval '5 minutes', parent, context::jsonb, command_id, error,
           trace, 'executor'
    from   (values (1, 'playbook.started', 'RUNNING', null, '{"path":"a"}', null, null, 'a1'),
                   (2, 'playbook.started', 'RUNNING', 1, '{"path":"b","version":"2"}', null, null,
                    null),
                   (1, 'call.done', 'COMPLETED', null, '{}', '1:fetch:7', null, 'a1'),
                   (2, 'call.done', 'ERROR', null, '{}', '2:fetch:8', 'no route to "x1"',
                    'b2'))
           as sent (execution_id, event_type, status, parent, context, command_id, error, trace)
"""


async def test_calls_are_filtered_by_their_execution_and_executions_and_events_by_their_calls(
    database: Database,
) -> None:
    await execute(database, _PARENT_AND_CHILD)
    command = {"command": "2:fetch:8"}
    async with api_client(database.url) as client:
        for filters in ({"version": "2"}, {"parent": "1"}, command, {"trace": "b2"}):
            (call,) = await get_rows(client, "calls", **filters)
            assert call["command_id"] == "2:fetch:8", filters
        for filters in (command, {"error_class": "no route to ?"}, {"trace": "b2"}):
            (execution,) = await get_rows(client, "executions", **filters)
            assert execution["execution_id"] == "2", filters
        (event,) = await get_rows(client, "executions/2/events", **command)

    assert (event["event_type"], event["command_id"]) == ("call.done", "2:fetch:8")


async def test_an_event_is_displayed_as_sent_and_canonical(database: Database) -> None:
    big = 9_007_199_254_740_993  # the first integer that a browser cannot tell from its neighbour
    await execute(
        database,
        """
        insert into normalizer.events (event_id, execution_id, event_type, step, status, context,
                                       meta, coercions, evidence, shape, headers, error)
        values ($1, $1, 'call.done', 'fetch', 'ERROR',
                '{"seen": 9007199254740993, "result": {"status": "error", "error": "HTTP 500"}}',
                '{"attempts": 1, "token": "***"}',
                '[{"rule": "status_overruled", "field": "status", "from": "COMPLETED"}]', 222,
                'executor', '{"traceparent": ["00-ab"]}', 'HTTP 500')
        """,
        big,
    )
    async with api_client(database.url) as client:
        (event,) = await get_rows(client, f"executions/{big}/events/{big}")

    assert event["event_id"] == event["execution_id"] == str(big)
    assert f'"seen": {big}' in event["canonical"]
    assert '"status": "ERROR"' in event["canonical"]
    assert f'"seen": {big}' in event["as_sent"]
    assert '"status": "COMPLETED"' in event["as_sent"]
    assert '"token": "***"' in event["as_sent"]
    assert event["headers"] == [["traceparent", "00-ab"]]
    assert event["coercions"] == [
        {"rule": "status_overruled", "field": "status", "original": '"COMPLETED"'}
    ]


async def test_rows_and_freshness_are_of_one_snapshot(database: Database) -> None:
    await insert_events(database, 100)
    question = next(one for one in ENDPOINTS if one.path == "/freshness")
    async with ReaderPool(database.url, connections=1, timeout_s=5) as reader:
        async with reader.snapshot() as snapshot:
            await execute(
                database, "update normalizer.source_positions set last_recorded_ms = 1e12"
            )
            before = await question.run(snapshot, question.parameters_type())
        async with reader.snapshot() as snapshot:
            after = await question.run(snapshot, question.parameters_type())

    for answer in (before, after):
        assert answer.as_of == min(row.as_of for row in answer.rows)
    assert after.as_of == datetime.fromtimestamp(1e9, UTC)
    assert before.as_of is not None
    assert before.as_of > after.as_of


async def test_requests_that_hold_every_connection_make_no_server_unready(
    filled: Database,
) -> None:
    """Kubernetes would take it out of its Service, and Prometheus would know nothing new."""
    async with (
        ReaderPool(filled.url, connections=1, timeout_s=5) as reader,
        ReaderPool(filled.url, connections=1, timeout_s=5) as own,
        reader.snapshot(),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(
                app=build_app(reader, own, waiter=ExecutionEndWaiter(reader))
            ),
            base_url="http://127.0.0.1",
        ) as client,
    ):
        ready = await client.get("/readyz")
        metrics = (await client.get("/metrics")).text

    assert (ready.status_code, ready.json()["ready"]) == (200, True)
    assert "projector_api_connections_in_use 1.0" in metrics
    assert "projector_figures_age_seconds +Inf" not in metrics


async def test_an_etag_changes_with_what_is_found_and_not_with_the_clock(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response_cache, "FRESH_FOR_S", 0.0)
    path = "/api/v1/quarantine-by-reason"
    async with connected(database) as connection, api_client(database.url) as client:
        await insert_row(connection, "normalizer.quarantine")
        first = await client.get(path)
        known = {"If-None-Match": first.headers["etag"]}
        again = await client.get(path, headers=known)
        await insert_row(connection, "normalizer.quarantine", reason="too_deep", source_offset=0)
        changed = await client.get(path, headers=known)

    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    body, clock, later = (
        first.json(),
        *(msgspec.json.decode(one.headers["answer-clock"]) for one in (first, again)),
    )
    assert clock == {name: body[name] for name in ("as_of", "behind_s", "read_at", "until")}
    assert later["read_at"] > clock["read_at"], "so a quiet log differs from one nobody reads"
    assert changed.status_code == 200
    assert (len(first.json()["rows"]), len(changed.json()["rows"])) == (1, 2)


async def test_pages_that_ask_the_same_share_one_query(filled: Database) -> None:
    async with api_client(filled.url) as client:
        answers = await asyncio.gather(*(client.get("/api/v1/freshness") for _ in range(50)))
        metrics = (await client.get("/metrics")).text

    assert {answer.content for answer in answers} == {answers[0].content}
    assert "projector_api_cache_hits_total 49.0" in metrics
    assert 'projector_api_requests_total{endpoint="freshness",status="200"} 50.0' in metrics


async def test_a_database_that_is_away_is_an_error_and_no_empty_answer() -> None:
    async with api_client("postgresql://u:secret@127.0.0.1:1/none") as client:
        answer = await client.get("/api/v1/freshness")
        ready = await client.get("/readyz")
        alive = await client.get("/livez")
        metrics = (await client.get("/metrics")).text

    assert (answer.status_code, answer.json()["reason"]) == (503, "database_unavailable")
    assert (ready.status_code, ready.json()["ready"]) == (503, False)
    assert "projector_figures_age_seconds +Inf" in metrics
    assert ready.json()["reasons"] == ["the database does not answer"]
    assert alive.status_code == 200
    assert "secret" not in answer.text + ready.text


async def test_a_database_without_views_says_to_migrate(empty_database: Database) -> None:
    async with api_client(empty_database.url) as client:
        answer = await client.get("/api/v1/freshness")

    assert (answer.status_code, answer.json()["reason"]) == (503, "database_refused")
    assert "migrate" in answer.json()["detail"]


async def test_a_slow_question_ends_by_its_time_out_and_others_do_not_wait_for_ever(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        connected(database) as holder,
        holder.transaction(),
        api_client(database.url, connections=1, timeout_s=2.0) as client,
    ):
        # The connection is opened before its time is short.
        assert (await client.get("/api/v1/freshness")).status_code == 200
        monkeypatch.setattr(api_database, "_WAIT_S", 0.5)
        await holder.execute("lock table projector.call_hours in access exclusive mode")
        slow, other = await asyncio.gather(
            client.get("/api/v1/error-rate-by-attempt"), client.get("/api/v1/retry-recovery")
        )
        quick = await client.get("/api/v1/freshness")

    assert {slow.json()["reason"], other.json()["reason"]} == {"too_slow", "busy"}
    assert {slow.status_code, other.status_code} == {504, 503}
    assert quick.status_code == 200


async def test_with_a_token_nothing_of_the_database_is_reported_without_it(
    filled: Database,
) -> None:
    async with api_client(filled.url, token=TOKEN) as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
            for path in ("/api/v1/freshness", "/api/v1/settings", "/api/v1/none"):
                answer = await client.get(path, headers=headers)
                assert (answer.status_code, answer.json()["reason"]) == (401, "unauthorised")
        for scheme in ("bearer", "BEARER "):
            headers = {"Authorization": f"{scheme} {TOKEN}"}
            assert (await client.get("/api/v1/settings", headers=headers)).status_code == 200
        known = {"Authorization": f"Bearer {TOKEN}", "Host": "projector.example"}
        assert (await client.get("/api/v1/freshness", headers=known)).status_code == 200
        assert TOKEN not in (await client.get("/openapi.json", headers=known)).text
        for path in ("/", "/api", "/openapi.json", "/livez", "/readyz", "/metrics"):
            assert (await client.get(path)).status_code == 200


async def test_without_a_token_another_site_s_name_is_not_answered(
    client: httpx.AsyncClient,
) -> None:
    others = (
        *("evil.example", "evil.example:8384", "", "127.0.0.1.evil.example", "[::1].evil.example"),
        *("[::1]evil.example:8384", "[::1", "localhost:evil.example"),
        "localhost:8384@evil.example",
    )
    for host in (*others, "LOCALHOST", "localhost:8384", "[::1]:8384"):
        answer = await client.get("/api/v1/freshness", headers={"Host": host})
        assert answer.status_code == (421 if host in others else 200), host


async def test_every_answer_carries_the_security_headers(client: httpx.AsyncClient) -> None:
    answers = [
        await client.get(path)
        for path in ("/", "/api/v1/freshness", "/none", "/api/v1/calls?limit=0", "/livez")
    ]
    answers.append(await client.post("/api/v1/freshness"))

    assert [answer.status_code for answer in answers] == [200, 200, 404, 400, 200, 405]
    assert answers[-1].headers["allow"] in {"GET, HEAD", "HEAD, GET"}
    for answer in answers:
        assert {name: answer.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS
        assert "access-control-allow-origin" not in answer.headers
