"""Merging reports of one event: for each column, which value wins and which are kept."""

from functools import reduce
from hashlib import sha256
from typing import Any

import msgspec
import pytest

from normalizer.core.identity.conflicts import MAX_KEPT_BYTES, MAX_KEPT_VALUES, losing_values
from normalizer.core.identity.merge_flags import (
    CHANGED_AFTER_STORING_FLAG,
    HAS_RIVAL_FLAG,
    REPORT_WITHOUT_COMMAND_FLAG,
    REPORT_WITHOUT_STEP_FLAG,
    REPORTED_ELSEWHERE_FLAG,
)
from normalizer.core.rules.event_types import CALL_EVENT_CLASSES
from normalizer.envelope import Envelope
from tests.support.event_kinds import EVENT_KINDS
from tests.support.factories import envelope, recorded_at
from tests.support.merging import merge


def both_ways(a: Envelope, b: Envelope, column: str) -> Any:
    """The column's value in the row of both reports, which must not depend on their order."""
    first, second = (getattr(merge(*pair), column) for pair in ((a, b), (b, a)))
    assert first == second or msgspec.json.decode(first) == msgspec.json.decode(second)
    return first


def kept(row: Envelope) -> Any:
    """The values that lost."""
    return msgspec.json.decode(row.extra or b"{}").get("conflicting_values")


@pytest.mark.parametrize(
    ("column", "digit", "weak", "strong"),
    [("attempts", 100, 9, 2), ("status", 10, "FAILED", "COMPLETED")],
)
@pytest.mark.parametrize(("lower", "higher"), [(0, 1), (1, 2), (0, 2)])
def test_more_evidence_wins_whatever_the_value(
    column: str, digit: int, weak: Any, strong: Any, lower: int, higher: int
) -> None:
    a = envelope(evidence=lower * digit, **{column: weak})
    b = envelope(evidence=higher * digit, **{column: strong})

    assert both_ways(a, b, column) == strong
    assert both_ways(a, b, "evidence") == higher * digit


def test_between_equals_the_greater_by_bytes_stays() -> None:
    assert both_ways(envelope(attempts=9), envelope(attempts=10), "attempts") == 9
    assert both_ways(envelope(error="b"), envelope(error="ab"), "error") == "b"


def test_between_equal_json_the_greater_hash_stays_and_the_other_is_kept_as_it_came() -> None:
    a, b = envelope(context=b'[2, "\\u0041"]'), envelope(context=b"[10]")
    texts = {b'[2, "\\u0041"]': b'[2, "A"]', b"[10]": b"[10]"}
    loser, winner = sorted(texts, key=lambda one: sha256(texts[one]).digest())

    assert both_ways(a, b, "context") == winner
    assert b'"conflicting_values":{"context":[%b]}' % loser in (merge(a, b).extra or b"")


def test_a_time_of_the_producer_beats_the_ids_and_the_ids_beats_the_logs() -> None:
    log = envelope(evidence=0, created_at=recorded_at(9))
    identified = envelope(evidence=1, created_at=recorded_at(5))
    producer = envelope(evidence=2, created_at=recorded_at(1))

    assert both_ways(log, identified, "created_at") == recorded_at(5)
    assert both_ways(identified, producer, "created_at") == recorded_at(1)
    assert kept(merge(merge(log, identified), producer)) is None


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("step", "fetch"),
        ("max_attempts", 3),
        ("worker_id", "w"),
        ("command_id", "1:a:2"),
        ("iteration", 0),
        ("node_type", "task"),
        ("catalog_id", 5),
        ("parent_event_id", 6),
        ("parent_execution_id", 7),
        ("duration", 0.0),
        ("error", "boom"),
        ("context", b"false"),
        ("result", b"0"),
        ("headers", b'{"a":"b"}'),
        ("extra", b'{"a":1}'),
        ("trace_id", "t"),
        ("coercions", b'[{"rule":"bom_stripped"}]'),
        ("recorded_at", recorded_at()),
    ],
)
def test_present_beats_absent(column: str, value: Any) -> None:
    absent = "" if column == "step" else None
    a, b = envelope(**{column: value}), envelope(**{column: absent})

    assert both_ways(a, b, column) == value
    assert kept(merge(a, b)) is None


@pytest.mark.parametrize("column", ["context", "result"])
def test_a_json_null_is_as_good_as_absent(column: str) -> None:
    a, b = envelope(**{column: b'"x"'}), envelope(**{column: b"null"})

    assert both_ways(a, b, column) == b'"x"'
    assert kept(merge(a, b)) is None
    assert both_ways(b, envelope(), column) == b"null"


