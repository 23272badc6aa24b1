"""A shape by a table alone: what it reads, and what no table may say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from normalizer.config.configured_rules import (
    _MAX_SHAPES_FILE_BYTES,
    configured_normalizer,
    read_shapes,
)
from normalizer.config.settings import Settings
from normalizer.core.decode.shape_table import _ALIASABLE_FIELDS, ShapeTable
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.core.rebuild_record import rebuild_record
from normalizer.envelope import Envelope, to_canonical
from normalizer.errors import ConfigurationError
from tests.support.doc_pages import blocks
from tests.support.merging import as_stored

(_PAGE,) = blocks("adding-a-shape.md", "toml scheduler.toml")
TABLE: Final = ShapeTable.parse(_PAGE.text)
EVENT: Final[Mapping[str, Any]] = {
    "scheduler_id": "s",
    "execution_id": 7,
    "event_type": "call.done",
}


NORMALIZER: Final = Normalizer(shapes=TABLE)


def normalized(normalizer: Normalizer = NORMALIZER, **fields: Any) -> Envelope:
    record = RawRecord(
        value=msgspec.json.encode({**EVENT, **fields}),
        topic="t",
        offset=7,
        recorded_ms=1_784_000_000_000,
    )
    (event,) = normalizer.normalize(record)
    assert isinstance(event, Envelope), event
    again = normalizer.normalize(rebuild_record(event))
    assert [as_stored(event)] == [as_stored(each) for each in again if isinstance(each, Envelope)]
    return event


def table(**shape: Any) -> ShapeTable:
    vectors = [{"raw": "", "gives": ""}]
    return msgspec.convert(
        {"shapes": {"scheduler": {"keys": ["scheduler_id"], "vectors": vectors, **shape}}},
        ShapeTable,
    )


def test_the_table_of_the_page_gives_the_line_of_the_page(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.toml"
    path.write_text(_PAGE.text)
    (record,), (line,) = (
        blocks("adding-a-shape.md", info) for info in ("json record", "json table-event")
    )

    normalizer = configured_normalizer(Settings(shapes=str(path)))
    (event,) = normalizer.normalize(RawRecord(value=record.text.encode()))

    assert isinstance(event, Envelope)
    assert (to_canonical(event).decode(), event.shape) == (line.text.strip(), "scheduler")
    assert normalizer.version.endswith(f"+{TABLE.fingerprint}")


@pytest.mark.parametrize(
    ("fields", "columns"),
    [
        ({"try_number": 3}, {"attempts": 2, "extra": {"scheduler_id": "s", "attempt": 3}}),
        ({"try_number": None, "attempt": 2}, {"attempts": 1}),
        ({"occurred_at": 1_783_674_000}, {"evidence": 2, "extra": {"scheduler_id": "s"}}),
        (
            {"occurred_at": 1_783_674_000, "created_at": None, "timestamp": 1_783_674_000},
            {"extra": {"scheduler_id": "s"}, "coercions": None},
        ),
        (
            {"occurred_at": 1_783_674_000, "timestamp": 1_783_674_001},
            {
                "extra": {"scheduler_id": "s", "occurred_at": 1_783_674_000},
                "coercions": [{"rule": "alias_conflict", "field": "occurred_at"}],
            },
        ),
        ({"context": {"agent": {"id": "a"}, "host": "h"}}, {"worker_id": "a"}),
        ({"context": {"agent": {"id": None}, "host": "h"}}, {"worker_id": "h"}),
        ({"context": {"agent": "x", "host": "h"}}, {"worker_id": "h"}),
        ({"worker_id": "w", "context": {"host": "h"}}, {"worker_id": "w", "coercions": None}),
        (
            {"meta": 5, "try_number": 2},
            {"coercions": [{"rule": "meta_not_object", "field": "meta"}]},
        ),
    ],
    ids=str,
)
def test_aliases_and_places_are_read_where_the_field_has_no_value(
    fields: dict[str, Any], columns: dict[str, Any]
) -> None:
    event = normalized(**fields)

    actual = {
        name: msgspec.json.decode(value)
        if isinstance(value := getattr(event, name), bytes)
        else value
        for name in columns
    }
    assert actual == columns


def test_replaced_text_is_noted_at_the_field_that_it_became() -> None:
    event = normalized(Normalizer(shapes=table(aliases={"label": "step"})), label="a\0b")

    assert event.step == "a\ufffdb"
    assert event.coercions == b'[{"rule":"unstorable_text","field":"step"}]'


def test_an_event_type_may_have_another_name() -> None:
    shapes = table(aliases={"kind": "event_type"})
    value = b'{"scheduler_id":"s","execution_id":7,"kind":"call.done"}'

    (event,) = Normalizer(shapes=shapes).normalize(RawRecord(value=value))

    assert isinstance(event, Envelope)
    assert event.event_type == "call.done"


def test_the_fingerprint_is_of_what_is_read_alone() -> None:
    other_vectors = ShapeTable.parse(_PAGE.text.replace("2026-07-10T09", "2026-07-10T08"))
    other_alias = ShapeTable.parse(_PAGE.text.replace("try_number", "number_of_try"))

    assert TABLE.fingerprint == other_vectors.fingerprint != other_alias.fingerprint
    assert TABLE.named_keys == {"scheduler_id", "occurred_at", "try_number"}
    assert {"created_at", "step", "attempt"} < _ALIASABLE_FIELDS
    assert not {"timestamp", "name", "payload"} & _ALIASABLE_FIELDS


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("[shapes.scheduler]", "[shapes.scheduler", "expected TOML"),
        ('keys = ["scheduler_id"]', "keys = []", "length >= 1 - at $.shapes[...].keys"),
        ('keys = ["scheduler_id"]', "", "missing required field keys"),
        ("[[shapes.scheduler.vectors]]", "[[shapes.scheduler.tests]]", "unknown field tests"),
        ("shapes.scheduler", "shapes.Scheduler", "shapes.Scheduler: expected a new name"),
        ("shapes.scheduler", "shapes.executor", "shapes.executor: expected a new name"),
        (
            '"created_at"',
            '"createdat"',
            "createdat is no field; expected one of attempt catalog_id",
        ),
        ("try_number =", "retry_count =", "aliases: retry_count is read by the rules already"),
        ('"context.host"', '"host"', "expected a path such as agent.id, got host"),
        ('"context.host"', '"context..host"', "expected a path such as agent.id"),
        ('"attempts":1}', '"attempts":2}', "shapes.scheduler.vectors[0]: expected "),
        ('"execution_id":"7",', "", "got      missing_execution_id: "),
        ('{"scheduler_id":"s",', "{", "vectors[0]: its record has another shape"),
        ("raw = '{", "raw = '[] {", "got      invalid_json"),
        ('["scheduler_id"]', '["event_type"]', "its keys also fit a record of another producer"),
    ],
    ids=str,
)
def test_a_table_that_does_not_hold_is_rejected_in_words(
    before: str, after: str, said: str, tmp_path: Path
) -> None:
    assert before in _PAGE.text
    path = tmp_path / "scheduler.toml"
    path.write_text(_PAGE.text.replace(before, after))

    with pytest.raises(ConfigurationError) as raised:
        read_shapes(Settings(shapes=str(path)))

    assert said in str(raised.value)
    assert all(
        line.startswith(f"NORMALIZER_SHAPES: {path}: ") for line in str(raised.value).splitlines()
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        (b"\xff", "expected UTF-8"),
        (b"#" * (_MAX_SHAPES_FILE_BYTES + 1), "expected at most"),
    ],
    ids=["no file", "no text", "too long"],
)
def test_a_file_that_is_no_table_is_rejected_in_words(
    content: bytes | None, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "scheduler.toml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigurationError, match=said):
        read_shapes(Settings(shapes=str(path)))


def test_a_vector_may_be_of_a_record_without_an_event(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.toml"
    path.write_text(_PAGE.text.replace("raw = '{", "raw = '[]' #"))

    with pytest.raises(ConfigurationError, match="got      ignored: a batch of no events"):
        read_shapes(Settings(shapes=str(path)))
