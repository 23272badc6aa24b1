"""The vectors: what the spec says of each record, and every line and row in full."""

import itertools
from typing import Any

import msgspec
import pytest

from normalizer.core.identity.collisions import match_strength, substitute_ids
from normalizer.envelope import Envelope, to_canonical
from normalizer.snowflake import decode_id, derive_id, hash_text_id
from tests.support.merging import merge
from tests.vectors.corpus import (
    FOLDER,
    SINGLE,
    WITH_ROWS,
    contract_members,
    joined,
    outcomes,
    parse_json,
    read_vectors,
    row_text,
    rows_today,
    stored_rows,
    vector_reports,
)
from tests.vectors.expect import REGIONS, differences, outcome_differences

SHOWN = 40
"""How many differences of a file to print. The rest is counted."""


def _shown(found: list[str]) -> str:
    more = len(found) - SHOWN
    return "\n".join(found[:SHOWN]) + (f"\n... and {more} more" if more > 0 else "")


@pytest.mark.parametrize("name", SINGLE)
def test_a_record_becomes_what_its_vector_says(name: str) -> None:
    found = [
        f"{vector['id']} ({vector['about']}): {difference}"
        for vector in read_vectors(name)
        if "expect" in vector
        for difference in differences(vector["expect"], outcomes(vector))
    ]

    assert not found, _shown(found)


@pytest.mark.parametrize("name", SINGLE)
def test_a_record_that_must_be_looked_into_becomes_the_same(name: str) -> None:
    """An escape in a key is reason to take a record apart, and says nothing else."""
    found = []
    for vector in read_vectors(name):
        raw = vector.get("raw") or ""
        escaped = raw.replace('"execution_id"', r'"\u0065xecution_id"', 1)
        if escaped == raw:
            continue
        plain, looked_into = (_vector_outcomes(vector | {"raw": text}) for text in (raw, escaped))
        if plain != looked_into:
            found.append(f"{vector['id']}:\n  {plain}\n  {looked_into}")

    assert not found, _shown(found)


def _vector_outcomes(vector: dict[str, Any]) -> list[str]:
    """Return the outcomes of a record, without the detail of a rejection, which counts bytes."""
    return [
        row_text(outcome)
        if isinstance(outcome, Envelope)
        else str(msgspec.structs.astuple(outcome)[:1])
        for outcome in outcomes(vector)
    ]


def test_one_event_reported_by_many_shapes_has_the_same_bytes() -> None:
    found = []
    for vector in read_vectors("groups"):
        lines = {_kept(raw, vector["without"]) for raw in vector["raws"]}
        if len(lines) > 1:
            found.append(f"{vector['id']} ({vector['about']}):\n  " + "\n  ".join(sorted(lines)))

    assert not found, _shown(found)


def _kept(raw: str, drop: list[str]) -> str:
    """Return the canonical line without these fields, and with only the attempts of a meta."""
    (event,) = outcomes({"raw": raw})
    assert isinstance(event, Envelope), f"{raw}: {event}"
    line = to_canonical(event).decode()
    if not drop:
        return line
    members = {key: value for key, value in parse_json(line).items() if key not in drop}
    return str(members | {"meta": event.attempts})


def test_reports_of_one_event_make_one_row_in_every_order() -> None:
    found = []
    for vector in read_vectors("joins"):
        if "two_events" not in vector["expect"]:
            found += [f"{vector['id']}: {text}" for text in _join_differences(vector)]

    assert not found, _shown(found)


def _join_differences(vector: dict[str, Any]) -> list[str]:
    events = vector_reports(vector)
    found = [
        f"not one event: {a.event_type}, {b.event_type}"
        for a, b in itertools.permutations(events, 2)
        if not match_strength(a, b)
    ]
    rows = set()
    for order in itertools.permutations(events):
        row = joined(list(order))
        found += list(outcome_differences(vector["expect"], row))
        rows.add(_without_place(row))
        if _without_place(merge(row, order[0])) != _without_place(row):
            found.append("a report that was merged already changes the row")
    return found + ([f"{len(rows)} rows: {rows}"] if len(rows) > 1 else [])


def _without_place(row: Envelope) -> str:
    """The row without the coordinates, which stay those of the first report."""
    return str({k: v for k, v in parse_json(row_text(row)).items() if not k.startswith("source_")})


def test_two_events_with_one_id_are_kept_apart() -> None:
    found = []
    for vector in read_vectors("joins"):
        if "two_events" not in vector["expect"]:
            continue
        events = vector_reports(vector)
        assert events[0].event_id is not None
        ids = substitute_ids(events[0].event_id, events[1].execution_id)
        if any(match_strength(a, b) for a, b in itertools.permutations(events, 2)):
            found.append(f"{vector['id']} ({vector['about']})")
        if len(set(ids)) < len(ids):
            found.append(f"{vector['id']}: the ids given instead meet: {ids}")
        if {number >> 61 for number in ids} != {REGIONS["hashed"]}:
            found.append(f"{vector['id']}: bits 62 and 61 are not set: {ids}")

    assert not found, _shown(found)


def test_an_id_is_the_number_of_the_formula_and_holds_its_time() -> None:
    for vector in read_vectors("derived"):
        if "derive" in vector:
            assert derive_id(*vector["derive"]) == vector["event_id"], vector["id"]
        elif "decode" in vector:
            decoded = decode_id(vector["decode"], vector["near_ms"])
            assert (decoded and decoded.time_ms) == vector["time_ms"], vector["id"]
        else:
            assert hash_text_id(vector["text"]) == vector["execution_id"], vector["id"]


@pytest.mark.parametrize("name", WITH_ROWS)
def test_every_row_is_as_it_was_frozen(name: str) -> None:
    pairs = zip(stored_rows(name), rows_today(name), strict=True)
    found = [f"frozen {then}\n today {today}" for then, today in pairs if then != today]

    assert not found, _shown(found)


def test_every_file_and_every_record_of_the_contract_is_read() -> None:
    files = {path.stem for path in FOLDER.glob("*.ndjson")}
    topics = {parse_json(members["id"]).partition("/")[0] for members in contract_members()}

    assert files | topics == set(WITH_ROWS) - {"groups"}


def test_every_vector_has_an_id_of_its_own() -> None:
    for name in (*WITH_ROWS, "derived"):
        ids = [vector["id"] for vector in read_vectors(name)]

        assert len(set(ids)) == len(ids) > 0, name
