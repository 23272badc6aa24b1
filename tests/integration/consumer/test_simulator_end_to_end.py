"""The database holds exactly the ledger's rows, through real Kafka and PostgreSQL."""

import os
import sys
from pathlib import Path

import msgspec
import pytest

from simulator.ledger_file import read_ledger
from simulator.simulator_run import SimulatorRun
from tests.support.canonical_lines import canonical_lines
from tests.support.commands import run_program
from tests.support.expected_rows import comparable_views, expected_rows
from tests.support.feed import Feed
from tests.support.projection_oracle import expected_views
from tests.support.simulator_runs import compare_database, drain_topic, load_topic, traffic_mix
from tests.support.stack import Database
from tests.support.view_rows import view_rows


@pytest.mark.timeout(300)
@pytest.mark.parametrize("topic", [1], indirect=True)
async def test_one_partition_every_view_and_the_command_agree_until_a_row_is_changed(
    feed: Feed, tmp_path: Path
) -> None:
    rich = traffic_mix(
        reported_twice=0.5,
        disagreeing=0.5,
        redelivered=0.1,
        colliding=0.01,
        failing=0.3,
        poison=0.02,
    )
    ledger = tmp_path / "ledger"
    ends = await load_topic(rich, 3_000, feed.topic, feed.bootstrap_servers, ledger)
    settings = feed.settings()

    await drain_topic(feed.watcher, feed.topic, settings, ends, kills=0)

    report = await compare_database(feed.watcher, feed.topic, ledger)
    assert report.agrees, "\n".join(report.lines())
    expected = comparable_views(expected_views(expected_rows(read_ledger(ledger))))
    views = comparable_views(await view_rows(feed.connection))
    assert {name for name in expected if views[name] != expected[name]} == set()
    assert views.keys() == expected.keys()
    assert await command("compare", ledger, feed.database) == (
        0,
        "the database agrees with the ledger",
    )
    await feed.connection.execute(
        """
        update normalizer.events
        set    attempts = attempts + 1
        where  event_id = (select min(event_id) from normalizer.events)
        """
    )
    assert await command("compare", ledger, feed.database) == (1, "the database differs")
    await feed.connection.execute(
        "update normalizer.events set attempts = attempts + 1 where status = 'CANCELLED'"
    )
    views = comparable_views(await view_rows(feed.connection))
    assert {name for name in expected if views[name] != expected[name]} > {
        "calls",
        "attempts_by_status",
    }


async def test_filter_and_export_print_the_same_lines_and_the_schema_accepts_all(
    feed: Feed, tmp_path: Path
) -> None:
    traffic = msgspec.structs.replace(
        traffic_mix(mutated=0.2, odd_text=0.05, secrets=0.1, poison=0.02),
        partitions=feed.topic.partitions,
    )
    ends = await load_topic(traffic, 700, feed.topic, feed.bootstrap_servers, tmp_path / "ledger")
    await drain_topic(feed.watcher, feed.topic, feed.settings(), ends, kills=0)

    lines = await canonical_lines(
        SimulatorRun(mix=traffic, seed=1, events=700), feed.database, tmp_path
    )

    assert lines.accepted == await feed.events()
    assert lines.the_same > lines.accepted // 2


async def command(name: str, ledger: Path, database: Database) -> tuple[int, str]:
    """Exit code and last line of a command of the simulator."""
    options = (f"--ledger={ledger}", f"--database-url={database.url}")
    code, said = await run_program(
        sys.executable, "-m", "simulator", name, *options, env=os.environ
    )
    return code, said.splitlines()[-1]