@pytest.mark.parametrize("column", ["meta", "extra", "headers"])
def test_objects_are_merged_key_by_key_and_a_null_hides_nothing(column: str) -> None:
    a = envelope(**{column: b'{"both":1,"mine":2,"silent":null,"differ":"a","attempts":0}'})
    b = envelope(**{column: b'{"both":1,"yours":3,"silent":7,"differ":"b","attempts":0}'})

    row = msgspec.json.decode(both_ways(a, b, column))
    row.pop("conflicting_values", None)

    assert row == {"both": 1, "mine": 2, "yours": 3, "silent": 7, "differ": "b", "attempts": 0}
    assert kept(merge(a, b)) == {f"{column}.differ": ["a"]}


def test_json_is_compared_by_value_and_not_by_spelling() -> None:
    stored = envelope(context=b'{"a": 1, "b": "\xc3\xa9"}', meta=b'{"x": 1e2, "attempts": 0}')
    report = envelope(context=b'{"b":"\\u00e9","a":1}', meta=b'{"attempts":0,"x":100}')

    assert merge(stored, report) is stored


def test_a_shape_that_is_known_beats_unknown_and_the_older_rules_are_named() -> None:
    a = envelope(shape="unknown", normalizer_version=3)
    b = envelope(shape="executor", normalizer_version=2)

    assert both_ways(a, b, "shape") == "executor"
    assert both_ways(a, b, "normalizer_version") == 2
    assert both_ways(a, msgspec.structs.replace(b, shape="worker"), "shape") == "worker"


def test_the_earlier_time_of_the_log_stays() -> None:
    a, b = envelope(recorded_at=recorded_at(1)), envelope(recorded_at=recorded_at(2))

    assert both_ways(a, b, "recorded_at") == recorded_at(1)


@pytest.mark.parametrize("own", [b'"x"', b"[1]", b'{"context":1}', b'{"context":"x"}'])
def test_a_producers_own_conflicting_values_are_not_kept_values(own: bytes) -> None:
    assert losing_values(envelope(extra=b'{"conflicting_values":%b}' % own)) == []


def test_kept_values_of_a_merge_are_under_their_column() -> None:
    a, b = envelope(1, result=b'{"a":1}', step="s"), envelope(2, result=b'{"a":2}', step="s")

    kept = losing_values(merge(a, b))

    assert kept in ([("result", b'{"a":1}')], [("result", b'{"a":2}')])


def test_a_value_of_our_own_form_that_lost_is_not_taken_for_what_was_kept() -> None:
    a = envelope(extra=b'{"conflicting_values":{"extra.conflicting_values":[{"step":["x"]}]}}')

    assert merge(a, a) is a
    assert merge(a, envelope()) is a


def test_of_many_values_the_shortest_are_kept_and_that_there_were_more() -> None:
    row = envelope(error="e")
    for length in range(20, 0, -1):
        row = merge(row, envelope(error="d" * length, trace_id="t"))

    assert row.error == "e"
    assert kept(row) == {
        "error": ["d" * length for length in range(1, MAX_KEPT_VALUES)],
        "more": ["error"],
    }
    assert merge(row, envelope(error="d" * 20)) is row


def test_a_producers_own_more_is_a_value_like_any_other() -> None:
    a = envelope(extra=b'{"conflicting_values":{"more":[1]}}')

    assert merge(a, a) is a


def test_the_name_of_what_is_kept_may_stand_in_any_value_or_be_spelt_with_escapes() -> None:
    named = envelope(extra=b'{"mine":"conflicting_values"}')
    spelt = envelope(error="a", extra=b'{"conflicting_value\\u0073":{"error":["b"]}}')

    assert merge(named, named) is named
    assert kept(merge(named, envelope(error="a"))) is None
    assert kept(merge(spelt, envelope(error="c"))) == {"error": ["a", "b"]}


