"""The laws of merging: any order, any batching, any repetition of reports gives one row."""

from functools import reduce
from itertools import permutations
from random import Random
from typing import Any, Final

import msgspec
from hypothesis import given, settings, strategies as st

from normalizer.core.evidence import Evidence, EvidenceRank
from normalizer.core.identity.collisions import match_strength
from normalizer.core.identity.conflicts import CONFLICTING_VALUES_KEY, MAX_KEPT_VALUES
from normalizer.core.identity.merge_flags import CHANGED_AFTER_STORING_FLAG, REPORTED_ELSEWHERE_FLAG
from normalizer.envelope import Envelope, canonical_json
from tests.support.factories import envelope, recorded_at
from tests.support.merging import merge

_WHERE: Final = frozenset(
    {"source_topic", "source_incarnation", "source_partition", "source_offset", "source_index"}
)
_JSON: Final = frozenset({"context", "result", "meta", "extra", "headers"})

words = st.sampled_from(["a", "b", "\u00e9", "\U0001f600", "10", "9"])
small = st.integers(0, 12)
json_values = st.recursive(
    st.none() | st.booleans() | small | st.sampled_from([0.5, 1.0, -2.25]) | words,
    lambda values: st.lists(values, max_size=2) | st.dictionaries(words, values, max_size=2),
    max_leaves=4,
)
json_objects = st.dictionaries(words, json_values, max_size=3)
# A producer's own key of the name we keep losers under, also looking just like ours.
producers_own_values = json_values | st.dictionaries(
    st.sampled_from(
        ["step", "meta.a", "extra.b", "nobody", "more", f"extra.{CONFLICTING_VALUES_KEY}"]
    ),
    st.lists(st.sampled_from(["x", "y", 77]), max_size=2),
    max_size=2,
)


def as_json(value: Any) -> bytes:
    return msgspec.json.encode(value)


RANKS: tuple[EvidenceRank, EvidenceRank, EvidenceRank] = (0, 1, 2)


@st.composite
def report_of_the_event(draw: st.DrawFn, *, distinct_offset: int = 0) -> Envelope:
    """One report of the event: step, command and worker are the same where it has one."""
    attempts = draw(small)
    meta = draw(json_objects) | {"attempts": attempts}
    extra = draw(json_objects)
    if draw(st.integers(0, 3)) == 0:
        extra[CONFLICTING_VALUES_KEY] = draw(producers_own_values)
    created_at = draw(st.none() | st.builds(recorded_at, small))
    ranks: list[EvidenceRank] = [draw(st.sampled_from(RANKS)) for _ in range(3)]
    if created_at is None:
        ranks[2] = 0
    return envelope(
        distinct_offset,
        event_id=77,
        event_type=draw(st.sampled_from(["call.done", "call_done", "action_done"])),
        step=draw(st.sampled_from(["", "fetch"])),
        worker_id=draw(st.sampled_from([None, "w"])),
        command_id=draw(st.sampled_from([None, "1:fetch:2"])),
        status=draw(st.sampled_from(["COMPLETED", "FAILED", "ERROR"])),
        attempts=attempts,
        max_attempts=draw(st.none() | small),
        created_at=created_at,
        duration=draw(st.none() | st.sampled_from([0.018, 2.0, 10.0])),
        error=draw(st.none() | words),
        context=draw(st.none() | json_values.map(as_json)),
        result=draw(st.none() | json_values.map(as_json)),
        meta=as_json(meta),
        extra=as_json(extra) if extra else None,
        coercions=draw(
            st.none()
            | st.lists(st.sampled_from([{"rule": "a"}, {"rule": "b", "from": 1}]), min_size=1).map(
                as_json
            )
        ),
        headers=draw(st.none() | json_objects.map(as_json)),
        trace_id=draw(st.none() | words),
        evidence=Evidence(*ranks).pack(),
        shape=draw(st.sampled_from(["unknown", "executor", "rust_row"])),
        normalizer_version=draw(st.integers(1, 3)),
        recorded_at=draw(st.none() | st.builds(recorded_at, small)),
    )


def said(row: Envelope) -> dict[str, Any]:
    """Return a row's content, JSON by value, without where it was stored first."""
    return {
        name: _value(name, getattr(row, name))
        for name in Envelope.__struct_fields__
        if name not in _WHERE
    }


