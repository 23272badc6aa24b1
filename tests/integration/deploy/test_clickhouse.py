"""The figures of deploy/clickhouse are those of the projections.

It runs alone: `make soak ARGS="-k clickhouse"`, and adds rows to docs/results.csv. With fewer
events, to try it out (SOAK_EVENTS=40000), nothing is written.
"""

import asyncio
import json
import os
import subprocess
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from normalizer.envelope import Envelope
from simulator.mix import Mix
from tests.support.canonical_topic import FIGURES, RELAYS, published, to_record
from tests.support.engines import ROOT, python_with
from tests.support.results import PrintLine, write_results
from tests.support.simulator_pipeline import simulated_log

CHDB: Final = "chdb==4.4.0"
MILLION: Final = 1_000_000
EVENTS: Final = int(os.environ.get("SOAK_EVENTS", MILLION))


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("relay", RELAYS)
def test_clickhouse_counts_what_the_projections_count(
    relay: str, tmp_path: Path, say: PrintLine
) -> None:
    log, ledger = simulated_log(Mix(in_flight=min(2_000, EVENTS // 100)), 1, EVENTS)
    topic = asyncio.run(published(relay, log, ledger, reader_keeps="last"))
    say(f"{len(log):,} records became {len(topic.sent):,} messages")
    answer = clickhouse_figures(topic.sent, tmp_path)
    expected, differing = topic.figures()
    assert answer["events"] == len(topic.counted)
    for view in FIGURES:
        assert counted(answer["rows"][view]) == Counter(expected[view]), view
    say(json.dumps(answer["took_s"]))
    say(f"{differing:,} rows of the views are not PostgreSQL's")
    rows = sum(map(len, expected.values()))
    if EVENTS >= MILLION:
        write_results(
            "clickhouse" if relay == "from-postgres" else "clickhouse-raw",
            'make soak ARGS="-k clickhouse"',
            {
                "messages, each loaded twice": f"{len(topic.sent):,}",
                "events": f"{len(topic.counted):,}",
                "views that show a fold of the events": f"{len(FIGURES)} of {len(FIGURES)}",
                "of their rows, not PostgreSQL's": f"{differing:,} of {rows:,}",
                "loading": f"{len(topic.sent) / answer['took_s']['load']:,.0f} events/s",
                "folding calls": f"{len(topic.sent) / answer['took_s']['fold']:,.0f} events/s",
                "an event on disk": f"{answer['bytes'] / answer['copies']:.0f} bytes",
                **{f"`{view}`, all of it": f"{answer['took_s'][view]:.2f} s" for view in FIGURES},
            },
        )


def clickhouse_figures(events: Sequence[Envelope], folder: Path) -> dict[str, Any]:
    """What ClickHouse's engine shows of these events."""
    python = python_with("clickhouse", CHDB)
    records, found = folder / "records", folder / "found"
    with records.open("wb") as lines:
        for event in events:
            record = to_record(event)
            names, values = zip(*record.headers, strict=True)
            line = [record.value.decode(), names, [value.decode() for value in values]]
            lines.write(msgspec.json.encode(line) + b"\n")
    program = ROOT / "tests/support/chdb_figures.py"
    subprocess.run([python, program, folder / "work", records, found, *FIGURES], check=True)
    answer: dict[str, Any] = json.loads(found.read_text())
    return answer


def counted(rows: Sequence[Sequence[Any]]) -> Counter[Any]:
    """Rows whose first column is a time."""
    return Counter(
        (datetime.fromisoformat(at).replace(tzinfo=UTC), *values) for at, *values in rows
    )
