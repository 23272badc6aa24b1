"""Parts of the HTTP API that need no database: windows of trends, CSV, thresholds, closed lists."""

import asyncio
import contextlib
import csv
import io
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, get_args

import msgspec
import pytest
from click.testing import CliRunner
from starlette.requests import Request

from normalizer.core.shapes import SHAPES
from normalizer.errors import REJECTION_REASONS, ConfigurationError
from projector.api import serve_command
from projector.api.answers import ApiAnswer, ApiRow
from projector.api.api_errors import API_ERRORS, ApiError, BusyError
from projector.api.api_metrics import ApiMetrics, RecentOutcomes, StepCallCounts
from projector.api.api_reference import api_reference_as_html
from projector.api.endpoints import ENDPOINTS
from projector.api.formats import answer_as_csv, preferred_format
from projector.api.openapi import build_document
from projector.api.parameters import GroupedParams, Shapes
from projector.api.queries.quarantine_lists import EXPLANATIONS_BY_REASON
from projector.api.queries.trends import MAX_TREND_INTERVALS, trend_window
from projector.api.response_cache import ResponseCache
from projector.api.responses import problem_response
from projector.api.serve import ApiSettings
from projector.api.service_routes import ServiceRoutes
from projector.api.snapshots import Snapshot
from projector.api.thresholds import (
    DEFAULT_THRESHOLDS,
    TILE_NAMES,
    TILES_WHERE_LOWER_IS_WORSE,
    Threshold,
    level_for,
    parse_thresholds,
)
from projector.api.visible_settings import VisibleSettings

NOW: Final = datetime(2026, 7, 10, 9, 20, 30, tzinfo=UTC)
SPEC: Final = Path(__file__).parents[3] / "docs" / "spec" / "wire-shapes.md"


class Cell(ApiRow, frozen=True, kw_only=True, omit_defaults=True):
    """A row of the tests below."""

    step: str | None = None
    calls: int = 0
    share: float = 0.0
    new: bool | None = None
    steps: list[str] | None = None


def answer(*rows: Cell) -> ApiAnswer[Cell]:
    return ApiAnswer[Cell](as_of=None, behind_s=None, read_at=NOW, rows=list(rows))


@pytest.mark.parametrize(
    ("last", "width_s", "intervals"),
    [
        ("1h", 300, 13), ("2h", 300, 25), ("24h", 3_600, 25), ("7d", 21_600, 29),
        ("30d", 86_400, 31), ("3000h", 604_800, 18),
    ],
)  # fmt: skip
def test_a_trend_has_few_intervals_that_cover_the_window(
    last: str, width_s: int, intervals: int
) -> None:
    window = trend_window(GroupedParams(last=last), NOW)

    assert (window.interval_s, window.intervals) == (width_s, intervals)
    assert window.intervals <= MAX_TREND_INTERVALS
    assert window.unfinished
    assert window.since - window.previous_start == window.until - window.since


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        *(
            (text, f"'{text}")
            for text in ("=1+1", "+cmd", "-2", "@SUM(A1)", "\tx", "\rx", "\uff1d1")
        ),
        ("\n=1", "'\n'=1"),
        ("a;=1+1", "a;'=1+1"),
        ("a\t@b\n-c;d", "a\t'@b\n'-c;d"),
        ("a=1; b-2", "a=1; b-2"),
    ],
)
def test_no_cell_of_text_is_a_formula_by_whatever_separator(text: str, cell: str) -> None:
    read = answer_as_csv(answer(Cell(step=text, steps=[";=2"])), Cell).decode()
    (row,) = csv.DictReader(io.StringIO(read, newline=""))

    assert (row["step"], row["steps"]) == (cell, '[";\'=2"]')


def test_thresholds_are_settings_that_replace_the_defaults() -> None:
    changed = parse_thresholds(["error_rate=0.01,0.5", "first_attempt_success=0.99,0.5"])

    assert set(changed) == set(DEFAULT_THRESHOLDS) == set(TILE_NAMES)
    assert [level_for("error_rate", value, changed) for value in (0.001, 0.01, 0.5, None)] == [
        "ok", "warn", "critical", None,
    ]  # fmt: skip
    assert [level_for("first_attempt_success", value, changed) for value in (1.0, 0.9, 0.5)] == [
        "ok", "warn", "critical",
    ]  # fmt: skip
    assert changed["stuck"] == DEFAULT_THRESHOLDS["stuck"]
    assert set(TILE_NAMES) > TILES_WHERE_LOWER_IS_WORSE


