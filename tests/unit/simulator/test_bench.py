"""The records, counts, and results of the benches."""

import ast
import asyncio
import csv
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import AsyncMock

import pytest

from bench import drain
from tests.support import results
from tests.support.tracked_files import tracked


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


def test_the_programs_beside_ours_import_only_names_that_their_fields_have() -> None:
    """They run in environments of their own, so mypy doesn't read them."""
    programs = {
        path.stem: ast.parse(path.read_text()) for path in tracked("bench/peers/programs/*.py")
    }
    functions = {node.name for node in programs["fields"].body if isinstance(node, ast.FunctionDef)}
    constants = {
        node.id
        for node in ast.walk(programs["fields"])
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    imported = {
        alias.name
        for program in programs.values()
        for node in ast.walk(program)
        if isinstance(node, ast.ImportFrom) and node.module == "fields"
        for alias in node.names
    }

    assert imported
    assert imported <= functions | constants