def test_of_large_values_that_lost_no_more_bytes_are_kept_than_one_row_can_bear() -> None:
    values = [b'["%b%d"]' % (b"v" * (MAX_KEPT_BYTES // 3), number) for number in range(4)]
    rows = [
        reduce(merge, [envelope(context=one) for one in order]) for order in (values, values[::-1])
    ]

    assert kept(rows[0]) == kept(rows[1])
    assert len(kept(rows[0])["context"]) < 3
    assert kept(rows[0])["more"] == ["context"]
    assert rows[0].context == rows[1].context


def test_a_row_remembers_what_its_reports_did_not_name() -> None:
    full = envelope(step="a", command_id="x")

    assert (
        merge(full, envelope(step="")).merge_flags
        == REPORT_WITHOUT_STEP_FLAG | REPORT_WITHOUT_COMMAND_FLAG | CHANGED_AFTER_STORING_FLAG
    )
    assert (
        merge(full, envelope(step="a")).merge_flags
        == REPORT_WITHOUT_COMMAND_FLAG | CHANGED_AFTER_STORING_FLAG
    )
    assert (
        merge(envelope(step=""), full).merge_flags
        == REPORT_WITHOUT_STEP_FLAG | REPORT_WITHOUT_COMMAND_FLAG | CHANGED_AFTER_STORING_FLAG
    )
    assert merge(envelope(step=""), envelope(step="")).merge_flags == 0
    assert (
        merge(full, envelope(step="a", command_id="x", error="e")).merge_flags
        == CHANGED_AFTER_STORING_FLAG
    )
    assert merge(full, full).merge_flags == 0


def test_a_row_of_two_steps_says_so_and_is_ambiguous_where_a_report_lacks_its_command() -> None:
    both = merge(envelope(step="a", command_id="x"), envelope(step="b", command_id="x"))
    silent = both_ways(both, envelope(step="a"), "coercions")

    assert both.merge_flags == HAS_RIVAL_FLAG | CHANGED_AFTER_STORING_FLAG
    assert both.coercions is None
    assert msgspec.json.decode(silent) == [{"rule": "ambiguous_report", "field": "event_id"}]


def test_a_value_that_says_ambiguous_report_marks_no_row() -> None:
    said = b'[{"rule":"opaque_id","field":"event_id","from":"ambiguous_report"}]'
    row = merge(
        envelope(step="a", command_id="x", coercions=said), envelope(step="b", command_id="x")
    )

    silent = merge(row, envelope(step="a"))

    assert [one["rule"] for one in msgspec.json.decode(silent.coercions or b"")] == [
        "ambiguous_report",
        "opaque_id",
    ]


def test_a_value_that_lost_and_wins_in_the_end_is_not_kept() -> None:
    weak = envelope(evidence=12, attempts=3)
    strong = envelope(evidence=112, attempts=1)
    declared = envelope(evidence=212, attempts=1)
    other = envelope(evidence=212, attempts=0)

    row = merge(merge(strong, other), declared)

    assert row.attempts == 1
    assert kept(row) == {"attempts": [0]}
    assert kept(merge(weak, declared)) is None


def test_a_value_that_won_is_not_kept_as_one_that_lost() -> None:
    imported = envelope(step="fetch", extra=b'{"conflicting_values":{"step":["fetch"]}}')
    report = envelope(step="fetch", worker_id="worker-1")

    assert kept(merge(imported, report)) is None


def test_report_in_another_log_is_flagged_in_either_order() -> None:
    here, there = envelope(5), msgspec.structs.replace(envelope(7), source_partition=1)

    assert merge(here, there).merge_flags & REPORTED_ELSEWHERE_FLAG
    assert merge(there, here).merge_flags & REPORTED_ELSEWHERE_FLAG


def test_report_before_the_row_in_its_log_is_flagged() -> None:
    earlier, later = envelope(5), envelope(7)

    assert merge(later, earlier).merge_flags & REPORTED_ELSEWHERE_FLAG
    assert not merge(earlier, later).merge_flags & REPORTED_ELSEWHERE_FLAG


def test_identical_report_elsewhere_changes_only_that_flag() -> None:
    here, there = envelope(5), msgspec.structs.replace(envelope(5), source_partition=1)

    assert merge(here, there) == msgspec.structs.replace(here, merge_flags=REPORTED_ELSEWHERE_FLAG)


@pytest.mark.parametrize("event_type", ["playbook.completed", "step.enter", "command.heartbeat"])
def test_report_of_an_event_outside_calls_is_not_flagged(event_type: str) -> None:
    here = envelope(5, event_type=event_type)

    assert merge(here, msgspec.structs.replace(here, source_partition=1)) is here


def test_flagged_classes_are_those_with_a_role_in_calls() -> None:
    assert {
        kind.event_class for kind in EVENT_KINDS if kind.subject == "call"
    } == CALL_EVENT_CLASSES


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"recorded_at": None, "source_topic": "file"}, {}),
        ({"recorded_at": None, "source_offset": 7}, {"source_offset": 5}),
        ({"source_offset": 7}, {"source_offset": 5}),
    ],
    ids=["file before its topic", "no record time", "redriven after the other"],
)
def test_flag_depends_on_the_order_in_known_cases(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    a, b = (msgspec.structs.replace(envelope(5), **fields) for fields in (first, second))

    flags = [merge(*pair).merge_flags & REPORTED_ELSEWHERE_FLAG for pair in ((a, b), (b, a))]

    assert sorted(flags) == [0, REPORTED_ELSEWHERE_FLAG]
