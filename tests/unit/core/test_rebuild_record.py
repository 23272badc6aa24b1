"""A row back to the record that makes it: where the row says more than one event can."""

import json
from typing import Any

import msgspec
import pytest

from normalizer.core.identity.collisions import with_id_after_conflict
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.core.rebuild_record import rebuild_record
from normalizer.envelope import Envelope, Rejected
from normalizer.snowflake import EPOCH_MS, derive_id
from tests.support.merging import merge

RECORDED_MS = 1_784_000_000_000
ASSIGNED = (RECORDED_MS - EPOCH_MS) << 22 | 1023 << 12
normalizer = Normalizer()


def envelopes(value: Any, **changes: Any) -> list[Envelope]:
    raw = value if isinstance(value, bytes) else msgspec.json.encode(value)
    coordinates: dict[str, Any] = {"topic": "t", "offset": 9, "recorded_ms": RECORDED_MS}
    outcomes = normalizer.normalize(RawRecord(value=raw, **coordinates | changes))
    return [outcome for outcome in outcomes if isinstance(outcome, Envelope)]


def envelope(value: dict[str, Any] | None = None, **changes: Any) -> Envelope:
    (event,) = envelopes({"execution_id": 1, "event_type": "x"} | (value or {}), **changes)
    return event


def again(event: Envelope) -> Envelope:
    (rebuilt,) = normalizer.normalize(rebuild_record(event))
    assert isinstance(rebuilt, Envelope)
    return rebuilt


def sent(event: Envelope) -> Any:
    return json.loads(rebuild_record(event).value or b"")


def test_an_id_that_the_store_salted_or_assigned_leaves_the_choice_to_the_store() -> None:
    event = envelope()
    salted = msgspec.structs.replace(
        event, event_id=derive_id("t", 0, 0, 9, 0, RECORDED_MS, salt=1)
    )
    assigned = msgspec.structs.replace(event, event_id=ASSIGNED)

    assert sent(salted)["event_id"] == salted.event_id
    assert "event_id" not in sent(assigned)
    assert again(assigned) == event


def test_an_event_whose_id_was_taken_is_denormalized_under_its_own() -> None:
    event = envelope({"event_id": 5})

    assert again(with_id_after_conflict(event, 3 << 61)) == event


def test_a_text_that_hashes_to_another_id_is_not_this_ids_text() -> None:
    """Rows merged from two reports hold the coercions of both."""
    event = envelope({"catalog_id": "c"})
    merged = msgspec.structs.replace(event, catalog_id=77)

    assert sent(merged)["catalog_id"] == 77


@pytest.mark.parametrize("swap", [False, True])
def test_a_merged_row_is_denormalized_to_what_it_says(swap: bool) -> None:
    """One report wrote COMPLETED over a failure, the other one has the greater context."""
    base = {"event_id": 5, "event_type": "call.done", "step": "s"}
    failed = envelope(
        base | {"status": "COMPLETED", "context": {"status": "error", "duration_ms": 9}}
    )
    other = envelope(base | {"context": {"zzz": 1}, "meta": {"attempts": 2}, "duration": 7.5})
    merged = merge(other, failed) if swap else merge(failed, other)

    rebuilt = again(merged)

    assert rebuilt.status == merged.status == "ERROR"
    assert (rebuilt.attempts, rebuilt.duration) == (merged.attempts, merged.duration)
    assert rebuilt.event_id == merged.event_id


def test_a_merged_row_denormalizes_to_its_own_columns() -> None:
    event = envelope({"meta": {"attempts": 3}, "status": "FAILED"})
    mutated = msgspec.structs.replace(
        event, evidence=122, attempts=9, status="RUNNING", duration=1.5
    )

    record = sent(mutated)

    assert record["status"] == "RUNNING"
    assert record["duration"] == 1.5
    assert record["meta"] == {"attempts": 3}
    assert "duration" not in sent(event)


def test_a_step_read_from_elsewhere_needs_no_name_of_its_own() -> None:
    event = envelope({"step": {}, "node_name": "unknown", "payload": {"step": "s"}})

    assert event.step == "s"
    assert again(event) == event
    assert sent(event)["node_name"] == "unknown"


def test_headers_come_back_as_they_were() -> None:
    headers = (
        ("a", b"1"),
        ("a", None),
        ("b", b"\xff"),
        ("c", b"base64:/w="),
        ("d", b"base64:YQ=="),
    )

    assert rebuild_record(envelope(headers=headers)).headers == headers


def test_times_that_did_not_count_come_back_beside_the_one_that_did() -> None:
    times = {
        "created_at": "soon",
        "timestamp": "2026-07-10T09:00:00Z",
        "event_time": "2026-07-10T09:00:07Z",
    }
    event = envelope(times)

    assert again(event) == event
    assert sent(event).keys() >= times.keys()
    assert sent(event)["created_at"] == "soon"
    assert sent(event)["event_time"] == times["event_time"]


def test_a_stored_row_that_is_rejected_again_keeps_its_shape() -> None:
    record = msgspec.structs.replace(
        rebuild_record(envelope()), value=b'{"execution_id":1,"event_type":7}', shape="worker"
    )

    (rejected,) = normalizer.normalize(record)

    assert isinstance(rejected, Rejected)
    assert rejected.shape == "worker"