@pytest.mark.parametrize(
    "text", ["", "error_rate", "error_rate=1", "no=1,2", "error_rate=2,1", "error_rate=1,1",
             "first_attempt_success=0.5,0.9", "stuck=1,2,3", "stuck=-1,2"],
)  # fmt: skip
def test_a_threshold_that_makes_no_sense_is_rejected_by_name(text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"threshold {re.escape(repr(text))}"):
        parse_thresholds([text])


def test_the_shapes_of_a_filter_are_those_of_the_rules() -> None:
    words = get_args(get_args(get_args(Shapes)[0])[0])

    assert set(words) == {*SHAPES, "", "sql"}


def test_every_reason_means_what_the_specification_says() -> None:
    assert set(EXPLANATIONS_BY_REASON) == set(REJECTION_REASONS)
    table = SPEC.read_text()
    missing = [
        one
        for one in REJECTION_REASONS
        if f"| `{one}` | {EXPLANATIONS_BY_REASON[one]} |" not in table
    ]
    assert missing == []


def test_metrics_of_outcomes_are_at_most_two_hundred_series() -> None:
    metrics = ApiMetrics()
    calls = [
        StepCallCounts(step=f"step {number}", first=first, succeeded=number, failed=1)
        for number in range(1_000)
        for first in (True, False)
    ]

    metrics.outcomes.set_recent(RecentOutcomes(calls=calls, stuck={"under 1 h": 3}))
    metrics.outcomes.set_first_attempt_success("last_week", 0.5)

    text = metrics.to_exposition_bytes().decode()
    series = [line for line in text.splitlines() if line.startswith(_OUTCOMES)]
    assert len(series) <= 200
    of_steps = [line for line in series if line.startswith("projector_recent_step_calls")]
    assert sum(float(line.rpartition(" ")[2]) for line in of_steps) == 2 * (499_500 + 1_000)
    labels = 'attempts="first",outcome="failed",step="step 999"'
    assert f"projector_recent_step_calls{{{labels}}} 1.0" in text
    assert 'projector_stuck_executions{silent_for="under 1 h"} 3.0' in text


_OUTCOMES: Final = (
    "projector_recent",
    "projector_stuck",
    "projector_first_attempt",
    "projector_threshold",
)


@pytest.fixture(scope="module")
def api_page() -> str:
    return api_reference_as_html(build_document(ENDPOINTS, token=True)).decode()


@pytest.mark.parametrize("kind", API_ERRORS, ids=lambda kind: kind.reason)
def test_every_error_is_a_problem_that_the_page_describes(
    kind: type[ApiError], api_page: str
) -> None:
    response = problem_response(kind("what was wrong"))
    body: dict[str, Any] = msgspec.json.decode(bytes(response.body))

    assert response.headers["content-type"] == "application/problem+json"
    assert body.keys() == {"type", "title", "status", "detail", "reason"}
    assert (body["status"], body["detail"]) == (kind.status, "what was wrong")
    address, _, anchor = body["type"].partition("#")
    assert address == "/api"
    assert f'id="{anchor}"' in api_page
    assert body["title"] in api_page


def test_settings_of_serve_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[ApiSettings] = []

    async def start(settings: ApiSettings, **_: object) -> None:
        started.append(settings)

    monkeypatch.setattr("projector.api.serve.serve", start)
    environment = {
        "DATABASE_URL": "postgresql://u@host/none",
        "PROJECTOR_THRESHOLDS": "error_rate=0.01,0.5 stuck=3,9",
        "PROJECTOR_ALLOW_ORIGINS": "https://a.example https://b.example:3000",
        "PROJECTOR_GRAFANA": "https://grafana.example/sub",
        "PROJECTOR_DOCS": "https://git.example/project/",
        "KAFKA_TOPICS": "noetl.events, more.events",
        "KAFKA_BOOTSTRAP_SERVERS": "kafka:9092",
    }

    done = CliRunner().invoke(serve_command.serve, [], env=environment)

    assert (done.exit_code, done.output) == (0, "")
    (settings,) = started
    assert settings.origins == ("https://a.example", "https://b.example:3000")
    visible = settings.visible
    assert visible.grafana == "https://grafana.example/sub"
    assert visible.docs == "https://git.example/project/"
    assert visible.thresholds["error_rate"] == Threshold(0.01, 0.5)
    assert visible.thresholds["rejected"] == DEFAULT_THRESHOLDS["rejected"]
    assert (visible.topics, visible.brokers) == (("noetl.events", "more.events"), ("kafka:9092",))


