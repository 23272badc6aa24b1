"""The form of migrations: forward only, one transaction for each file, which records itself."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "migrations"
FILES = sorted(FOLDER.glob("[0-9]*.sql"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_records_itself(path: Path) -> None:
    version = path.name.partition("_")[0]
    recorded = (
        f"insert into migrations.applied (version) values ('{version}') on conflict do nothing;"
    )

    assert path.read_text().endswith(f"\n{recorded}\n")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_leaves_no_setting_to_the_session(path: Path) -> None:
    """A connection pooler may hand the session to another program."""
    assert re.findall(r"^set (?!local).*", path.read_text(), re.MULTILINE) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_leaves_the_transaction_to_the_runner(path: Path) -> None:
    assert re.findall(r"^\s*(begin|commit|rollback)\s*;", path.read_text(), re.MULTILINE) == []