def _value(name: str, value: Any) -> Any:
    if name == "coercions" and value is not None:
        return {canonical_json(as_json(one)) for one in msgspec.json.decode(value)}
    if name in _JSON and value is not None:
        return canonical_json(value)
    # Both flags depend on which report came first.
    return (
        value & ~(CHANGED_AFTER_STORING_FLAG | REPORTED_ELSEWHERE_FLAG)
        if name == "merge_flags"
        else value
    )


def kept_losers(row: Envelope) -> Any:
    """The value under the key that keeps losers: ours, or a producer's own."""
    return msgspec.json.decode(row.extra or b"{}").get(CONFLICTING_VALUES_KEY)


def losers(row: Envelope) -> dict[str, list[Any]]:
    kept = kept_losers(row)
    return kept if isinstance(kept, dict) else {}


def scalars(value: Any) -> list[Any]:
    """Every word and number in it, at any depth, including keys."""
    match value:
        case dict():
            return [*value, *scalars(list(value.values()))]
        case list():
            return [one for item in value for one in scalars(item)]
        case _:
            return [value]


def two_reports_make_one_row_in_either_order(a: Envelope, b: Envelope) -> None:
    assert said(merge(a, b)) == said(merge(b, a))


@given(report_of_the_event(), report_of_the_event(), report_of_the_event())
def test_three_reports_make_one_row_however_they_are_grouped(
    a: Envelope, b: Envelope, c: Envelope
) -> None:
    assert said(merge(merge(a, b), c)) == said(merge(a, merge(b, c)))


@settings(max_examples=25)
@given(st.lists(report_of_the_event(), min_size=3, max_size=4))
def test_any_order_of_many_reports_makes_one_row(reports: list[Envelope]) -> None:
    rows = [said(reduce(merge, order)) for order in permutations(reports)]

    assert all(row == rows[0] for row in rows)


@st.composite
def varying(draw: st.DrawFn) -> list[Envelope]:
    """More reports than values that a column keeps. Some say the same, or with more evidence."""
    words = st.text("abc", max_size=3)
    return [
        envelope(
            at,
            event_id=77,
            error=draw(words) or None,
            attempts=(attempts := draw(small)),
            evidence=draw(st.sampled_from([12, 112, 212])),
            headers=as_json({"traceparent": draw(words)}),
            meta=as_json({"attempts": attempts, "try": draw(small)}),
        )
        for at in range(draw(st.integers(9, 20)))
    ]


@settings(max_examples=30)
@given(varying(), st.randoms(use_true_random=False), st.data())
def test_conflicting_values_are_bounded_whatever_the_order(
    reports: list[Envelope], order: Random, data: st.DataObject
) -> None:
    row = reduce(merge, reports)
    shuffled = list(reports)
    order.shuffle(shuffled)
    cut = data.draw(st.integers(1, len(reports) - 1))
    parts = reduce(merge, shuffled[:cut]), reduce(merge, shuffled[cut:])

    assert said(reduce(merge, shuffled)) == said(row)
    assert said(merge(*parts)) == said(row)
    assert all(merge(row, report) is row for report in reports)
    kept = losers(row)
    more = kept.pop("more", [])
    assert all(len(values) <= MAX_KEPT_VALUES for values in kept.values())
    for name in ("error", "headers.traceparent"):
        values = {
            value
            for one in reports
            if (
                value := one.error
                if name == "error"
                else msgspec.json.decode(one.headers or b"")["traceparent"]
            )
            is not None
        }
        assert (name in more) == (len(values) > MAX_KEPT_VALUES)


@given(report_of_the_event())
def test_a_report_reported_again_changes_nothing(a: Envelope) -> None:
    assert merge(a, a) is a
    assert merge(a, msgspec.structs.replace(a, source_offset=9)) is a


def a_row_takes_none_of_its_reports_twice(a: Envelope, b: Envelope) -> None:
    row = merge(a, b)

    assert merge(row, a) is row
    assert merge(row, b) is row
    assert merge(row, row) is row


def what_the_database_hands_back_is_the_row_it_was_given(a: Envelope, b: Envelope) -> None:
    row = merge(a, b)
    stored = msgspec.structs.replace(
        row,
        **{
            name: b" " + canonical_json(value).replace(b":", b": ")
            for name in (*_JSON, "coercions")
            if (value := getattr(row, name)) is not None and b'":' not in value[1:-1]
        },
    )

    assert merge(stored, a) is stored
    assert merge(stored, b) is stored


