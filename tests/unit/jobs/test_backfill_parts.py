"""The small parts of a job: its id, defaults, pages cut, the pace, the diff, the lines it says."""

import asyncio
import io
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from normalizer.config.settings import Settings
from normalizer.core.identity.coordinates import source_coordinates
from normalizer.errors import BrokerUnavailableError
from normalizer.files.record_lines import TOPIC_HASH_INPUT_BYTES, topic_from_content_hash
from normalizer.jobs.backfill import split_page
from normalizer.jobs.dry_run.diff import find_changed_fields
from normalizer.jobs.dry_run.overlay import Overlay
from normalizer.jobs.engine.id_ranges import BELOW_ALL_IDS, ESTIMATE_ROW_COUNT_SQL, IdRangeWalk
from normalizer.jobs.engine.job_run import RunTotals
from normalizer.jobs.engine.job_spec import JobSpec
from normalizer.jobs.engine.run_progress import RunProgressPrinter
from normalizer.jobs.engine.throttle import LiveLag, LogEndHistory, Throttle
from normalizer.jobs.sources.field_defaults import FieldDefaults
from normalizer.jobs.sources.job_source import ReadPosition, SourcePage
from normalizer.jobs.sources.topic_source import TopicRange, TopicSource
from normalizer.kafka import FetchedChunk, KafkaPartition
from normalizer.kafka.range_reader import OffsetRange
from normalizer.runtime.logging_setup import get_logger
from normalizer.runtime.screen import Screen
from tests.support.factories import envelope, raw_record

ONE = KafkaPartition("noetl.events", 1)


def test_the_same_question_has_the_same_job_and_another_one_another() -> None:
    spec = JobSpec(kind="backfill", source="file a", options={"x": "1", "y": "2"})
    same = JobSpec(kind="backfill", source="file a", options={"y": "2", "x": "1"})
    others = [
        JobSpec(kind="renormalize", source="file a", options={"x": "1", "y": "2"}),
        JobSpec(kind="backfill", source="file b", options={"x": "1", "y": "2"}),
        JobSpec(kind="backfill", source="file a", options={"x": "1"}),
    ]

    assert spec.job_id == same.job_id
    assert len({spec.job_id, *(other.job_id for other in others)}) == 4
    assert 0 <= spec.lock_key < 1 << 63


def test_the_text_of_a_job_has_no_secret_of_its_options() -> None:
    query = "select * from dblink('host=x password=geheim17')"
    spec = JobSpec(kind="backfill", source="table", options={"query": query, "set token": "geh18"})

    assert str(spec).startswith("backfill table query=select * from dblink('host=x password=")
    assert "geheim17" not in str(spec)
    assert "geh18" not in str(spec)


def test_the_text_of_a_job_has_no_secret_under_a_key_of_the_operator() -> None:
    spec = JobSpec(kind="backfill", source="table", options={"set acme_id": "geh18"})
    kept = msgspec.structs.replace(spec, redact_keys=("acme_id",))

    assert "geh18" in str(spec)
    assert "geh18" not in str(kept)
    assert kept.job_id == spec.job_id


@pytest.mark.parametrize(
    ("value", "completed"),
    [
        (b"{}", b'{"execution_id":7,"created_at":"2026-01-31"}'),
        (b'{"a":1}', b'{"a":1,"execution_id":7,"created_at":"2026-01-31"}'),
        (
            b'{"execution_id":null,"a":1} ',
            b'{"execution_id":null,"a":1,"execution_id":7,"created_at":"2026-01-31"}',
        ),
        (
            b'{"execution_id":"x","timestamp":1}',
            b'{"execution_id":"x","timestamp":1}',
        ),
        (b"[1]", b"[1]"),
        (b'"text"', b'"text"'),
        (b"{broken", b"{broken"),
        (None, None),
    ],
)
def test_a_value_gets_what_it_lacks_under_any_name(
    value: bytes | None, completed: bytes | None
) -> None:
    defaults = FieldDefaults({"execution_id": "7", "created_at": "2026-01-31"})

    assert defaults.add_missing_fields(value) == completed


def make_page(offsets: list[int], from_offset: int, next_offset: int) -> SourcePage:
    """A page of these offsets. The others are holes."""
    holes = []
    expected = from_offset
    for offset in [*offsets, next_offset]:
        if offset > expected:
            holes.append((expected, offset))
        expected = offset + 1
    return SourcePage(
        part=("t", 0, 0),
        from_offset=from_offset,
        next_offset=next_offset,
        records=[raw_record(offset) for offset in offsets],
        holes=tuple(holes),
    )


