"""Under unchanged rules a stored row that is normalized again stays as it is, or is left alone.

Rows are of one report, of two or of three reports of one event, as the database gives them back.
"""

from functools import reduce

import msgspec
from hypothesis import given, settings, strategies as st

from normalizer.core.identity.collisions import match_strength
from normalizer.core.identity.merge_flags import REPORTED_ELSEWHERE_FLAG
from normalizer.core.normalize import Normalizer
from normalizer.envelope import Envelope
from normalizer.jobs.dry_run.diff import find_changed_fields
from normalizer.jobs.renormalize_row import RewriteFailure, renormalize_row
from tests.property.raw_events import RECORDED_MS, as_json, events
from tests.support.factories import raw_record
from tests.support.merging import as_stored, merge

_normalize = Normalizer().normalize


@st.composite
def stored_rows(draw: st.DrawFn) -> Envelope:
    """A row of one to three reports of one event, with junk in every field."""
    same = {"execution_id": 1001, "event_id": 5, "event_type": "call.done", "name": None}
    reports = []
    for offset, fields in enumerate(draw(st.lists(events(), min_size=1, max_size=3))):
        record = raw_record(offset, value=as_json({**fields, **same}), recorded_ms=RECORDED_MS)
        reports += [one for one in _normalize(record) if isinstance(one, Envelope)]
    if not reports:
        return draw(stored_rows())
    first, *others = reports
    return as_stored(reduce(merge, [one for one in others if match_strength(first, one)], first))


def test_a_row_normalized_again_under_the_same_rules_stays_or_is_left_alone() -> None:
    read: list[Envelope] = []

    @settings(max_examples=20)
    @given(stored_rows())
    def check(row: Envelope) -> None:
        again = renormalize_row(row, _normalize)
        if not isinstance(again, RewriteFailure):
            assert find_changed_fields(row, again) == {}
            read.append(again)

    check()

    assert read


def test_row_with_an_identical_report_in_another_log_is_normalized_again() -> None:
    value = b'{"execution_id":1001,"event_id":5,"event_type":"call.done","status":"COMPLETED"}'
    (row,) = _normalize(raw_record(0, value=value))
    assert isinstance(row, Envelope)
    stored = merge(row, msgspec.structs.replace(row, source_partition=1))

    # As if today's rules gave it another status.
    again = renormalize_row(msgspec.structs.replace(stored, status="RUNNING"), _normalize)

    assert isinstance(again, Envelope)
    assert again.merge_flags == REPORTED_ELSEWHERE_FLAG
