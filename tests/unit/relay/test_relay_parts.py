"""The relay's parts without a broker: its records, and the position beside an offset."""

import asyncio
import gc
import itertools
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import yaml
from aiokafka.errors import TopicAuthorizationFailedError

from normalizer.config.settings import Settings
from normalizer.core.batch import LastRecord
from normalizer.core.identity.merge_flags import (
    LATE_RECORD_DELAY,
    REPORTED_ELSEWHERE_FLAG,
    coordinates_if_ordered,
)
from normalizer.core.previous_owner import SLICE_CODE_BLAMED, SLICE_CODE_ONE_RECORD, PreviousOwner
from normalizer.envelope import to_canonical
from normalizer.errors import BrokerUnavailableError, PartsNotWrittenError
from normalizer.kafka import CommittedOffset, KafkaPartition, transactional_producer
from normalizer.kafka.transactional_producer import OutputRecord
from normalizer.relay import kafka_store
from normalizer.relay.output_records import canonical_record, rejection_record
from normalizer.relay.relay_positions import RelayPosition, make_claim, parse_relay_position
from normalizer.store.claim import Claim
from tests.contract import FOLDER
from tests.support.factories import TOPIC, envelope, make_batch, raw_record, rejected

WHERE = KafkaPartition("noetl.events", 3)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER_TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ASYNCAPI: Any = yaml.safe_load((FOLDER / "asyncapi.yaml").read_text())


def test_a_record_is_the_canonical_line_with_headers_that_the_contract_names() -> None:
    event = envelope(
        1,
        execution_id=7,
        max_attempts=3,
        headers=msgspec.json.encode({"traceparent": TRACEPARENT}),
        trace_id="0af7651916cd43dd8448eb211c80319c",
    )

    record = canonical_record(event, "out", revision=12)

    assert (record.topic, record.key, record.value) == ("out", b"7", to_canonical(event))
    headers = ASYNCAPI["components"]["schemas"]["canonical_headers"]
    assert [name for name, _ in record.headers] == [*headers["properties"]]
    assert dict(record.headers)["revision"] == b"12"
    assert dict(record.headers)["max_attempts"] == b"3"
    assert dict(record.headers)["place"] == b"noetl.events:0:0:1:0"
    assert dict(canonical_record(envelope(1, evidence=2), "out").headers)["evidence"] == b"002"
    # The relay without a database can't know whether another record reports the event too.
    assert "place" not in dict(canonical_record(event, "out").headers)
    bare = envelope(1, recorded_at=None)
    assert {name for name, _ in canonical_record(bare, "out").headers} == {*headers["required"]}


def test_record_names_its_place_only_if_that_says_when_its_event_happened() -> None:
    event = envelope(1)
    assert event.created_at
    late = envelope(1, recorded_at=event.created_at + LATE_RECORD_DELAY)
    in_time = envelope(
        1, recorded_at=event.created_at + LATE_RECORD_DELAY - timedelta(microseconds=1)
    )
    elsewhere = envelope(1, merge_flags=REPORTED_ELSEWHERE_FLAG)

    assert [coordinates_if_ordered(one) is None for one in (event, in_time, late, elsewhere)] == [
        *(False, False, True, True),
    ]


@pytest.mark.parametrize(
    ("headers", "sent"),
    [
        ({"Traceparent": TRACEPARENT}, TRACEPARENT),
        ({"traceparent": [None, "none", OTHER_TRACE, TRACEPARENT]}, TRACEPARENT),
        ({"traceparent": OTHER_TRACE}, None),  # of two merged reports each lent one
        ({"traceparent": "[REDACTED]"}, None),
        ({}, None),
        (None, None),
    ],
)
def test_a_record_keeps_the_traceparent_that_its_trace_id_is_of(
    headers: dict[str, Any] | None, sent: str | None
) -> None:
    kept = None if headers is None else msgspec.json.encode(headers)
    event = envelope(1, headers=kept, trace_id="0af7651916cd43dd8448eb211c80319c")

    record = canonical_record(event, "out")

    assert dict(record.headers).get("traceparent") == (sent and sent.encode())


def test_a_rejection_has_the_place_and_the_reason_and_no_byte_of_the_record() -> None:
    source = raw_record(5, b'{"password":"hunter2"', key=b"secret key")

    record = rejection_record(source, rejected(index=2, sample="hunter2", detail="d" * 900), "out")

    body = msgspec.json.decode(record.value)["quarantine"]
    rejection = ASYNCAPI["components"]["schemas"]["rejection"]["properties"]["quarantine"]
    assert body.keys() == rejection["properties"].keys() - {"line"}
    assert (body["offset"], body["index"], len(body["detail"])) == (5, 2, 500)
    assert record.key == b"noetl.events:0:5"
    assert b"hunter2" not in record.value