@given(st.sets(st.integers(10, 60)), st.integers(1, 9))
def test_a_page_cut_into_pieces_loses_no_offset(offsets: set[int], size: int) -> None:
    page = make_page(sorted(offsets), 10, 70)

    cut = list(split_page(page, size))

    assert [record for piece in cut for record in piece.records] == page.records
    assert [piece.next_offset for piece in cut[:-1]] == [piece.from_offset for piece in cut[1:]]
    assert (cut[0].from_offset, cut[-1].next_offset) == (10, 70)
    for piece in cut:
        holes = sum(after - first for first, after in piece.holes)
        assert piece.next_offset - piece.from_offset == len(piece.records) + holes


def test_records_wait_since_the_log_was_first_seen_beyond_them() -> None:
    history = LogEndHistory()
    for now_s, end in ((0.0, 10), (1.0, 10), (2.0, 25), (3.0, 40)):
        history.add_end_offsets(now_s, {ONE: end})

    assert history.lag_s(5.0, ONE, 40) is None
    assert history.lag_s(3.0, ONE, 39) == 0.0
    assert history.lag_s(5.0, ONE, 30) == 2.0
    assert history.lag_s(5.0, ONE, 10) == 3.0
    assert history.lag_s(5.0, ONE, 9) == 5.0
    assert history.lag_s(5.0, KafkaPartition("other", 0), 0) is None


class Behind:
    """Live traffic that is this far behind at the first look, and level at all later ones."""

    def __init__(self, seconds: float) -> None:
        self._lags = iter([LiveLag(seconds=seconds, partition=str(ONE))])

    async def read_lag(self) -> LiveLag:
        return next(self._lags, LiveLag())


@pytest.mark.parametrize(("behind_s", "pauses"), [(2.0, True), (1.9, False)])
async def test_a_job_pauses_while_live_records_wait_for_two_seconds(
    behind_s: float, *, pauses: bool
) -> None:
    stop = asyncio.Event()
    throttle = Throttle(get_logger(), read_lag=Behind(behind_s).read_lag, max_rate=None)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(throttle.watch_lag(stop), name="watch")
        await throttle.acquire(1, stop)
        stop.set()

    assert (throttle.throttled_s["live_lag"] > 0) == pauses


class Away:
    """A broker that does not answer."""

    async def read_lag(self) -> LiveLag:
        raise BrokerUnavailableError("asking: away")


async def test_an_unknown_lag_does_not_stop_the_job() -> None:
    stop = asyncio.Event()
    throttle = Throttle(get_logger(), read_lag=Away().read_lag, max_rate=None)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(throttle.watch_lag(stop), name="watch")
        await throttle.acquire(1, stop)
        stop.set()

    assert throttle.throttled_s["live_lag"] == 0.0


async def test_time_in_which_nothing_was_to_do_is_no_credit() -> None:
    stop = asyncio.Event()
    passed_s = 0.0

    def clock() -> float:
        return time.monotonic() + passed_s

    throttle = Throttle(get_logger(), read_lag=None, max_rate=1_000.0, clock=clock)
    await throttle.acquire(0, stop)
    passed_s = 3_600.0
    await throttle.acquire(100, stop)
    held_at_first_s = throttle.throttled_s["max_rate"]

    await throttle.acquire(100, stop)
    throttle.refund(100)
    await throttle.acquire(100, stop)

    assert held_at_first_s == 0.0
    assert 0.05 < throttle.throttled_s["max_rate"] < 0.2


@pytest.mark.parametrize(
    ("fields", "changed"),
    [
        ({}, {}),
        ({"normalizer_version": 99, "event_id": 5}, {}),
        ({"context": b'{ "b":1.0e1, "a":2}'}, {}),
        ({"coercions": b'[{"rule":"b"},{"rule":"a"}]'}, {}),
        ({"status": "ERROR"}, {"status": ("COMPLETED", "ERROR")}),
        ({"worker_id": "w"}, {"worker_id": (None, "w")}),
    ],
)
def test_only_values_make_a_change(fields: dict[str, Any], changed: dict[str, Any]) -> None:
    values = {"context": b'{"a":2,"b":10}', "coercions": b'[{"rule":"a"}, {"rule":"b"}]'}

    assert find_changed_fields(envelope(**values), envelope(**(values | fields))) == changed


