"""Undocumented fields are reported once each, up to a limit."""

from collections import Counter
from typing import Any

from normalizer.core.batch import Batch, PartitionBatch
from normalizer.core.drift import (
    MAX_EXAMPLE_CHARS,
    MAX_FINDINGS_PER_SHAPE,
    MAX_INSPECTED_EVENTS_A_SECOND,
    DriftDetector,
)
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from tests.support.factories import TOPIC, raw_event, raw_record
from tests.support.hostile_records import hostile_values
from tests.support.poison_cases import POISON

_normalizer = Normalizer()


def read(*values: Any) -> Batch:
    """The values as records of one partition, normalized."""
    records = [raw_record(offset, value) for offset, value in enumerate(values)]
    return of(records)


def of(records: list[RawRecord]) -> Batch:
    part = PartitionBatch(
        topic=TOPIC,
        incarnation=0,
        partition=0,
        epoch=1,
        from_offset=0,
        next_offset=len(records),
        items=[(record, _normalizer.normalize(record)) for record in records],
    )
    return Batch(parts=(part,))


def test_documented_fields_are_no_drift() -> None:
    drift_detector = DriftDetector()

    seen = drift_detector.inspect_batch(
        read(raw_event(1), raw_event(2, schema_name="x", tenant_id=7, duration=None)), 0.0
    )

    assert seen == Counter()
    assert drift_detector.take_findings() == []


def test_an_unknown_key_and_a_changed_type_are_found_where_they_first_were() -> None:
    drift_detector = DriftDetector()
    mutated = raw_event(1, brand_new={"a": 1}, actionable="yes")

    seen = drift_detector.inspect_batch(read(raw_event(0), mutated, mutated), 0.0)
    found = drift_detector.take_findings()

    assert seen == Counter(
        {("rust_request", "unknown_key"): 2, ("rust_request", "changed_type"): 2}
    )
    assert [(one.kind, one.field, one.type, one.example, one.offset) for one in found] == [
        ("unknown_key", "brand_new", "object", '{"a":1}', 1),
        ("changed_type", "actionable", "text", '"yes"', 1),
    ]
    assert drift_detector.take_findings() == []


def test_a_secret_does_not_become_an_example() -> None:
    drift_detector = DriftDetector(["wombat"])

    drift_detector.inspect_batch(
        read(raw_event(1, wombat_key="hunter2", session_token="hunter2")), 0.0
    )

    assert "hunter2" not in str(drift_detector.take_findings())


def test_no_more_than_a_sample_of_a_second_is_looked_at() -> None:
    drift_detector = DriftDetector()
    batch = read(
        *[raw_event(number, brand_new=1) for number in range(MAX_INSPECTED_EVENTS_A_SECOND + 10)]
    )

    first = drift_detector.inspect_batch(batch, 1.0)
    again = drift_detector.inspect_batch(batch, 1.5)
    later = drift_detector.inspect_batch(batch, 2.0)

    assert first.total() == later.total() == MAX_INSPECTED_EVENTS_A_SECOND
    assert again.total() == 0


def test_made_up_keys_and_long_values_are_bounded() -> None:
    drift_detector = DriftDetector()
    keys = {
        f"key_{number}": "x" * (MAX_EXAMPLE_CHARS + 9)
        for number in range(MAX_FINDINGS_PER_SHAPE * 2)
    }

    drift_detector.inspect_batch(read(raw_event(1) | keys), 0.0)
    found = drift_detector.take_findings()

    assert len(found) == MAX_FINDINGS_PER_SHAPE
    assert {len(one.example) for one in found} == {MAX_EXAMPLE_CHARS}


def test_hostile_records_are_looked_at_and_what_is_found_can_be_stored() -> None:
    drift_detector = DriftDetector()
    records = [raw_record(0, value) for value in hostile_values(7, 2_000)]

    for number, record in enumerate([*records, *(poison.record for poison in POISON)]):
        drift_detector.inspect_batch(of([record]), float(number))
    found = drift_detector.take_findings()

    assert found
    for finding in found:
        text = finding.field + finding.example
        assert "\0" not in text
        assert text.encode()


def test_drift_that_could_not_be_stored_is_returned_again() -> None:
    drift_detector = DriftDetector()
    drift_detector.inspect_batch(read(raw_event(1, brand_new=1)), 0.0)
    found = drift_detector.take_findings()

    drift_detector.put_back(found)

    assert drift_detector.take_findings() == found
