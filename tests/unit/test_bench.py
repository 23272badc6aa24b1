"""What the benches send, count and record."""

import asyncio
import csv
import itertools
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import AsyncMock

import msgspec
import pytest

from bench import against, drain, repair
from bench.peers import installs
from bench.peers.comparison import ODD
from simulator.mix import Mix
from simulator.topic_records import records
from tests.support import results

CLEAN: Final = msgspec.convert({"poison": 0, **dict.fromkeys(ODD, 0)}, Mix)


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The scripts' own readers, without a guard and with one."""
    monkeypatch.syspath_prepend(installs.SOURCES / "programs")
    copying, fields = map(import_module, ("copying", "fields"))
    return [copying.row_of, fields.row_of, fields.guarded_row]


def test_every_contestant_can_read_the_clean_topic(readers: list[Any]) -> None:
    for offset, record in enumerate(itertools.islice(records(CLEAN, 1), 2_000)):
        assert not record.headers
        assert record.value is not None
        for row_of in readers:
            row = row_of(record.value, 0, offset, record.timestamp_ms)
            assert row is not None, record.value


@pytest.mark.parametrize(
    ("program", "file"),
    [
        ("go", "go/go.mod"),
        ("go", "go/main.go"),
        ("connect", "connect/pom.xml"),
        ("plain", "programs/requirements-plain.txt"),
    ],
)
def test_a_contestant_whose_sources_changed_is_installed_again(
    program: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = shutil.copytree(installs.SOURCES, tmp_path / "sources")
    ran: list[str] = []

    def run(command: Sequence[str | Path], _: Path | None = None) -> None:
        ran.append(str(command[0]))
        for before, name in itertools.pairwise(command):
            if before in {"-o", "-d"}:
                Path(name).touch()

    monkeypatch.setattr(installs, "SOURCES", sources)
    monkeypatch.setattr(installs, "_tool", str)
    monkeypatch.setattr(installs, "_run", run)
    installs.prepare(program, tmp_path)
    first = len(ran)
    installs.prepare(program, tmp_path)
    assert len(ran) == first
    with (sources / file).open("a") as changed:
        changed.write("\n")
    installs.prepare(program, tmp_path)
    assert len(ran) == 2 * first


def test_a_record_names_the_commit_that_the_run_began_with_and_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [one for one in os.environ if one.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")

    def git(*arguments: str) -> None:
        by = ("-c", "user.name=some", "-c", "user.email=some@example.org")
        subprocess.run(["git", *by, *arguments], cwd=tmp_path, check=True, capture_output=True)

    code, page = tmp_path / "code.py", tmp_path / "docs" / "results.csv"
    page.parent.mkdir(parents=True)
    git("init")
    for file in (code, page):
        file.write_text("before")
    git("add", ".")
    git("commit", "--message=first")
    commit = results.commit_of(tmp_path)
    assert re.fullmatch("[0-9a-f]{7,}", commit)
    page.write_text("after")
    assert results.commit_of(tmp_path) == commit
    code.write_text("after")
    assert results.commit_of(tmp_path) == f"{commit}+changes"


def test_a_new_run_replaces_the_rows_of_the_last_one_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "results.csv"
    table.write_text("figure,value,date_utc,commit,command\n")
    monkeypatch.setattr(results, "RESULTS", table)

    def figures() -> list[tuple[str, str]]:
        rows = list(csv.reader(table.read_text().splitlines()))[1:]
        return [(figure, value) for figure, value, *_ in rows]

    results.write_results(
        "drain", "make bench", {"first": "1 | 5", "second": " | 2"}, columns=("a", "b")
    )
    before = figures()
    results.write_row("drain-against", "first", "3", "make bench")
    results.write_results("drain", "make bench", {"first": 4})

    assert before == [("drain: first", "a: 1; b: 5"), ("drain: second", "b: 2")]
    assert figures() == [("drain: first", "4"), ("drain-against: first", "3")]


def test_a_record_holds_all_options_of_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    main = SimpleNamespace(__spec__=SimpleNamespace(name="bench.peers.__main__"))
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "argv", ["/bench/peers/__main__.py", "--events", "20", "--results"])
    assert results.command_line() == "python -m bench.peers --events 20 --results"


async def test_a_drain_fails_at_once_when_a_service_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def ends(*_: object) -> int:
        return 1

    async def connect(_: str) -> AsyncMock:
        connection = AsyncMock()
        connection.fetch.return_value = []
        return connection

    monkeypatch.setattr(drain, "_log_ends", ends)
    monkeypatch.setattr(drain, "asyncpg", SimpleNamespace(connect=connect))
    monkeypatch.setattr(drain, "sys", SimpleNamespace(executable="/bin/false"))
    async with asyncio.timeout(5):
        with pytest.raises(SystemExit, match="ended with 1"):
            await drain.drain("", "", 2)


SAID: Final = """\
load:  1,000 events in 1.0 s
drain: 1,000 events in 40.0 s: 25 events/s by 2 processes, 58.3 us of their CPU an event
copy:  900 rows in 10.0 s by one session: 90 rows/s
ratio: 0.99 (aim: at least 0.5)
"""


def test_a_drain_beside_copy_is_time_beside_time_at_any_commit() -> None:
    run = against.run_of(SAID)
    assert run is not None
    assert (run.rate, run.cpu_us, run.ratio) == (25.0, 58.3, 0.25)
    assert against.run_of("drain: not finished") is None


async def test_a_late_commit_beside_a_repair_makes_the_next_ones_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    took_s = [0.03]

    async def copy(*_: object) -> None:
        await asyncio.sleep(took_s.pop() if took_s else 0)

    monkeypatch.setattr(repair, "COMMITS_A_SECOND", 100)
    monkeypatch.setattr(repair, "copy", copy)
    rows = [[tuple(range(40))]]
    written = await repair.written(AsyncMock(), itertools.cycle(rows), time.monotonic() + 0.1)
    assert written.took_ms[0] >= 30
    assert written.took_ms[1] >= 18
    assert 0 < written.rate <= 101
