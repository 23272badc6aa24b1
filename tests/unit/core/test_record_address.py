"""The place of a record, as commands, logs and the page write it."""

import pytest
from click.testing import CliRunner

from normalizer.cli.position_commands import position
from normalizer.core.record_address import (
    parse_record_address_or_none,
    parse_topic_partition_or_none,
)


@pytest.mark.parametrize("text", ["noetl.events:3:1042", "noetl.events[3]@1042", " a:3:1042 "])
def test_a_record_is_named_in_either_notation(text: str) -> None:
    place = parse_record_address_or_none(text)

    assert place is not None
    assert place[1:] == (3, 1042)


def test_a_topic_may_contain_what_separates() -> None:
    assert parse_record_address_or_none("a:b:3:1042") == ("a:b", 3, 1042)
    assert parse_record_address_or_none("a[1]@2[3]@1042") == ("a[1]@2", 3, 1042)
    assert parse_topic_partition_or_none("a:1:3") == ("a:1", 3)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a:3",
        "a[3]",
        "a[3]:1042",
        "a:3@1042",
        "a[3@1042",
        ":3:1042",
        "a:3:-1",
        "a:x:1",
        "a:1:\u0664",
    ],
)
def test_anything_else_names_no_record(text: str) -> None:
    assert parse_record_address_or_none(text) is None


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("noetl.events:3", ("noetl.events", 3)),
        ("noetl.events[3]", ("noetl.events", 3)),
        ("a", None),
    ],
)
def test_a_partition_is_named_in_either_notation(text: str, place: tuple[str, int] | None) -> None:
    assert parse_topic_partition_or_none(text) == place


def test_a_command_names_both_notations_where_it_takes_neither() -> None:
    said = CliRunner().invoke(position, ["retire", "noetl.events", "--why", "x"]).output

    assert "TOPIC:PARTITION or TOPIC[PARTITION], for example noetl.events:3" in said