def the_row_stays_where_it_was_stored_first(a: Envelope, b: Envelope) -> None:
    b = msgspec.structs.replace(
        b,
        source_topic="other",
        source_incarnation=2,
        source_partition=3,
        source_offset=4,
        source_index=5,
        event_id=78,
    )

    row = merge(a, b)

    assert all(getattr(row, name) == getattr(a, name) for name in (*_WHERE, "event_id"))


def meta_says_the_attempts_of_the_column(a: Envelope, b: Envelope) -> None:
    row = merge(a, b)

    assert msgspec.json.decode(row.meta)["attempts"] == row.attempts


def evidence_is_the_better_of_both_digit_by_digit(a: Envelope, b: Envelope) -> None:
    assert [int(digit) for digit in f"{merge(a, b).evidence:03}"] == [
        max(int(mine), int(theirs))
        for mine, theirs in zip(f"{a.evidence:03}", f"{b.evidence:03}", strict=True)
    ]


def a_value_of_more_evidence_is_never_overruled(a: Envelope, b: Envelope) -> None:
    row = merge(a, b)

    for column in ("attempts", "status"):
        ranks = [getattr(Evidence.unpack(report.evidence), column) for report in (a, b)]
        if ranks[0] != ranks[1]:
            better = a if ranks[0] > ranks[1] else b
            assert getattr(row, column) == getattr(better, column)


def every_value_that_lost_is_kept_and_none_that_won(a: Envelope, b: Envelope) -> None:
    row = merge(a, b)
    kept = losers(row)

    for name in ("max_attempts", "duration", "error", "trace_id", "event_type"):
        values = {getattr(report, name) for report in (a, b)} - {None}
        if len(values) == 2:
            assert list(values - {getattr(row, name)}) == kept[name]
        else:
            assert name not in kept
    for name in ("context", "result"):
        payloads = {canonical_json(value) for t in (a, b) if (value := getattr(t, name))}
        lost = payloads - {canonical_json(getattr(row, name) or b"null"), b"null"}
        assert {canonical_json(as_json(value)) for value in kept.get(name, [])} == lost


def no_key_of_meta_headers_or_extra_is_lost(a: Envelope, b: Envelope) -> None:
    row = merge(a, b)

    for name in ("meta", "headers", "extra"):
        decoded = [msgspec.json.decode(getattr(t, name) or b"{}") for t in (a, b)]
        kept = msgspec.json.decode(getattr(row, name) or b"{}")
        for key in {*decoded[0], *decoded[1]} - {CONFLICTING_VALUES_KEY, "attempts"}:
            values = [one[key] for one in decoded if one.get(key) is not None]
            assert kept[key] in (values or [None])
            lost = [value for value in values if as_json(value) != as_json(kept[key])]
            assert all(value in losers(row)[f"{name}.{key}"] for value in lost)


def a_producers_own_conflicting_values_is_never_lost(a: Envelope, b: Envelope) -> None:
    row = merge(a, b)

    for report in (a, b):
        own = msgspec.json.decode(report.extra or b"{}")
        if CONFLICTING_VALUES_KEY in own:
            assert all(
                one in scalars(kept_losers(row)) for one in scalars(own[CONFLICTING_VALUES_KEY])
            )


def reports_of_one_event_agree_that_they_are(a: Envelope, b: Envelope) -> None:
    assert match_strength(a, b)
    assert match_strength(b, a)
    assert match_strength(merge(a, b), a)
    assert match_strength(merge(a, b), b)


_LAWS: Final = (
    two_reports_make_one_row_in_either_order,
    a_row_takes_none_of_its_reports_twice,
    what_the_database_hands_back_is_the_row_it_was_given,
    the_row_stays_where_it_was_stored_first,
    meta_says_the_attempts_of_the_column,
    evidence_is_the_better_of_both_digit_by_digit,
    a_value_of_more_evidence_is_never_overruled,
    every_value_that_lost_is_kept_and_none_that_won,
    no_key_of_meta_headers_or_extra_is_lost,
    a_producers_own_conflicting_values_is_never_lost,
    reports_of_one_event_agree_that_they_are,
)


@settings(max_examples=60)
@given(report_of_the_event(), report_of_the_event())
def test_every_law_of_two_reports_holds(a: Envelope, b: Envelope) -> None:
    for law in _LAWS:
        law(a, b)
