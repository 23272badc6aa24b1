"""The service with a native lane: the same rows and counters as by the rules in Python alone."""

from typing import Any

import msgspec
import pytest

from normalizer.core.encoded_events import EncodedEvent
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.core.redaction.prefilter import Prefilter
from normalizer.envelope import Envelope
from tests.support.factories import RECORDED_MS, raw_event, snowflake
from tests.support.feed import Feed
from tests.support.memory_log import MemoryLog
from tests.support.python_lane import LEFT_EVERY, PythonLane, install
from tests.support.service_runs import running
from tests.support.table_rows import canonical, connected, stored_events

RECORDS = 600


def wire_events() -> list[dict[str, Any]]:
    """A report of another record's event, two coercions, and an event that is sent twice."""
    events = [raw_event(at, event_id=snowflake(at)) for at in range(RECORDS)]
    events[11] |= {"event_id": snowflake(1), "created_at": events[1]["created_at"], "context": {}}
    events[12] |= {"created_at": "never"}
    events[13] |= {"status": 7, "created_at": "never"}
    events[14] = events[9]
    return events


async def expected_rows(records: list[RawRecord]) -> list[Envelope]:
    """Return the rows of the Python rules and the reconciler for these records, one by one."""
    log, normalize = MemoryLog(), Normalizer().normalize
    for record in records:
        await log.take(*[one for one in normalize(record) if isinstance(one, Envelope)])
    return [canonical(row) for _, row in sorted(log.rows_by_id.items())]


@pytest.mark.parametrize("topic", [1], indirect=True)
@pytest.mark.parametrize("panics_at", [(), (b"execution_id",)], ids=["on", "off by panics"])
async def test_service_stores_what_python_alone_would_store(
    feed: Feed, monkeypatch: pytest.MonkeyPatch, panics_at: tuple[bytes, ...]
) -> None:
    lanes: list[PythonLane] = []

    def make_lane(make: type[EncodedEvent], prefilter: Prefilter) -> PythonLane:
        lanes.append(PythonLane(make, prefilter, panics_at))
        return lanes[-1]

    install(monkeypatch, make_lane)
    records = [
        RawRecord(msgspec.json.encode(event), feed.name, 0, 0, at, b"7", (), RECORDED_MS + at)
        for at, event in enumerate([*wire_events(), {"no": "event"}])
    ]
    for record in records:
        await feed.producer.send(
            feed.name, record.value, key=b"7", partition=0, timestamp_ms=record.recorded_ms
        )
    await feed.producer.flush()

    settings = feed.settings(batch_rows=200)
    async with running(settings) as service:
        await feed.until_read({0: len(records)})
    async with connected(feed.database) as connection:
        stored = await stored_events(connection)

    assert stored == await expected_rows(records)
    assert service.counters.stored == len(stored)
    assert service.counters.quarantined == 1
    coercions = service.observer.metrics.coercions.labels(rule="created_at_unreadable")
    assert coercions._value.get() == 2
    (lane,) = lanes
    assert lane.panics == 3 * len(panics_at)
    assert (lane.read_natively > RECORDS * (1 - 1.5 / LEFT_EVERY)) is not bool(panics_at)
