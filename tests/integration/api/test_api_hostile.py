"""Nothing can be written, broken or read beyond the views through the HTTP API."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from projector.api.api_errors import DatabaseRefusedError
from projector.api.endpoints import API_PATH, ENDPOINTS, Endpoint
from projector.api.snapshots import ReaderPool
from tests.integration.jobs.test_redrive import as_user
from tests.support.api_client import api_client
from tests.support.stack import Database
from tests.support.table_rows import execute

HOSTILE: Final = (
    "", "' or '1'='1", "'; drop table normalizer.events; --", "\\", "$1", ":since", "a\x00b", "{}",
    "-1", "1e400", "9" * 400, "9223372036854775808", "٣", "../../etc/passwd", "a" * 5_000,
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-07-10T09:00:00",
    "9999-12-31T23:59:60Z",
)  # fmt: skip
FEW: Final = ("' or '1'='1", "\\", "9223372036854775808")
PATHS: Final = (
    "/../pyproject.toml", "/assets/../index.html", "/assets/..%2f..%2fapp.py", "/assets/",
    "/assets/%2e%2e/__init__.py", "/assets/..%5c..%5capp.py", "/assets//etc/passwd",
    "/assets/none.js%00.css", "/index.html", "/api/", "/api/v1/", "//api/v1/freshness",
    "/api/v1/freshness/", "/api/v1//freshness", "/api/v1/Freshness", "/api/v1/events",
    "/api/v1/executions/", "/api/v1/executions/-1", "/api/v1/executions/1e3",
    "/api/v1/executions/%00", "/api/v1/executions/1;select", "/api/v1/executions/1/events/x",
    "/api/v1/executions/9223372036854775808", "/api/v1/executions/" + "9" * 4_000,
    "/api/v1/executions/1/calls/1", "/docs", "/redoc", "/.env", "/server-status",
)  # fmt: skip


def _cases() -> Iterator[tuple[Endpoint, str, tuple[str, ...]]]:
    """The values to try for each parameter: all on the first two endpoints that have it."""
    had: Counter[tuple[str, Any]] = Counter()
    for question in ENDPOINTS:
        for field in msgspec.structs.fields(question.parameters_type):
            had[field.name, field.type] += 1
            fully = had[field.name, field.type] <= 2
            yield question, field.name, HOSTILE if fully else FEW


_CASES: Final = tuple(_cases())
_EVERYWHERE: Final = tuple((question, name, HOSTILE) for question, name, _ in _CASES)


@pytest.mark.parametrize(
    "cases", [_CASES, pytest.param(_EVERYWHERE, marks=pytest.mark.soak)], ids=["few", "all"]
)
async def test_no_value_of_a_parameter_does_more_than_be_looked_for(
    client: httpx.AsyncClient, cases: tuple[tuple[Endpoint, str, tuple[str, ...]], ...]
) -> None:
    """A hostile value is rejected (400, 404), or a text that nothing is called (no rows)."""
    for question, name, values in cases:
        path = API_PATH + question.path.format(execution_id=1, event_id=1, quarantine_id=1)
        for value in values:
            answer = await client.get(path, params=_required(question) | {name: value})

            given = (question.name, name, value)
            assert answer.status_code in (200, 400, 404), (given, answer.text)
            body = answer.json()
            if answer.status_code == 200 and value and name in _TEXTS:
                if question.name == "tiles":
                    assert body["calls"] == 0, given
                    continue
                assert body["rows"] == [], given
            if answer.status_code == 400:
                assert body["reason"] in ("invalid_parameter", "no_such_page"), given
                assert body["detail"].startswith(f"{name}: "), given
                assert len(body["detail"]) < 300, given
                assert "regex" not in body["detail"], given


def _required(question: Endpoint) -> dict[str, str]:
    """The parameters of its example without which it is rejected."""
    fields = msgspec.structs.fields(question.parameters_type)
    return {field.name: question.example[field.name] for field in fields if field.required}


_TEXTS: Final = ("playbook", "step", "event_type", "status", "worker", "reason", "rule", "shape")


async def test_no_path_leads_anywhere_else(client: httpx.AsyncClient) -> None:
    for path in PATHS:
        answer = await client.get(path)

        assert (answer.status_code, answer.json()["reason"]) == (404, "not_found"), path


async def test_only_reading_is_offered(client: httpx.AsyncClient) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "COPY"):
        for path in ("/", "/api/v1/freshness", "/api/v1/executions/1", "/metrics", "/openapi.json"):
            answer = await client.request(method, path, content=b"{}")

            said = (answer.status_code, answer.json()["reason"])
            assert said == (405, "method_not_allowed"), (method, path)


async def test_unknown_and_repeated_parameters_are_rejected(client: httpx.AsyncClient) -> None:
    for query in (
        "setp=load", "step[]=load", "limit=1&limit=2", "since=2026-01-01T00:00:00Z&since=x",
        "&".join(["step=a"] * 51), "&".join(f"x{number}=1" for number in range(600)),
        "step=%ff", "step=%ed%a0%80", "%00=1", "limit=%2B5", "limit=5.0", "limit= 5", "limit=",
    ):  # fmt: skip
        answer = await client.get(f"/api/v1/calls?{query}")

        assert (answer.status_code, answer.json()["reason"]) == (400, "invalid_parameter"), query


async def test_its_connections_see_views_only(filled: Database) -> None:
    beyond = (
        "select * from normalizer.events",
        "select * from normalizer.quarantine_raw",
        "select * from normalizer.quarantine",
        "select * from normalizer.source_positions",
        "select * from projector.call_facts",
        "insert into projector.event_hours values (now(), '', '', '', 0, 0, 1)",
        "create temporary table mine (id integer)",
        "select pg_read_file('/etc/passwd')",
        "copy projector.freshness to program 'true'",
    )
    async with ReaderPool(filled.url, connections=1, timeout_s=5.0) as reader:
        for statement in beyond:
            with pytest.raises(DatabaseRefusedError):
                async with reader.snapshot() as snapshot:
                    await snapshot._connection.execute(statement)


async def test_a_login_of_its_own_sees_views_only_whatever_role_it_takes(filled: Database) -> None:
    """The role is set in each transaction, because poolers refuse otherwise. SQL could reset it."""
    async with (
        as_user(filled, "projector_reader") as login,
        ReaderPool(login.url, connections=1, timeout_s=5.0) as reader,
    ):
        with pytest.raises(DatabaseRefusedError):
            async with reader.snapshot() as snapshot:
                await snapshot._connection.execute("reset role; select * from normalizer.events")


async def test_a_reader_that_may_read_tables_is_rejected(database: Database) -> None:
    await execute(database, "grant select on normalizer.quarantine_raw to projector_reader")
    async with api_client(database.url) as client:
        answer = await client.get("/readyz")
    await execute(database, "revoke select on normalizer.quarantine_raw from projector_reader")

    assert answer.status_code == 503
    (reason,) = answer.json()["reasons"]
    assert reason == (
        "the role projector_reader can read tables, but it may only read views. Revoke that right"
    )


async def test_a_login_needs_the_reader_s_role_and_no_other(filled: Database) -> None:
    async with as_user(filled) as login:
        url = urlsplit(login.url)
        async with api_client(login.url) as client:
            stranger = await client.get("/api/v1/freshness")
        await execute(filled, f"grant projector_reader to {url.username}")
        async with api_client(login.url) as client:
            member = await client.get("/api/v1/freshness")
        async with api_client(url._replace(path="/none").geturl()) as client:
            lost = await client.get("/api/v1/freshness")

    assert (stranger.status_code, stranger.json()["reason"]) == (503, "database_refused")
    assert stranger.json()["detail"] == (
        "the user of DATABASE_URL may not act as projector_reader. Grant that role to the user"
    )
    assert member.status_code == 200
    assert lost.json()["detail"] == (
        "the sign-in was rejected (SQLSTATE 3D000). Check the user, the password, and the name of "
        "the database in DATABASE_URL"
    )


async def test_every_documented_request_gets_its_documented_answer(filled: Database) -> None:
    """Each check of schemathesis on some cases; for more: `st run URL/openapi.json`."""
    async with api_client(filled.url) as client:
        document = (await client.get("/openapi.json")).json()
        document["servers"] = [{"url": "http://127.0.0.1"}]
        schema = schemathesis.openapi.from_dict(document)
        cases = [case for found in schema.get_all_operations() for case in _examples(found, 2)]
        assert len(cases) > len(ENDPOINTS)
        for case in cases:
            # No schema says which cursors there are: only those that an answer gave.
            case.query.pop("cursor", None)
            sent = case.as_transport_kwargs(base_url="http://127.0.0.1")
            answer = await client.request(
                sent["method"], sent["url"], params=sent["params"], headers=sent["headers"]
            )
            case.validate_response(answer)


def _examples(operation: Any, count: int) -> list[Any]:
    found: list[Any] = []

    @settings(
        max_examples=count,
        database=None,
        phases=[Phase.generate],
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.ok().as_strategy())
    def collect(case: Any) -> None:
        found.append(case)

    collect()
    return found