def test_an_overlay_keeps_what_would_be_and_what_was_first() -> None:
    first, second = envelope(0), envelope(1)
    changed = msgspec.structs.replace(first, status="ERROR")
    again = msgspec.structs.replace(first, status="FAILED")

    with Overlay() as overlay:
        overlay.keep_rows([second], [(first, changed)])
        overlay.keep_rows([], [(changed, again), (second, second)])
        assigned = overlay.assign_id(source_coordinates(first))

        assert overlay.get_rows([first.event_id or 0]) == {first.event_id: again}
        assert overlay.find_coordinates_of_ids([second.event_id or 0]) == {
            second.event_id: source_coordinates(second)
        }
        assert list(overlay.new_rows()) == [second]
        assert list(overlay.rows_before_and_after()) == [(first, again)]
        assert overlay.find_assigned_id(source_coordinates(first)) == assigned < 0
        assert overlay.find_assigned_id(source_coordinates(second)) is None
        assert [overlay.add_rejection(source_coordinates(first)) for _ in range(2)] == [True, False]


async def test_the_share_of_a_topic_is_of_the_run_wherever_reading_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a kill, and after an outage of the broker."""
    source = TopicSource(Settings(kafka_bootstrap_servers=("k:1",)), "t", TopicRange())
    key = ("t", 0, 0)
    source._present = {key}
    shares = []

    async def read_one(
        wanted: Mapping[KafkaPartition, OffsetRange],
    ) -> AsyncGenerator[FetchedChunk, None]:
        for partition, at in wanted.items():
            yield FetchedChunk(
                partition=partition, from_offset=at.first, next_offset=at.first + 1, records=[]
            )
        raise BrokerUnavailableError("the broker is unreachable")

    monkeypatch.setattr(source._reader, "read_ranges", read_one)
    for next_offset in (6, 7):
        read = source.read({key: ReadPosition(start=0, next_offset=next_offset, end=10)})
        await anext(read)
        shares.append(source.progress_ratio())
        with pytest.raises(BrokerUnavailableError):
            await anext(read)

    assert shares == [0.7, 0.8]


async def test_the_share_of_a_walk_does_not_fall_when_it_goes_on_after_an_outage() -> None:
    rows = list(range(100))

    async def fetch(statement: str, *values: Any) -> Any:
        if statement == ESTIMATE_ROW_COUNT_SQL:
            return [(len(rows),)]
        low, nth = values
        return [{"event_id": one} for one in rows if low <= one][nth : nth + 1]

    walk = IdRangeWalk(fetch, 10)
    shares = []
    for event_id, walked, ranges in ((BELOW_ALL_IDS, 0, 8), (69, 70, 2), (79, 80, 3)):
        walking = walk.ranges_above(event_id, rows_walked=walked)
        for _ in range(ranges):
            await anext(walking)
            shares.append(walk.progress_ratio())
        await walking.aclose()

    tenths = [0, 1, 2, 3, 4, 5, 6, 7, 7, 8, 8, 9, 10]
    assert shares == pytest.approx([one / 10 for one in tenths])


class Terminal(io.StringIO):
    """A stream that can rewrite its line."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "said"), [(Terminal, 3), (io.StringIO, 1)])
def test_progress_says_rate_and_time_left(stream: Callable[[], io.StringIO], said: int) -> None:
    now_s = 0.0
    screen = Screen(written := stream())
    progress = RunProgressPrinter(screen, "backfill", clock=lambda: now_s)

    for seconds, records in ((1, 1_000), (6, 6_000), (11, 11_000)):
        now_s = float(seconds)
        progress.report(RunTotals(records=records, stored=records), records / 20_000, None)

    assert written.getvalue().count("records, ") == said
    assert (
        "backfill  55%: 11,000 records, 1,000/s, 9.0 s left (11,000 stored)" in written.getvalue()
    )


@pytest.mark.parametrize(
    "sizes", [(1, 2), (10, 70_000), (65_535, 65_536, 65_537), (65_536, 90_000), (7, 300, 9, 7)]
)
def test_a_file_keeps_the_topic_that_it_was_first_read_by(sizes: tuple[int, ...]) -> None:
    content = random.Random(7).randbytes(90_000)
    known = {
        topic_from_content_hash(content[500:900], ()),
        topic_from_content_hash(b"x" * TOPIC_HASH_INPUT_BYTES, ()),
    }
    first = topic_from_content_hash(content[: min(sizes[0], TOPIC_HASH_INPUT_BYTES)], ())
    known.add(first)

    topics = {
        topic_from_content_hash(content[: min(size, TOPIC_HASH_INPUT_BYTES)], known)
        for size in sizes
    }

    assert topics == {first}
