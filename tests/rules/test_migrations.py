"""The form of migrations: one transaction for each file, and one thing in each repeatable one."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from normalizer.core.identity import merge_flags
from normalizer.store.migration_files import read_migrations

FOLDER = Path(__file__).parents[2] / "migrations"
VERSIONS = sorted(FOLDER.glob("[0-9]*.sql"))
REPEATABLE = sorted(FOLDER.glob("*/*.sql"))
FILES = VERSIONS + REPEATABLE
CREATED = re.compile(r"^create (?:or replace )?(\w+) (?:\w+\.)?(\w+)", re.MULTILINE)


@pytest.mark.parametrize("path", VERSIONS, ids=lambda path: path.stem)
def test_a_version_records_itself(path: Path) -> None:
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


@pytest.mark.parametrize("path", REPEATABLE, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_repeatable_file_replaces_what_its_name_says_and_nothing_else(path: Path) -> None:
    text = path.read_text()
    kinds = {"functions": {"function", "aggregate"}, "views": {"view"}}

    [(kind, name)] = CREATED.findall(text)
    assert kind in kinds[path.parent.name]
    assert name == path.stem
    assert (
        re.findall(
            r"^(?!create or replace|comment on|grant|revoke)(?:create|alter|drop)\b.*",
            text,
            re.MULTILINE,
        )
        == []
    )


def test_a_function_with_statements_finds_its_tables_whatever_the_session_searches() -> None:
    """An immutable function reads no table. A body that isn't a string is bound when created."""
    functions = [path for path in REPEATABLE if path.parent.name == "functions"]
    heads = {path.stem: path.read_text().partition("as $$") for path in functions}
    stated = {
        name: head
        for name, (head, begin, _) in heads.items()
        if begin and not re.search(r"(?m)^    language \w+ immutable", head)
    }

    assert len(stated) > 30
    for name, head in stated.items():
        assert re.search(r"(?m)^    set search_path = pg_catalog, .*\bpg_temp$", head), name


def test_a_view_is_recognized_by_the_runner_in_every_file_of_views() -> None:
    views = [file for file in read_migrations() if file.version.startswith("views/")]

    assert len(views) > 30
    assert [
        file.name for file in views if file.created_view != f"projector.{file.version[6:]}"
    ] == []


def test_functions_and_views_come_after_all_that_they_name() -> None:
    order = [file.version for file in read_migrations() if file.is_repeatable]

    assert order.index("functions/percentile_transition") < order.index("functions/percentile")
    assert order.index("views/freshness") < order.index("views/executions_with_as_of")
    assert order.index("views/executions_with_as_of") < order.index("views/open_calls")
    assert order.index("views/open_calls") < order.index("views/stuck_reasons")


def test_no_more_functions_and_tables_than_somebody_can_know() -> None:
    """Merge two before you raise a limit. Trigger functions and the aggregate are among them."""
    texts = [path.read_text() for path in FILES]
    created = [kind for text in texts for kind, _ in CREATED.findall(text)]

    assert created.count("function") + created.count("aggregate") <= 64
    assert created.count("table") <= 44
    assert not [one for one in texts if re.search(r"partition by (range|list|hash)", one)]


def test_sql_names_each_merge_flag_that_it_tests() -> None:
    files = [*FILES, *FOLDER.parent.glob("projector/**/*.py")]
    lines = [line for path in files for line in path.read_text().splitlines()]
    tested = [match for line in lines for match in re.findall(r"merge_flags & (\d+)(.*)", line)]

    assert len(tested) > 4
    for number, rest in tested:
        name = re.search(r" -- ([A-Z_]+) of merge_flags.py$", rest)
        assert name is not None, rest
        assert getattr(merge_flags, name[1]) == int(number)


def test_sql_calls_a_record_late_as_merge_flags_does() -> None:
    text = (FOLDER / "functions" / "derive_calls.sql").read_text()

    [seconds] = re.findall(r"interval '(\d+) seconds' -- LATE_RECORD_DELAY of merge_flags.py", text)
    assert timedelta(seconds=int(seconds)) == merge_flags.LATE_RECORD_DELAY


@pytest.mark.parametrize(
    ("function", "row", "composite"),
    [
        ("project_calls", "change", "call_change"),
        ("derive_calls", "event_in_doubt", "call_event"),
    ],
)
def test_a_row_that_is_cast_by_position_has_the_columns_of_its_type(
    function: str, row: str, composite: str
) -> None:
    text = (FOLDER / "functions" / f"{function}.sql").read_text()
    types = (FOLDER / "0007_create_calls.sql").read_text()

    assert f"{row}::{composite}" in text
    selected = re.search(rf"(?ms)^ +{row} as \(\n +select (.*?)\n +from ", text)
    declared = re.search(rf"(?ms)^create type projector\.{composite} as \((.*?)^\)", types)
    assert selected is not None
    assert declared is not None
    columns = re.sub("--.*", "", selected[1])
    while columns != (columns := re.sub(r"\([^()]*\)", "", columns)):
        pass
    assert re.findall(r"(\w+)\s*(?:,|$)", columns) == re.findall(r"(?m)^ +(\w+) ", declared[1])


def test_an_attempt_is_the_least_of_its_values_in_each_of_the_three_places() -> None:
    """Over new events, over stored events, and over the stored attempt and a change."""
    new, stored, merged = (
        (FOLDER / "functions" / f"{name}.sql").read_text()
        for name in ("project_calls", "derive_calls", "merge_first_attempts")
    )

    lines = re.findall(r"(?m)^ +(min\(.* as (\w+)),$", new[new.index("    change as (") :])
    names = [name for _, name in lines]
    assert len(lines) == 11
    assert re.findall(r"(?m)^ +(min\(.* as (\w+)),$", stored[stored.rindex("-- 4.") :]) == lines
    assert re.findall(r"(\w+) += least\(\s*stored\.\1, excluded\.\1\s*\)", merged) == names


def test_each_trigger_function_has_a_file() -> None:
    text = (FOLDER / "0008_create_triggers.sql").read_text()
    names = re.findall(r"execute function (\w+)\.(\w+)\(", text)

    assert len(names) > 10
    assert {name for _, name in names} <= {path.stem for path in REPEATABLE}