@pytest.mark.parametrize(
    ("arguments", "token", "why"),
    [
        (("--threshold", "error_rate=1"), "", "expected NAME=WARN,CRITICAL"),
        (("--allow-origin", "*"), "", "expected a complete origin"),
        (("--allow-origin", "https://a.example/path"), "", "expected a complete origin"),
        (("--allow-origin", "https://u:p@a.example"), "", "expected a complete origin"),
        (("--grafana", "javascript:alert(1)"), "", "expected an address"),
        (("--grafana", 'https://a.example/"onclick='), "", "expected an address"),
        (("--docs", "javascript:alert(1)/"), "", "expected an address that ends in /"),
        (("--docs", "https://a.example/main"), "", "expected an address that ends in /"),
        (("--host", "::"), "", "lets other machines read"),
        (("--host", "projector.example"), "", "lets other machines read"),
        (("--host", "127.0.0.1"), "too-short", "at least 16"),
        (("--host", "127.0.0.1"), "a-line-break-at-the-end\n", "and no spaces"),
        (("--host", "127.0.0.1"), "\udcff" * 16, "and no spaces"),
        (("--host", "192.0.2.1"), "long-enough-to-be-one", "cannot listen"),
        (("--port", "70000"), "", "70000 is not in the range"),
        (("--timeout", "nan"), "", "not a valid integer"),
    ],
)
def test_serve_refuses_settings_that_are_none_or_let_others_read_along(
    arguments: tuple[str, ...], token: str, why: str
) -> None:
    environment = {
        "DATABASE_URL": "postgresql://u:secret@127.0.0.1:1/none",
        "PROJECTOR_TOKEN": token,
    }
    done = CliRunner().invoke(serve_command.serve, arguments, env=environment)

    assert done.exit_code == 2
    assert why in done.output
    assert "secret" not in done.output
    assert not token or os.fsencode(token) not in done.output_bytes


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("text/csv;q=0.9, */*", "json"), ("text/csv;q=0, */*", "json"), ("text/csv;q=0", "json"),
        ("text/csv;q=0.1, application/json", "json"),
        ("application/json;q=0.1,Text/CSV;header=present;q=0.2", "csv"),
        ("text/csv;q=nan", "json"), ("text/csv;q=2", "json"), (",;,;q=", "json"),
    ],
)  # fmt: skip
def test_the_format_that_is_wanted_most_is_sent(accept: str, form: str) -> None:
    assert preferred_format(accept) == form


def test_an_error_that_passes_says_when_to_try_again() -> None:
    waits = {
        kind.reason: problem_response(kind("x")).headers.get("Retry-After") for kind in API_ERRORS
    }

    assert {reason for reason, wait in waits.items() if wait} == {"busy", "database_unavailable"}


async def test_requests_that_waited_for_an_error_do_not_run_into_it_one_by_one() -> None:
    cache, runs = ResponseCache(), 0

    async def run() -> tuple[bytes, str, str, None]:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0)
        raise BusyError("too many requests at once")

    ended = await asyncio.gather(
        *(cache.get("key", run) for _ in range(50)), return_exceptions=True
    )
    assert {type(end) for end in ended} == {BusyError}
    assert runs == 1
    with pytest.raises(BusyError):
        await cache.get("key", run)
    assert runs == 2, "an error is not kept"


async def test_scrapes_that_come_together_read_once() -> None:
    """Probes read through the same connection."""
    reads = 0

    class Slow(ApiMetrics):
        async def refresh(self, _snapshot: Snapshot) -> None:
            nonlocal reads
            reads += 1
            await asyncio.get_running_loop().run_in_executor(None, str)

    own: Any = SimpleNamespace(snapshot=contextlib.nullcontext)
    described = build_document(ENDPOINTS, token=False)
    paths = ServiceRoutes(own, own, Slow(DEFAULT_THRESHOLDS), described, VisibleSettings())
    request = Request({"type": "http", "state": {"trusted": True}})

    answers = await asyncio.gather(*(paths._own_metrics(request) for _ in range(5)))
    assert reads == 1
    assert all(b"projector_figures_age_seconds" in one.body for one in answers)

    await paths._own_metrics(request)
    assert reads == 2


async def test_a_request_that_is_cancelled_cancels_nothing_that_is_to_come() -> None:
    cache = ResponseCache()

    async def run() -> tuple[bytes, str, str, None]:
        return b"x", "etag", "{}", None

    async def run_forever() -> tuple[bytes, str, str, None]:
        await asyncio.Event().wait()
        return await run()

    first = asyncio.create_task(cache.get("key", run_forever))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])

    response, from_cache = await cache.get("key", run)
    assert (response.body, from_cache) == (b"x", False)
