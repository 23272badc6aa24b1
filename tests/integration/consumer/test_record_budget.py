"""Hostile and heavy records beside small ones: neighbours are stored soon, the loop stays free."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import structlog
from aiokafka import AIOKafkaProducer

from normalizer.core.decode.record_limits import MAX_VALUE_BYTES
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.errors import RejectionReason
from normalizer.runtime.normalizing_helper import NormalizingHelper, NormalizingHelperDiedError
from tests.support.factories import raw_event
from tests.support.feed import Feed
from tests.support.measured_service import Measures, measured, read
from tests.support.results import PrintLine, write_defect
from tests.support.service_runs import running, send, until

TWO_PARTITIONS: Final = pytest.mark.parametrize("topic", [2], indirect=True)
ONE_PARTITION: Final = pytest.mark.parametrize("topic", [1], indirect=True)
SMALL: Final = 50
NEIGHBOURS_S: Final = 10.0
MIB: Final = 1 << 20


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """Values to send in a row, and how many events are stored of them, or why all are rejected."""

    values: tuple[bytes, ...]
    stored: int = 0
    reason: RejectionReason | None = None


_numbers: Final = count(10**12)


def event(context: bytes) -> bytes:
    """An event with an id of its own."""
    head = b'{"execution_id":7,"event_type":"call.done","step":"s","event_id":%d,"context":{"v":'
    return head % next(_numbers) + context + b"}}"


def two_reports(share: float) -> Case:
    """One event as two producers tell it: their contexts differ in the last number."""
    first = event(integers(share))
    assert share < 1 or 0 < MAX_VALUE_BYTES - len(first) < 1_000
    return stored(first, first.replace(b"7]", b"8]"))


def batch(items: bytes) -> bytes:
    return b'{"execution_id":7,"events":' + items + b"}"


def listed(items: Iterable[bytes]) -> bytes:
    return b"[" + b",".join(items) + b"]"


def stored(*values: bytes, events: int = 1) -> Case:
    return Case(values=values, stored=events)


def rejected(reason: RejectionReason, value: bytes) -> Case:
    return Case(values=(value,), reason=reason)


def integers(share: float) -> bytes:
    return listed([b"7"] * (round(4 * MIB * share) - 100))


def dsn_rows(share: float) -> bytes:
    row = b'{"id":%d,"dsn":"postgresql://app:pw@db/x","n":"row"}'
    return event(listed(row % number for number in range(round(60_000 * share))))


def batch_of_events(share: float) -> Case:
    items = round(10_000 * share)
    return stored(batch(listed([b'{"name":"step.enter","context":{"n":1}}'] * items)), events=items)


CASES: Final[dict[str, Callable[[float], Case]]] = {
    "small integers": lambda share: stored(event(integers(share))),
    "small integers beside a secret": lambda share: stored(
        event(integers(share)).replace(b"{", b'{"password":"p",', 1)
    ),
    "two reports of one id": two_reports,
    "URL passwords": lambda share: stored(
        event(listed([b'"http://u:p@h/"'] * round(400_000 * share)))
    ),
    "rows with a DSN": lambda share: stored(dsn_rows(share)),
    "a batch": batch_of_events,
    "1.3 million of 1e300": lambda share: rejected(
        "too_large", event(listed([b"1e300"] * round(1_300_000 * share)))
    ),
    "600,000 of 1e399": lambda share: rejected(
        "invalid_json", event(listed([b"1e399"] * round(600_000 * share)))
    ),
    "10,001 exponents": lambda _: rejected("too_large", event(listed([b"1e300"] * 10_001))),
    "240,000 items": lambda share: rejected(
        "too_large", batch(listed([b'{"name":"x"}'] * round(240_000 * share)))
    ),
}


async def outcome(
    cases: Sequence[Case], feed: Feed, folder: Path, **fields: Any
) -> tuple[float, list[Measures]]:
    """Two processes, with the cases amid small records. Returns the seconds to store others."""
    # A process that is slow keeps its partitions: nobody else is to read these records.
    fields = {"kafka_session_timeout_ms": 45_000} | fields
    settings = feed.settings(**fields)
    files = [folder / "one.json", folder / "two.json"]
    async with contextlib.AsyncExitStack() as opened:
        for number, file in enumerate(files):
            named = msgspec.structs.replace(settings, instance=f"process-{number}")
            await opened.enter_async_context(measured(named, file))
        await feed.until_owned({"process-0", "process-1"})
        producer = AIOKafkaProducer(
            bootstrap_servers=feed.bootstrap_servers,
            max_request_size=32 * MIB,
            compression_type="gzip",
            linger_ms=0,
        )
        await opened.enter_async_context(producer)
        await send(producer, feed.topic, range(SMALL))
        half = dict.fromkeys(range(2), SMALL // 2)
        await feed.until_read(half)
        before = await feed.positions()
        await asyncio.sleep(1.0)  # what is measured by then is what an idle process takes

        began_s = time.monotonic()
        values = [value for case in cases for value in case.values]
        for value in values:
            await producer.send(feed.name, value, partition=0)
        await send(producer, feed.topic, range(SMALL, 2 * SMALL))
        await feed.until_read({0: SMALL + len(values), 1: SMALL})
        took_s = time.monotonic() - began_s
        await asyncio.sleep(1.2)  # until both wrote what they measured

        after = await feed.positions()
        assert {n: at["owner"] for n, at in after.items()} == {
            n: at["owner"] for n, at in before.items()
        }  # a slow record's partition is claimed again, by the same process
        assert after[1]["epoch"] == before[1]["epoch"]
        measures = [read(file) for file in files]
    assert await feed.events() == 2 * SMALL + sum(case.stored for case in cases)
    reasons = await feed.connection.fetch("select reason from normalizer.quarantine")
    assert sorted(row["reason"] for row in reasons) == sorted(
        case.reason for case in cases if case.reason
    )
    return took_s, measures


@TWO_PARTITIONS
async def test_heavy_records_hold_up_nobody(feed: Feed, tmp_path: Path) -> None:
    still_too_much = {"1.3 million of 1e300", "600,000 of 1e399", "240,000 items"}
    cases = [make(0.1 if name in still_too_much else 0.05) for name, make in CASES.items()]

    took_s, measures = await outcome(cases, feed, tmp_path)

    assert took_s < 6 * NEIGHBOURS_S  # beside other tests
    assert max(one.normalize_s for one in measures) < 0.5
    assert max(one.helper_mb for one in measures) > 0


@pytest.mark.soak
@TWO_PARTITIONS
@pytest.mark.parametrize("case", CASES)
async def test_a_heavy_record_of_full_size_holds_up_nobody(
    case: str, feed: Feed, tmp_path: Path, say: PrintLine
) -> None:
    took_s, measures = await outcome([CASES[case](1)], feed, tmp_path, batch_age_ms=200)
    say(f"{case}: {took_s:.2f} s, {measures}")
    lag_s, normalize_s, added_mb, peak_mb = (
        max(getattr(one, name) for one in measures)
        for name in ("lag_s", "normalize_s", "added_mb", "peak_mb")
    )

    assert took_s < NEIGHBOURS_S
    assert lag_s < 0.5
    assert normalize_s < 0.1
    assert added_mb < 300
    assert peak_mb < 400
    write_defect(
        f"a heavy record beside {SMALL} small ones: {case}",
        f"neighbours stored within {took_s:.1f} s, no rebalance; the loop {lag_s * 1000:.0f} ms "
        f"late, a record {normalize_s * 1000:.0f} ms on it; {added_mb:.0f} MB more",
        seconds=took_s,
        peak_mb=peak_mb,
    )


@ONE_PARTITION
async def test_a_batch_is_cut_by_rows_also_within_what_was_fetched_at_once(feed: Feed) -> None:
    for number in range(20):
        items = [raw_event(10 * number + one) for one in range(6)]
        await feed.producer.send(
            feed.name, msgspec.json.encode({"execution_id": 7, "events": items})
        )
    await feed.producer.flush()

    await feed.read_to({0: 20}, feed.settings(batch_rows=10))

    rows = await feed.connection.fetch(
        "select count(*) as rows from normalizer.events group by batch_id"
    )
    assert sum(row["rows"] for row in rows) == 120
    assert max(row["rows"] for row in rows) == 12  # a record is never cut


async def test_the_helper_gives_what_the_rules_give() -> None:
    items = [raw_event(number, context={"password": "p", "n": number}) for number in range(1_000)]
    values = [
        msgspec.json.encode({"execution_id": 7, "events": [*items, {}]}),
        event(integers(0.1)),
        b"{",
        None,
    ]
    records = [
        RawRecord(
            value, topic="t", offset=at, recorded_ms=1_783_674_120_000, headers=(("a", b"b"),)
        )
        for at, value in enumerate(values)
    ]
    helper = NormalizingHelper(["n"])

    outcomes = [await helper.normalize(record) for record in records]
    await helper.stop()

    assert outcomes == [Normalizer(["n"]).normalize(record) for record in records]
    assert helper.process is None


async def test_a_helper_has_the_rules_of_its_parent_in_a_folder_that_has_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "normalizer").mkdir()
    (tmp_path / "normalizer" / "__init__.py").write_text("raise SystemExit('others')")
    monkeypatch.chdir(tmp_path)
    helper = NormalizingHelper()
    record = RawRecord(b"{}")

    assert await helper.normalize(record) == Normalizer().normalize(record)

    await helper.stop()


async def test_a_helper_that_died_says_so_and_is_started_again() -> None:
    helper = NormalizingHelper()
    record = RawRecord(event(integers(0.1)), topic="t", recorded_ms=0)
    expected = await helper.normalize(record)
    process = helper.process
    assert process is not None

    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(NormalizingHelperDiedError):
        await helper.normalize(record)

    assert await helper.normalize(record) == expected
    assert helper.process is not process
    await helper.stop()


@ONE_PARTITION
async def test_a_record_that_the_helper_dies_on_waits_and_is_named(feed: Feed) -> None:
    heavy = event(integers(0.2))
    await feed.producer.send(feed.name, heavy)
    await feed.producer.flush()
    async with running(feed.settings()) as service:
        await feed.until_read({0: 1})
        process = service.chunk_normalizer.normalizing_helper.process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)

        with structlog.testing.capture_logs() as lines:
            await feed.producer.send(feed.name, heavy)
            await feed.producer.flush()
            await until(lambda: any(service.chunk_normalizer.describe_records_killing_helper()))
            named = [*service.chunk_normalizer.describe_records_killing_helper()]
            await feed.until_read({0: 2})

        assert [*service.chunk_normalizer.describe_records_killing_helper()] == []
        assert service.counters.rebalances == 1
    assert named == [f"record {feed.partition(0)}@1: the helper process died 1 times: exit code -9"]
    assert {"helper.died", "record.slow"} <= {line["event"] for line in lines}


@ONE_PARTITION
async def test_a_helper_that_falls_silent_is_named_and_replaced(feed: Feed) -> None:
    heavy = event(integers(0.2))
    await feed.send_value(heavy)
    settings = feed.settings(progress_timeout_s=5)
    async with running(settings) as service:
        await feed.until_read({0: 1})
        process = service.chunk_normalizer.normalizing_helper.process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)

        await feed.send_value(heavy)
        await until(lambda: any(service.chunk_normalizer.describe_records_killing_helper()))
        named = [*service.chunk_normalizer.describe_records_killing_helper()]
        await feed.until_read({0: 2})

    assert named == [
        f"record {feed.partition(0)}@1: the helper process died 1 times: no answer in 5 s"
    ]
