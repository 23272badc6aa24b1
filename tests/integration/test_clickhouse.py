"""The figures of deploy/clickhouse are those of the projections.

It runs alone: `make soak ARGS="-k clickhouse"`, and writes docs/results/clickhouse.md. With fewer
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

from simulator.mix import Mix
from tests.support.canonical_topic import merged_events, record_of, row_of
from tests.support.engines import ROOT, python_with
from tests.support.projection_oracle import expected_views
from tests.support.results import PrintLine, write_results
from tests.support.simulator_pipeline import simulated_log

CHDB: Final = "chdb==4.4.0"
MILLION: Final = 1_000_000
EVENTS: Final = int(os.environ.get("SOAK_EVENTS", MILLION))
VIEWS: Final = (
    "attempts_by_status", "event_counts", "call_outcomes_by_attempt", "failures_by_error",
    "call_time_histogram",
)  # fmt: skip


@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_clickhouse_counts_what_the_projections_count(tmp_path: Path, say: PrintLine) -> None:
    python = python_with("clickhouse", CHDB)
    log, _ = simulated_log(Mix(in_flight=min(2_000, EVENTS // 100)), 1, EVENTS)
    events = asyncio.run(merged_events(log))
    say(f"{len(log):,} records became {len(events):,} events")
    records, found = tmp_path / "records", tmp_path / "found"
    with records.open("wb") as lines:
        for event in events:
            record = record_of(event)
            names, values = zip(*record.headers, strict=True)
            line = [record.value.decode(), names, [value.decode() for value in values]]
            lines.write(msgspec.json.encode(line) + b"\n")

    subprocess.run(
        [python, ROOT / "tests/support/chdb_figures.py", tmp_path / "work", records, found, *VIEWS],
        check=True,
    )

    answer = json.loads(found.read_text())
    expected = expected_views(map(row_of, events))
    assert answer["events"] == len(events)
    for view in VIEWS:
        assert counted(answer["rows"][view]) == Counter(expected[view]), view
    say(json.dumps(answer["took_s"]))
    if EVENTS >= MILLION:
        write_results(
            "clickhouse",
            f"The figures of deploy/clickhouse, {EVENTS:,} records",
            'make soak ARGS="-k clickhouse"',
            {
                "events, each loaded twice": f"{len(events):,}",
                "views that show what a fold of the events does": f"{len(VIEWS)} of {len(VIEWS)}",
                "loading": f"{len(events) / answer['took_s']['load']:,.0f} events/s",
                "folding calls": f"{len(events) / answer['took_s']['fold']:,.0f} events/s",
                "an event on disk": f"{answer['bytes'] / answer['copies']:.0f} bytes",
                **{f"`{view}`, all of it": f"{answer['took_s'][view]:.2f} s" for view in VIEWS},
            },
            f"chDB {answer['version']}",
        )


def counted(rows: Sequence[Sequence[Any]]) -> Counter[Any]:
    """Rows whose first column is a time."""
    return Counter(
        (datetime.fromisoformat(at).replace(tzinfo=UTC), *values) for at, *values in rows
    )
