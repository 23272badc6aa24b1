"""Which reports are of one event, and which ids events get whose own another one holds."""

import hashlib
import struct
from typing import Any

import msgspec
import pytest

from normalizer.core.identity.collisions import (
    match_strength,
    substitute_ids,
    with_id_after_conflict,
)
from normalizer.core.identity.merge_flags import SHARES_ID_FLAG
from tests.support.factories import envelope
from tests.support.merging import merge


@pytest.mark.parametrize(
    ("column", "other"),
    [
        ("execution_id", 1001),
        ("event_type", "call.error"),
        ("event_type", "step.exit"),
        ("command_id", "1:a:3"),
    ],
)
def test_reports_that_differ_are_two_events(column: str, other: Any) -> None:
    named = envelope(command_id="1:a:2")
    differing = msgspec.structs.replace(named, **{column: other})

    assert match_strength(named, differing) == match_strength(differing, named) == 0


def test_a_row_is_found_by_a_step_that_another_report_of_it_overruled() -> None:
    row = merge(envelope(step="a", command_id="x"), envelope(step="b", command_id="x"))

    assert row.step == "b"
    assert match_strength(row, envelope(step="a")) == 2
    assert match_strength(row, envelope(step="c")) == 0


@pytest.mark.parametrize("own", [b'"conflicting_values"', b'{"conflicting_values":1}'])
def test_a_producers_own_value_of_that_name_names_no_step(own: bytes) -> None:
    row = envelope(step="a", extra=b'{"mine":%b,"conflicting_values":[]}' % own)

    assert match_strength(row, envelope(step="b")) == 0


def test_the_ids_of_siblings_never_change_between_versions() -> None:
    digest = hashlib.blake2b(struct.pack(">Qqq", 5, -6, 2), digest_size=8).digest()

    assert substitute_ids(5, -6)[1] == 3 << 61 | int.from_bytes(digest, "big") & (1 << 61) - 1


def test_siblings_of_other_ids_and_executions_have_other_ids() -> None:
    ids = [*substitute_ids(5, 1), *substitute_ids(5, 2), *substitute_ids(6, 1)]

    assert len(set(ids)) == 24
    assert {one >> 61 for one in ids} == {0b11}


@pytest.mark.parametrize("coercions", [None, b"[]", b'[{"rule":"bom_stripped"}]'])
def test_a_rekeyed_event_says_which_id_it_brought(coercions: bytes | None) -> None:
    event = envelope(event_id=5, coercions=coercions)

    moved = with_id_after_conflict(event, 99)

    assert moved.event_id == 99
    assert msgspec.json.decode(moved.coercions or b"") == [
        {"field": "event_id", "from": 5, "rule": "event_id_conflict"},
        *msgspec.json.decode(coercions or b"[]"),
    ]
    assert moved.merge_flags == SHARES_ID_FLAG
