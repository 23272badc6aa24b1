"""The simulator's command line: what it writes, prints and refuses."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from simulator.__main__ import main


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_write_fills_a_file_and_its_ledger(tmp_path: Path) -> None:
    result = run("write", str(tmp_path / "file"), "--events=50", f"--ledger={tmp_path / 'ledger'}")

    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in (tmp_path / "file").read_bytes().splitlines()]
    kinds = [json.loads(line)["line"] for line in (tmp_path / "ledger").read_bytes().splitlines()]
    assert kinds[0] == "begin"
    assert kinds.count("record") == len(lines)
    assert {line["topic"] for line in lines} == {"noetl.events"}


def test_write_wants_to_know_how_much() -> None:
    result = run("write", "-")

    assert result.exit_code == 2
    assert "--events N or --executions N" in result.output


@pytest.mark.parametrize(
    "setting",
    [
        "colour=red",
        "rate=fast",
        "partitions",
        *("rate=0", "rate=-1", "rate=nan", "rate=1e300"),
        *("in_flight=0", "partitions=0", "poison=-1", "poison=2", "late_s=-1"),
    ],
)
def test_a_setting_that_is_none_is_rejected(setting: str) -> None:
    result = run("write", "-", "--events=1", f"--set={setting}")

    assert result.exit_code == 2
    assert "Usage:" in result.output


def test_truth_prints_executions_and_calls(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    run("write", str(tmp_path / "file"), "--events=300", "--in-flight=3", f"--ledger={ledger}")

    result = run("truth", f"--ledger={ledger}")

    assert {json.loads(line)["line"] for line in result.output.splitlines()} == {
        "execution",
        "call",
    }


def test_compare_refuses_what_is_no_ledger(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("")

    result = run("compare", f"--ledger={tmp_path / 'ledger'}", "--database-url=postgresql://")

    assert result.exit_code == 2
    assert "is not a ledger" in result.output


def test_a_comparison_that_is_not_possible_is_no_difference(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    run("write", str(tmp_path / "file"), "--events=1", f"--ledger={ledger}")

    result = run("compare", f"--ledger={ledger}", "--database-url=postgresql://u@127.0.0.1:1/d")

    assert (result.exit_code, result.exception.__class__) == (3, SystemExit)
    assert result.output.startswith("Error: nothing was compared: ")
