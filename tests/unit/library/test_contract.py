"""contract/: its files are those of the code, and hold what the pages say of them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
import yaml

from normalizer.cli.conformance import CONFORMANCE_LEVELS, read_cases
from normalizer.config.environment import load_settings
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Envelope, to_canonical
from normalizer.errors import REJECTION_REASONS
from tests.contract import FOLDER, contract_files, lines
from tests.vectors.corpus import SINGLE, parse_json, read_vectors

SPECS: Final = Path(__file__).parents[2] / "specs"
SCHEMA: Final[dict[str, Any]] = json.loads((FOLDER / "envelope.schema.json").read_text())
ASYNCAPI: Final[dict[str, Any]] = yaml.safe_load((FOLDER / "asyncapi.yaml").read_text())
RECORDS: Final[list[dict[str, Any]]] = [
    json.loads(line)
    for line in (FOLDER / "vectors/records.ndjson").read_text(encoding="utf-8").split("\n")
    if line
]
LINES: Final = lines()
NORMALIZER: Final = Normalizer()
VALIDATOR: Final = jsonschema.Draft202012Validator(SCHEMA)

IDS: Final = {
    *("event_id", "prev_event_id", "execution_id"),
    *("catalog_id", "parent_event_id", "parent_execution_id"),
}

WHOLE: Final[dict[str, Any]] = {
    "event_id": 5,
    "execution_id": 7,
    "event_type": "call.done",
    "step": "fetch",
    "status": "ERROR",
    "created_at": "2026-07-10T09:00:00.000000Z",
    "context": {},
    "worker_id": "w",
    "meta": {"attempts": 1},
    "command_id": "c",
    "catalog_id": 1,
    "node_type": "http",
    "parent_event_id": 2,
    "parent_execution_id": 3,
    "result": [],
    "error": "HTTP 500",
    "duration": 0.5,
}
MUTATIONS: Final[list[dict[str, Any]]] = [
    {"event_id": 0},
    {"event_id": "5"},
    {"event_id": None},
    {"event_id": 1.5},
    {"execution_id": 2**63},
    {"execution_id": -1},
    {"execution_id": "7"},
    {"execution_id": True},
    {"event_type": ""},
    {"event_type": 5},
    {"step": None},
    {"step": 1},
    {"status": ""},
    {"status": "RUNNING"},
    {"status": "completed"},
    {"created_at": "2026-07-10T09:00:00Z"},
    {"created_at": "2026-07-10 09:00:00.000000Z"},
    {"created_at": "2026-07-10T09:00:00.000000+00:00"},
    {"created_at": 1783674000},
    {"worker_id": 5},
    {"worker_id": ""},
    {"step": "unknown"},
    {"result": None},
    {"meta": None},
    {"meta": {}},
    {"meta": {"attempts": -1}},
    {"meta": {"attempts": "1"}},
    {"meta": {"attempts": 32768}},
    {"command_id": 5},
    {"catalog_id": "1"},
    {"node_type": ""},
    {"parent_event_id": None},
    {"parent_execution_id": 0},
    {"error": {"message": "HTTP 500"}},
    {"error": ""},
    {"duration": -0.5},
    {"duration": "0.5"},
    {"extra": 1},
    {"payload": {}},
]


@pytest.mark.parametrize("name", sorted(contract_files()))
def test_a_generated_file_is_what_the_code_gives(name: str) -> None:
    """Else `python -m tests.contract` says which differ, and with --write writes them."""
    assert (FOLDER / name).read_text(encoding="utf-8") == contract_files()[name]


def test_the_schema_accepts_every_canonical_line() -> None:
    assert [line for line in LINES if not VALIDATOR.is_valid(json.loads(line))] == []
    VALIDATOR.validate(WHOLE)


@pytest.mark.parametrize("change", MUTATIONS, ids=json.dumps)
def test_the_schema_refuses_a_mutation(change: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(WHOLE | change)


def test_the_asyncapi_document_is_one_by_its_own_schema() -> None:
    schema = json.loads((SPECS / "asyncapi-3.0.0.json").read_text())
    validator = jsonschema.Draft7Validator(schema)

    assert [error.message for error in validator.iter_errors(ASYNCAPI)] == []
    assert not validator.is_valid(ASYNCAPI | {"asyncapi": "2.0.0"})
    assert not validator.is_valid(ASYNCAPI | {"operations": {"produce": {"action": "publish"}}})


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    def references(node: object) -> list[str]:
        if isinstance(node, dict):
            inner = [one for value in node.values() for one in references(value)]
            return inner + ([node["$ref"]] if "$ref" in node else [])
        return (
            [one for value in node for one in references(value)] if isinstance(node, list) else []
        )

    found = references(ASYNCAPI)

    assert len(found) > 40
    for reference in found:
        file, _, path = reference.partition("#")
        node: Any = ASYNCAPI if not file else json.loads((FOLDER / file).read_text())
        for key in path.strip("/").split("/") if path else []:
            node = node[key]


def test_the_asyncapi_document_names_our_topic_and_every_reason() -> None:
    rejection = ASYNCAPI["components"]["schemas"]["rejection"]["properties"]["quarantine"]

    assert ASYNCAPI["channels"]["raw"]["address"] in load_settings({}).kafka_topics
    assert rejection["properties"]["reason"]["enum"] == list(REJECTION_REASONS)
    assert ASYNCAPI["info"]["version"] in (FOLDER / "CHANGELOG.md").read_text()
    readme = " ".join((FOLDER / "README.md").read_text().split())
    assert f"The current version is {ASYNCAPI['info']['version']}." in readme


def test_accepted_records_match_a_schema_of_the_raw_topic() -> None:
    shapes = [
        jsonschema.Draft202012Validator(
            {"$ref": f"#/components/schemas/{name}", "components": ASYNCAPI["components"]}
        )
        for name in ASYNCAPI["channels"]["raw"]["messages"]
    ]
    whole = [record for record in RECORDS if record["level"] == "shapes" and _is_plain(record)]

    shapeless = [
        record["id"]
        for record in whole
        if not any(
            shape.is_valid(json.loads(record["raw"].removeprefix("\ufeff"))) for shape in shapes
        )
    ]

    assert len(whole) > 300
    assert shapeless == []


def _is_plain(record: dict[str, Any]) -> bool:
    """Whether a record becomes an event in which nothing was changed or guessed."""
    if record["gives"] == [] or not isinstance(record["gives"][0], str):
        return False
    (event,) = NORMALIZER.normalize(RawRecord(value=record["raw"].encode()))
    return isinstance(event, Envelope) and event.coercions is None


@pytest.mark.parametrize(
    "name",
    ["ids", "times", "attempts", "status_calls", "status_others", "aliases", "payloads", "limits"],
)
def test_most_vectors_of_how_a_field_is_read_are_of_the_level_of_shapes(name: str) -> None:
    """So that a program of that level, and the crate, is tested by them."""
    levels = [record["level"] for record in RECORDS if record["id"].startswith(f"{name}/")]

    assert levels.count("shapes") > len(levels) / 2


def test_every_vector_gives_what_was_derived_by_hand() -> None:
    """But for an id and a time, which only a log gives an event that brings none."""
    by_hand = {
        f"{name}/{vector['id']}": vector["expect"]
        for name in SINGLE
        for vector in read_vectors(name)
        if "expect" in vector
    }
    derived = [record for record in RECORDS if record["id"] in by_hand]

    wrong = [
        (record["id"], expected, record["gives"])
        for record in derived
        for expected in [[one for one in by_hand[record["id"]] if "ignored" not in one]]
        if len(expected) != len(record["gives"]) or not all(map(_says, record["gives"], expected))
    ]

    assert len(derived) > 1_900
    assert wrong == []


def _says(given: str | dict[str, str], expected: dict[str, Any]) -> bool:
    if isinstance(given, dict):
        return given["rejected"] == expected.get("quarantine")
    line = parse_json(given)
    return "quarantine" not in expected and all(
        line[column] == value for column, value in expected.items() if column in line
    )


def test_several_reports_of_an_event_give_one_line() -> None:
    text = (FOLDER / "vectors/producers.ndjson").read_text(encoding="utf-8")
    for group in (json.loads(line) for line in text.split("\n") if line):
        assert len(group["raws"]) == len(group["gives"]) > 1
        if not group["without"]:
            assert len(set(group["gives"])) == 1, group["id"]


def test_a_field_of_a_later_version_is_kept_by_the_rules() -> None:
    normalize = NORMALIZER.normalize
    for line in LINES[::10]:
        (event,) = normalize(RawRecord(value=f'{line[:-1]},"zone":{{"a":1.50}}}}'.encode()))

        assert isinstance(event, Envelope)
        assert to_canonical(event).decode() == line
        assert parse_json(event.extra or b"{}")["zone"] == parse_json('{"a":1.50}')


def test_each_level_contains_the_levels_before_it() -> None:
    sizes = [len(read_cases(level)) for level in CONFORMANCE_LEVELS]

    assert sizes == sorted(set(sizes))
    assert sizes[-1] == len(LINES) + len(RECORDS)


def _ids(value: Any) -> Iterator[tuple[str, Any]]:
    """Name and schema of every id."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in IDS and isinstance(inner, dict):
                yield name, inner
            yield from _ids(inner)


def test_every_id_of_the_schemas_says_that_it_does_not_fit_a_double() -> None:
    schemas = ASYNCAPI["components"]["schemas"]
    named = [*_ids(SCHEMA["properties"]), *_ids(schemas)]

    ids = [
        (name, schemas[one["$ref"].rpartition("/")[2]] if "$ref" in one else one)
        for name, one in named
    ]

    assert len(ids) > 20
    silent = [name for name, one in ids if "doesn't fit a double" not in one.get("description", "")]
    assert silent == []
