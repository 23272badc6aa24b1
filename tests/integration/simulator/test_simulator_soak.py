"""The million: all the simulator can do, two normalizers at once, five kill -9 on the way.

Each adds rows to docs/results.csv, and runs alone: `make soak ARGS="-k keyed"`. With fewer
events, to try it out (SOAK_EVENTS=40000), nothing is written.
"""

import asyncio
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from normalizer.config.settings import Settings
from projector.api.endpoints import API_PATH, ENDPOINTS
from simulator.ledger_file import read_ledger
from simulator.simulator_run import SimulatorRun
from tests.support.api_client import api_client
from tests.support.canonical_lines import canonical_lines
from tests.support.expected_rows import comparable_views, expected_rows
from tests.support.feed import Feed
from tests.support.pgbouncer import PgBouncer
from tests.support.projection_oracle import expected_views
from tests.support.results import PrintLine, write_results
from tests.support.service_runs import Watcher, process, settings_for
from tests.support.simulator_runs import compare_database, drain_topic, load_topic, traffic_mix
from tests.support.stack import Cluster, Database, Stack
from tests.support.view_rows import view_rows

MILLION = 1_000_000
EVENTS = int(os.environ.get("SOAK_EVENTS", MILLION))
KILLS = 5


@pytest.fixture
async def reached(
    database: Database, cluster: Cluster, stack: Stack, request: pytest.FixtureRequest
) -> AsyncIterator[Database]:
    """The database as the service reaches it: through PgBouncer if the parameter says so."""
    if not request.param:
        yield database
        return
    folder = stack.folder / f"pgbouncer-{secrets.token_hex(4)}"
    async with PgBouncer(cluster.server, folder) as pooler:
        yield msgspec.structs.replace(database, url=pooler.through(database.url))


@pytest.mark.soak
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize(
    ("name", "topic", "traffic", "reached"),
    [
        ("keyed", 6, {}, False),
        ("spread-over-all-partitions", 6, {"keyed": False}, False),
        ("one-partition", 1, {}, False),
        ("pgbouncer", 6, {}, True),
    ],
    indirect=["topic", "reached"],
    ids=["keyed", "spread", "one-partition", "pgbouncer"],
)
async def test_a_million_events_are_what_the_ledger_says(
    feed: Feed,
    name: str,
    traffic: dict[str, Any],
    reached: Database,
    tmp_path: Path,
    say: PrintLine,
) -> None:
    ledger = tmp_path / "ledger"
    timed = Timed(say)
    played = msgspec.structs.replace(
        traffic_mix(in_flight=2_000, **traffic), partitions=feed.topic.partitions
    )
    settings = settings_for(reached, feed.topic, feed.bootstrap_servers)

    with timed("loading, with its ledger"):
        ends = await load_topic(played, EVENTS, feed.topic, feed.bootstrap_servers, ledger)
    with timed(f"draining by two, {KILLS} kill -9 on the way"):
        await drain_topic(feed.watcher, feed.topic, settings, ends, kills=KILLS)
    with timed("comparing rows, rejections, totals, executions, calls, and what really happened"):
        report = await compare_database(feed.watcher, feed.topic, ledger)
    assert report.agrees, "\n".join(report.lines())
    for how, share in report.inferred_shares().items():
        say(f"retried commands of which {how}: {share} are shown otherwise than they went")
    with timed("verifying the ledger"):
        explained = await _every_offset_is_explained(settings)
    with timed("verifying the projections"):
        projections = await every_projection_matches(reached, "verify")
    with timed("repairing them"):
        repaired = await every_projection_matches(reached, "repair", "--all")
    with timed("asking every path of the API"):
        answers = await _every_path_answers(reached)
    with timed("folding what the ledger tells, beside every view"):
        views = await _every_view_agrees(feed.watcher, ledger)
    with timed("filter, export twice, schema"):
        lines = await canonical_lines(
            SimulatorRun(mix=played, seed=1, events=EVENTS), reached, tmp_path
        )
    assert lines.accepted == report.events

    if EVENTS < MILLION:
        return
    write_results(
        f"million-{name}",
        f'make soak ARGS="-k {name.partition("-over")[0]}"',
        {
            "records, events, reports": f"{report.records:,}, {report.events:,}, "
            f"{report.reports:,}",
            "rejected, ignored": f"{report.quarantined:,}, {report.ignored:,}",
            "executions, calls, calls compared with what really happened": (
                f"{report.executions:,}, {report.calls:,}, {report.real_calls:,}"
            ),
            "differences from the ledger": 0,
            **{
                f"shown otherwise than they went, of retried commands of which {how}": share
                for how, share in report.inferred_shares().items()
            },
            "`normalizer ledger verify`": explained,
            "`projector verify`": projections,
            "`projector repair --all`": repaired,
            "HTTP API": answers,
            "views that show what a fold of the ledger does": views,
            "lines accepted by the JSON Schema": f"{lines.accepted:,} of {report.events:,}",
            "lines the same from filter and export": f"{lines.the_same:,} of {lines.the_same:,} "
            "reported once with an id and a time of their own",
            "two exports": "the same bytes",
            "loading, with its ledger": f"{EVENTS / timed.took_s[0]:,.0f} events/s",
            **{what: f"{took_s:.0f} s" for what, took_s in timed.steps()},
        },
    )


