"""When the native lane reads records, what it leaves to Python, and when it's turned off."""

import asyncio
from collections.abc import Sequence
from functools import partial
from itertools import accumulate, islice
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from normalizer.config.settings import Settings
from normalizer.core.batch import RecordWithOutcomes
from normalizer.core.encoded_events import (
    MAX_LANE_CALL_BYTES,
    MAX_LANE_CALL_RECORDS,
    EncodedEvent,
    NativeLane,
    to_envelope,
)
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Ignored, Normalized, Rejected
from normalizer.runtime.native_lane import GuardedLane, open_native_lane, why_python_only
from normalizer.runtime.slices import normalize_in_slices
from simulator.mix import Mix
from simulator.topic_records import records
from tests.support.factories import TOPIC, raw_record
from tests.support.python_lane import LEFT_EVERY, PythonLane, install, uninstall

SETTINGS = Settings()


def test_lane_reads_where_it_was_built_from_these_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)

    with capture_logs() as lines:
        lane = open_native_lane(SETTINGS)

    assert lane
    assert lane.is_on()
    assert [(line["event"], line["core"]) for line in lines] == [("core.chosen", "native")]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"core": "python"}, "NORMALIZER_CORE is python"),
        ({"shapes": "shapes.toml"}, "NORMALIZER_SHAPES adds shapes, which only Python knows"),
    ],
    ids=str,
)
def test_python_reads_alone_under_settings_that_the_lane_does_not_know(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], why: str
) -> None:
    install(monkeypatch)

    with capture_logs() as lines:
        lane = open_native_lane(msgspec.structs.replace(SETTINGS, **fields))

    assert lane is None
    assert [(line["core"], line["why"]) for line in lines] == [("python", why)]


def test_lane_of_other_rules_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, rules="0" * 64)

    assert open_native_lane(SETTINGS) is None
    assert "was built from other rules" in why_python_only(SETTINGS)


def test_python_reads_alone_where_no_lane_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    uninstall(monkeypatch)

    assert open_native_lane(SETTINGS) is None
    assert why_python_only(SETTINGS) == "event_normalizer_native isn't installed"


def test_lane_is_off_after_the_third_panic_and_python_reads_on() -> None:
    lane = GuardedLane(made := PythonLane(EncodedEvent, panics_at=[b"bomb"]))
    bombs = [raw_record(at, {"name": "bomb", "execution_id": 1}) for at in (1, 2, 3)]
    fine = raw_record(8)

    with capture_logs() as lines:
        outcomes = [lane.read([bomb]) for bomb in bombs[:2]]
        assert lane.is_on()
        assert lane.read([fine])[0] is not None
        outcomes += [lane.read([bombs[2]]), lane.read([fine])]

    assert not lane.is_on()
    assert lane.panics == 3
    assert outcomes == [[None]] * 4
    assert len(made.call_records) == 4
    assert [line["records"] for line in lines] == [
        f"{one.coordinates_text} to {one.coordinates_text}" for one in bombs
    ]
    assert [line["panics"] for line in lines] == [1, 2, 3]


def test_records_that_panicked_are_left_when_they_are_read_again() -> None:
    """A batch without room drops the rest of a call, so the next call begins inside that one."""
    lane = GuardedLane(made := PythonLane(EncodedEvent, panics_at=[b"bomb"]))
    read = [raw_record(at) for at in range(1, 9)]
    read[5] = raw_record(6, {"name": "bomb", "execution_id": 1})

    outcomes = [lane.read(read[first:]) for first in (0, 0, 2, 4)]

    assert outcomes == [[None] * 8, [None] * 8, [None] * 6, [None] * 4]
    assert (lane.panics, len(made.call_records)) == (1, 1)
    assert lane.read([raw_record(9)])[0] is not None


def test_records_keep_their_order_and_outcomes_whichever_core_reads_them() -> None:
    read = [
        RawRecord(one.value, TOPIC, 0, 0, at, one.key, tuple(one.headers), one.timestamp_ms)
        for at, one in enumerate(islice(records(Mix(), 3), 1_500))
    ]
    lane = PythonLane(EncodedEvent)

    by_python = asyncio.run(_items(read, None))
    by_both = asyncio.run(_items(read, lane))

    assert [record for record, _ in by_both] == read
    assert [tuple(map(_decoded, outcomes)) for _, outcomes in by_both] == [
        outcomes for _, outcomes in by_python
    ]
    assert lane.read_natively > len(read) / 2


def test_call_of_the_lane_ends_at_its_bytes_or_its_records() -> None:
    value = b'{"name":"n","execution_id":1,"context":"%b"}'
    sizes = [
        100_000,
        *[20_000] * 7,
        MAX_LANE_CALL_BYTES - 200,
        10,
        100_000,
        *[0] * (MAX_LANE_CALL_RECORDS + 1),
    ]
    read = [raw_record(at, value % (b"x" * size)) for at, size in enumerate(sizes)]
    lane = PythonLane(EncodedEvent)

    asyncio.run(_items(read, lane))

    assert lane.call_records == [1, 3, 3, 1, 2, 1, MAX_LANE_CALL_RECORDS, 1]


def test_slice_ends_at_the_room_of_its_batch() -> None:
    read = [raw_record(at) for at in range(450)]

    some = asyncio.run(_slices(read, PythonLane(EncodedEvent), room=300))

    assert 300 in accumulate(map(len, some))
    assert [record for items in some for record, _ in items] == read


async def test_heavy_record_goes_to_the_helper_where_the_lane_leaves_it() -> None:
    value = b'{"name":"n","execution_id":1,"context":[%b]}' % b",".join([b"1"] * 5_000)
    read = [raw_record(at, value) for at in range(LEFT_EVERY + 1)]
    helped = []

    async def help_with(record: RawRecord) -> tuple[Normalized, ...]:
        await asyncio.sleep(0)
        helped.append(record.offset)
        return Normalizer().normalize(record)

    iterated = normalize_in_slices(
        read, Normalizer().normalize, heavy=help_with, lane=PythonLane(EncodedEvent)
    )

    assert sum([len(items) async for items in iterated]) == len(read)
    assert helped == [0, LEFT_EVERY]


def _decoded(outcome: Any) -> Any:
    return outcome if isinstance(outcome, (Rejected, Ignored)) else to_envelope(outcome)


async def _items(read: Sequence[RawRecord], lane: NativeLane | None) -> list[RecordWithOutcomes]:
    return [item for items in await _slices(read, lane) for item in items]


async def _slices(
    read: Sequence[RawRecord], lane: NativeLane | None, room: int | None = None
) -> list[list[RecordWithOutcomes]]:
    normalize = partial(Normalizer.normalize, Normalizer())
    return [items async for items in normalize_in_slices(read, normalize, lane=lane, room=room)]
