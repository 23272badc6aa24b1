"""The form of migrations: forward only, one transaction for each file, which records itself."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "migrations"
FILES = sorted(FOLDER.glob("[0-9]*.sql"))


def test_no_two_files_have_one_version() -> None:
    versions = [path.name.partition("_")[0] for path in FILES]

    assert len(set(versions)) == len(versions)


def test_names_are_a_verb_and_nouns() -> None:
    assert [
        path.name for path in FILES if not re.fullmatch(r"\d{4}_[a-z]+(_[a-z]+)+\.sql", path.name)
    ] == []


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


def test_no_line_is_wider_than_a_screen() -> None:
    wide = [
        f"{path.name}:{number}: {len(line)}"
        for path in FILES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > 100
    ]

    assert wide == []