class Timed:
    """Says what is done, and how long it took."""

    def __init__(self, say: PrintLine) -> None:
        self._say = say
        self._what: list[str] = []
        self._began_s = 0.0
        self.took_s: list[float] = []

    def __call__(self, what: str) -> "Timed":
        self._what.append(what)
        return self

    def __enter__(self) -> None:
        self._began_s = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.took_s.append(time.monotonic() - self._began_s)
        self._say(f"{self._what[-1]}: {self.took_s[-1]:.0f} s")

    def steps(self) -> list[tuple[str, float]]:
        """Everything after the first."""
        return list(zip(self._what, self.took_s, strict=True))[1:]


async def _every_offset_is_explained(settings: Settings) -> str:
    """How many partitions `normalizer ledger verify` explains, which must exit 0."""
    async with process(settings, "verify", command="ledger") as verify:
        output, _ = await verify.communicate()
    lines = output.decode().strip().splitlines()
    assert verify.returncode == 0, output.decode()
    explained = sum(line.endswith(": explained") for line in lines)
    return f"{explained} of {len(lines)} partitions explained, exit 0"


async def every_projection_matches(database: Database, *command: str) -> str:
    """How many projections match, which must be all."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "projector", *command),
        env={"PATH": os.environ["PATH"], "DATABASE_URL": database.url},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await child.communicate()
    assert child.returncode == 0, output.decode()
    lines = output.decode().strip().splitlines()
    return f"{sum(' match: ' in line for line in lines)} of {len(lines)} projections match, exit 0"


async def _every_path_answers(database: Database) -> str:
    """How many paths of the API answer their example, which must be all."""
    async with api_client(database.url, timeout_s=60.0) as api:
        no_path = (await api.get(f"{API_PATH}/no-such-path")).json()["detail"]
        for endpoint in ENDPOINTS:
            answer = await api.get(API_PATH + endpoint.path, params=endpoint.example)
            # Some examples name an execution, a record or an error of another database.
            unknown = answer.status_code == 404 and answer.json()["detail"] != no_path
            assert answer.status_code == 200 or unknown, answer.text
    return f"{len(ENDPOINTS)} of {len(ENDPOINTS)} paths answer"


async def _every_view_agrees(watcher: Watcher, ledger: Path) -> str:
    views = comparable_views(await view_rows(watcher.connection))
    expected = comparable_views(
        await asyncio.to_thread(lambda: expected_views(expected_rows(read_ledger(ledger))))
    )
    assert {name for name in expected if views[name] != expected[name]} == set()
    return f"{len(expected)} of {len(expected)}"
