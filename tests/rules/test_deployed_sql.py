"""The SQL for other engines names views, columns and fields that exist."""

import json
import re
from pathlib import Path
from typing import Any, Final

from tests.support.engines import ROOT

CLICKHOUSE: Final = ROOT / "deploy" / "clickhouse"
FLINK: Final = ROOT / "deploy" / "flink"
VIEWS: Final = ROOT / "docs" / "views.json"
ENVELOPE: Final[dict[str, Any]] = json.loads((ROOT / "contract/envelope.schema.json").read_text())

OF_THE_RECORD: Final = {"headers", "partition", "offset", "timestamp"}


def test_views_of_clickhouse_have_names_and_columns_of_the_projections() -> None:
    kept = columns_of_views(CLICKHOUSE / "figures.sql")

    assert kept
    for view, columns in kept.items():
        assert columns <= set(contract()[view]), view


def test_views_over_the_tables_of_flink_have_exactly_the_columns_of_the_projections() -> None:
    kept = columns_of_views(FLINK / "postgres.sql")

    assert kept
    assert kept == {view: set(contract()[view]) for view in kept}


def test_tables_that_flink_fills_have_the_columns_that_it_writes() -> None:
    written = columns_of_tables(FLINK / "tables.sql")
    stored = columns_of_tables(FLINK / "postgres.sql")

    del written["canonical_topic"], stored["job"]
    assert {name: columns - {"hour"} for name, columns in stored.items()} == written


def test_fields_that_are_read_are_those_of_the_envelope() -> None:
    fields = set(ENVELOPE["properties"])
    events = (CLICKHOUSE / "events.sql").read_text()
    read = {
        *re.findall(r"JSONExtract\w*\(line, '(\w+)'", events),
        *re.findall(r"\(line, '\$\.(\w+)", events),
    }

    assert read
    assert read <= fields
    assert columns_of_tables(FLINK / "tables.sql")["canonical_topic"] - OF_THE_RECORD <= fields


def test_history_is_inserted_into_columns_that_clickhouse_has() -> None:
    [[table, inserted]] = re.findall(
        r"insert into normalizer\.(\w+) \(([^)]*)\)", (FLINK / "README.md").read_text()
    )
    created = re.findall(
        rf"create table normalizer\.{table} \((.*?)\n\)",
        (CLICKHOUSE / "events.sql").read_text(),
        re.DOTALL,
    )

    assert set(inserted.split(", ")) <= set(re.findall(r"^    (\w+) ", created[0], re.MULTILINE))


def test_both_engines_know_every_type_that_begins_or_ends_an_execution_or_is_of_a_call() -> None:
    migration = (ROOT / "migrations" / "0004_create_projector.sql").read_text()
    kinds = re.findall(r"\('[a-z.]+', '(\w+)', '(\w+)', '\w*', '([\w.]+)'\)", migration)
    begins, ends, of_calls = (
        {name for subject, role, name in kinds if (subject, role in at) == (of, True)}
        for of, at in (
            ("execution", {"begins"}),
            ("execution", {"ends"}),
            ("call", {role for _, role, _ in kinds}),
        )
    )

    for path in (CLICKHOUSE / "figures.sql", FLINK / "figures.sql"):
        lists = re.findall(r"event_type`? IN \(([^)]*)\)", path.read_text(), re.IGNORECASE)
        found = [set(re.findall(r"'([\w.]+)'", one)) for one in lists]
        assert sorted(found, key=len) == sorted([begins, ends, of_calls], key=len)


def contract() -> dict[str, list[str]]:
    """View -> its columns, from the file that a test compares with the database."""
    return {
        view["name"]: [column["name"] for column in view["columns"]]
        for view in json.loads(VIEWS.read_text())
    }


def columns_of_views(path: Path) -> dict[str, set[str]]:
    text = re.sub(r"--.*", "", path.read_text())
    found = re.findall(r"create view (?:projector|flink)\.(\w+) as\s+select(.*?);", text, re.DOTALL)
    return {view: set(map(_name, _list(query))) for view, query in found}


def columns_of_tables(path: Path) -> dict[str, set[str]]:
    text = re.sub(r"--.*", "", path.read_text())
    tables = re.compile(r"create table (?:flink\.)?(\w+) \((.*?)\n\)", re.DOTALL | re.IGNORECASE)
    columns = r"^    `?(?!constraint|PRIMARY)(\w+)`? +\w"
    return {
        name: set(re.findall(columns, body, re.MULTILINE)) for name, body in tables.findall(text)
    }


def _list(query: str) -> list[str]:
    """What stands between `select` and `from`, at commas outside of brackets."""
    depth, parts = 0, [""]
    for word in re.split(r"(\bfrom\b|[(),])", query):
        if word == "from" and not depth:
            break
        depth += (word == "(") - (word == ")")
        if word == "," and not depth:
            parts.append("")
        else:
            parts[-1] += word
    return parts


def _name(column: str) -> str:
    return column.rsplit(maxsplit=1)[-1].rpartition(".")[2]