async def test_a_batch_that_fails_while_the_next_is_handed_over_leaves_no_unread_error() -> None:
    """An unread error is logged as a mistake of the program whenever its future is deleted."""
    logged: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: logged.append(context))
    room = iter([True, None, True])  # for one record in each of two batches
    handed_over: list[asyncio.Future[None]] = []

    async def partitions_for(_: str) -> set[int]:
        return {0}

    async def send_batch(*_: Any, **__: Any) -> asyncio.Future[None]:
        if handed_over:
            handed_over.pop().set_exception(TopicAuthorizationFailedError("out"))
            raise AssertionError
        handed_over.append(loop.create_future())
        return handed_over[0]

    client = SimpleNamespace(
        partitions_for=partitions_for,
        create_batch=lambda: SimpleNamespace(append=lambda **_: next(room)),
        send_batch=send_batch,
    )

    with pytest.raises(AssertionError):
        await transactional_producer._write(client, [OutputRecord("out", b"1", b"v", [])] * 2)
    gc.collect()
    await asyncio.sleep(0)

    assert logged == []


def test_a_position_comes_back_from_the_text_beside_its_offset() -> None:
    last = LastRecord(41, 1_764_000_000_000, 0xFFFFFFFF)

    last_try = PreviousOwner(holder="0123456789abcdef", slice_records=512)
    written = RelayPosition(
        cluster_id="c", incarnation=2, shapes="shapes", last=last, last_try=last_try
    )

    committed = written.to_offset_and_metadata(42)
    position = parse_relay_position(committed, RelayPosition(cluster_id="other"))
    again = make_claim(WHERE, 7 << 16 | 5, committed.next_offset, position)

    assert committed.next_offset == 42
    assert len(committed.metadata) < 400  # of Kafka's 4,096 by default
    assert position.shapes == "shapes"
    assert (again.incarnation, again.cluster_id, again.last_record) == (2, "c", last)
    assert again.found_slice == 512


@pytest.fixture
def committed(monkeypatch: pytest.MonkeyPatch) -> list[CommittedOffset]:
    """The commits of a store to its own Kafka, in which each producer has the next epoch."""
    committed: list[CommittedOffset] = []
    epochs = itertools.count(7 << 16)

    class Producer:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        async def start(self) -> int:
            return next(epochs)

        async def committed_offset(self) -> CommittedOffset | None:
            return committed[-1] if committed else None

        async def write_and_commit(self, _: object, offset: CommittedOffset) -> None:
            committed.append(offset)

        async def stop(self) -> None:
            pass

    async def limits(*_: object) -> dict[str, int]:
        return dict.fromkeys(("noetl.events.canonical", "noetl.events.rejected"), 1 << 20)

    async def clusters(*_: object) -> set[str]:
        return set()

    monkeypatch.setattr(kafka_store, "_read_committed_clusters", clusters)
    monkeypatch.setattr(kafka_store, "TransactionalProducer", Producer)
    monkeypatch.setattr(kafka_store, "read_topic_size_limits", limits)
    return committed


async def test_partition_that_a_relay_gave_up_is_no_suspect_and_one_that_it_left_is(
    committed: list[CommittedOffset],
) -> None:
    claims = []
    for end, gives_up in ((0, False), (0, True), (1, True), (1, False), (1, True), (1, True)):
        async with kafka_store.KafkaStore(Settings()) as store:
            claims.append(
                await store.claim_partition(TOPIC, 0, cluster_id="c", log_start=0, log_end=end)
            )
            if gives_up:
                await store.mark_owner_idle()

    slices = [one.slice_records for one in claims]
    assert slices == [None, None, None, None, SLICE_CODE_ONE_RECORD, SLICE_CODE_ONE_RECORD]
    assert {one.next_offset for one in committed} == {0}


async def test_record_that_a_relay_had_alone_is_to_blame_until_it_is_written(
    committed: list[CommittedOffset],
) -> None:
    async def claimed(store: kafka_store.KafkaStore) -> Claim:
        return await store.claim_partition(TOPIC, 0, cluster_id="c", log_start=0, log_end=2)

    async with kafka_store.KafkaStore(Settings()) as killed:
        await killed.mark_working_on_one_record(await claimed(killed))
    async with kafka_store.KafkaStore(Settings()) as next_one:
        blamed = await claimed(next_one)
        await next_one.write(make_batch(envelope(0), claim=blamed))
        await next_one.mark_owner_idle()
    async with kafka_store.KafkaStore(Settings()) as last:
        cleared = await claimed(last)

    assert (blamed.slice_records, cleared.slice_records) == (SLICE_CODE_BLAMED, None)
    assert [one.next_offset for one in committed] == [0, 0, 0, 1, 1, 1]


async def test_partition_whose_commit_failed_is_not_given_up(
    committed: list[CommittedOffset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it took effect is unknown: the offset before it might set the position back."""

    async def lost(*_: object) -> None:
        message = "the answer was lost"
        raise BrokerUnavailableError(message)

    async with kafka_store.KafkaStore(Settings()) as store:
        claim = await store.claim_partition(TOPIC, 0, cluster_id="c", log_start=0)
        with monkeypatch.context() as patch:
            patch.setattr(f"{kafka_store.__name__}.TransactionalProducer.write_and_commit", lost)
            with pytest.raises(PartsNotWrittenError):
                await store.write(make_batch(envelope(0), claim=claim))
        await store.mark_owner_idle()

    assert len(committed) == 1


def test_an_offset_that_was_set_by_hand_begins_without_a_past() -> None:
    unknown = RelayPosition(cluster_id="c")

    assert parse_relay_position(CommittedOffset(5, ""), unknown) is unknown
    assert make_claim(WHERE, 7 << 16, 5, unknown).last_record is None
