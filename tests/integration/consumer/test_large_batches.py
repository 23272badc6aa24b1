"""A small compressed batch that unpacks to a lot stops nobody: only too large records go."""

import asyncio
import hashlib
import sys
from typing import Any, Final

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from normalizer.cli.ledger_check import verify_ledger
from normalizer.cli.partition_positions import skip_records
from normalizer.config.settings import Settings
from normalizer.core.batch import record_crc
from normalizer.core.decode.record_limits import (
    MAX_RECORD_BYTES,
    MAX_VALUE_BYTES,
    OVERSIZED_KEPT_BYTES,
)
from normalizer.core.normalize import Normalizer
from normalizer.kafka import GrouplessClient, KafkaPartition, client_setup, decompression
from normalizer.store.position_changes import PositionChange
from tests.support.factories import raw_event
from tests.support.feed import Feed
from tests.support.service_runs import running
from tests.support.stack import Topic

MIB: Final = 1 << 20
ONE_PARTITION: Final = pytest.mark.parametrize("topic", [1], indirect=True)


async def send_one_batch(
    bootstrap_servers: str, topic: Topic, values: list[bytes], codec: str | None = "zstd"
) -> None:
    """Send the values as one batch, whatever they unpack to."""
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers,
        compression_type=codec,
        max_request_size=1 << 30,
        max_batch_size=1 << 30,
    ) as producer:
        batch = producer.create_batch()
        for value in values:
            assert batch.append(key=b"k", value=value, timestamp=None)
        batch.close()
        await (await producer.send_batch(batch, topic.name, partition=0))


def padded(number: int, size: int) -> bytes:
    """An event of this size that packs to almost nothing."""
    event = msgspec.json.encode(raw_event(number))
    return event[:-1] + b" " * (size - len(event)) + b"}"


@ONE_PARTITION
@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_of_a_batch_that_unpacks_to_a_lot_only_what_is_too_large_is_rejected(
    feed: Feed, codec: str
) -> None:
    too_large = [b" " * (MAX_VALUE_BYTES + 1), b" " * (MAX_RECORD_BYTES + 1)]
    values = [*(padded(n, 7 * MIB) for n in range(8)), *too_large, padded(8, 1_000)]
    await send_one_batch(feed.bootstrap_servers, feed.topic, values, codec)

    await feed.read_to({0: len(values)}, feed.settings())
    stored = await feed.connection.fetch(
        "select source_offset from normalizer.events order by source_offset"
    )
    rejected = await feed.connection.fetch(
        """
        select reason, value_bytes, value_sha256, whole, length(value)
        from   normalizer.quarantine
        join   normalizer.quarantine_raw using (source_topic, source_partition, source_offset)
        order by source_offset
        """
    )

    assert [offset for (offset,) in stored] == [*range(8), 10]
    assert [tuple(row) for row in rejected] == [
        ("too_large", len(value), hashlib.sha256(value).digest(), False, OVERSIZED_KEPT_BYTES)
        for value in too_large
    ]


@ONE_PARTITION
@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_unpacked_batches_are_not_all_in_memory_at_once(
    topic: Topic, bootstrap_servers: str, codec: str
) -> None:
    """Neither of one that is beyond the client's limit, nor of many below it."""
    value = b" " * (7 * MIB)
    for size in (20, *[6] * 10):
        await send_one_batch(bootstrap_servers, topic, [value] * size, codec)

    records, total_bytes, took_bytes = await read_in_a_process(bootstrap_servers, topic, 80)

    assert (records, total_bytes) == (80, 80 * (7 * MIB + 1))
    assert took_bytes < 350 * MIB


async def read_in_a_process(bootstrap_servers: str, topic: Topic, end: int) -> list[int]:
    """Read a partition to its end. Returns the records, their bytes, and the memory it took."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.support.read_topic", bootstrap_servers, topic.name, str(end)),
        stdout=asyncio.subprocess.PIPE,
    )
    answer, _ = await child.communicate()
    return [int(word) for word in answer.split()]


@ONE_PARTITION
async def test_a_batch_that_unpacks_beyond_the_limit_is_named_and_can_be_skipped_as_a_whole(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decompression, "MAX_DECOMPRESSED_BATCH_BYTES", 60 * MIB)
    await send_one_batch(
        feed.bootstrap_servers, feed.topic, [padded(n, 7 * MIB) for n in range(10)]
    )
    await send_one_batch(feed.bootstrap_servers, feed.topic, [padded(11, 1_000)])
    settings = feed.settings()

    async with running(settings):
        await feed.until_read({0: 8})
        async with GrouplessClient(settings) as log:
            (finding,) = [one async for one in verify_ledger(feed.database.url, log)]
            at = feed.partition(0)
            change = PositionChange(action="skip", who="jane", why="test")
            await skip_records(settings, log, at, 8, to=10, change=change, dry_run=False)
        await feed.until_read({0: 11})

    assert "UNREADABLE: " in str(finding)
    assert "@8: the batch there cannot be read" in str(finding)
    assert "`--to 10`" in str(finding)


@pytest.fixture
def settings(bootstrap_servers: str) -> Settings:
    return Settings(kafka_bootstrap_servers=(bootstrap_servers,))


@ONE_PARTITION
async def test_a_cut_record_is_recognized_as_the_same_record(
    topic: Topic, settings: Settings, bootstrap_servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log of a partition is compared by the last record: by any client, with any limit."""
    values = [b" " * (MAX_RECORD_BYTES + 1)]
    await send_one_batch(bootstrap_servers, topic, values)
    partition = KafkaPartition(topic.name, 0)
    found: list[Any] = []
    for limit in (65_536, 52_428_800):
        monkeypatch.setattr(client_setup, "MAX_FETCH_BYTES", limit)
        async with GrouplessClient(settings) as log:
            found.append(await log.record_at(partition, 0))

    cut, whole = found
    assert cut.cut
    assert whole.cut is None
    assert record_crc(cut) == record_crc(whole)
    assert Normalizer().normalize(cut) == Normalizer().normalize(whole)
