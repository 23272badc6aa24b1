"""The service on a real broker and database: every record once, whatever happens meanwhile."""

import asyncio
import json
import os
import signal
import time
from typing import Any

import msgspec
import pytest
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.structs import TopicPartition

from normalizer.consumer.service import Service
from normalizer.errors import (
    BrokerUnavailableError,
    FatalError,
    PositionMovedError,
    RestartNeededError,
)
from normalizer.kafka import GrouplessClient, KafkaPartition
from normalizer.store.store import Store
from tests.support.factories import raw_event
from tests.support.feed import Feed
from tests.support.service_runs import (
    process,
    recreate_topic,
    running,
    send,
    settings_for,
    until,
    watching,
)
from tests.support.stack import Stack, Topic
from tests.support.table_rows import connected

ONE_PARTITION = pytest.mark.parametrize("topic", [1], indirect=True)


async def test_records_become_rows_the_group_learns_how_far_and_a_second_run_goes_on_there(
    feed: Feed, admin: AIOKafkaAdminClient
) -> None:
    settings = feed.settings()
    await feed.send(range(90))
    async with running(settings) as first:
        await feed.until_read({0: 30, 1: 30, 2: 30})
    committed = await admin.list_consumer_group_offsets(settings.kafka_group_id)
    await feed.send(range(90, 120))

    async with running(settings) as second:
        await feed.until_read({0: 40, 1: 40, 2: 40})

    assert {one.partition: at.offset for one, at in committed.items()} == {0: 30, 1: 30, 2: 30}
    assert await feed.events() == 120
    assert (first.counters.stored, second.counters.records) == (90, 30)
    for position in (await feed.positions()).values():
        assert position["records"] == position["outcomes"] == position["stored"] == 40
        assert position["holes"] == position["quarantined"] == 0
        assert position["epoch"] == 2


@ONE_PARTITION
async def test_a_record_does_not_wait_for_its_batch_to_fill_where_writes_are_fast(
    feed: Feed,
) -> None:
    """The greatest age is longer than the test may take."""
    settings = feed.settings(batch_age_ms=60_000)

    async with running(settings):
        for number in range(3):
            await feed.send(range(number, number + 1))
            await feed.until_read({0: number + 1})

    assert await feed.events() == 3


@ONE_PARTITION
async def test_one_batch_fills_while_one_is_written_and_no_more_is_read(feed: Feed) -> None:
    settings = feed.settings(batch_rows=10)
    async with connected(feed.database) as other, running(settings) as service:
        await until(lambda: service.count_partitions()["claimed"] == 1)
        waited = service.observer.metrics.stage_seconds.labels(stage="wait")._value
        reader = service._membership._reader
        async with other.transaction():
            await other.execute("lock table normalizer.source_positions in exclusive mode")
            await feed.send(range(100))
            await until(lambda: reader.next_offset(feed.partition()) >= 20)
            await other.execute("select pg_sleep(0.5)")

            assert reader.next_offset(feed.partition()) == 20
        await until(lambda: service.counters.stored == 100)

        assert waited.get() > 0.3  # it began to wait a moment after the sleep began


@ONE_PARTITION
async def test_aborted_records_and_markers_are_holes(feed: Feed) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=feed.bootstrap_servers, transactional_id=feed.name
    ) as producer:
        async with producer.transaction():
            await send(producer, feed.topic, range(3))
        await producer.begin_transaction()
        await send(producer, feed.topic, range(3, 6))
        await producer.abort_transaction()
        async with producer.transaction():
            await send(producer, feed.topic, range(6, 8))

    await feed.read_to({0: 11}, feed.settings())

    position = await feed.position()
    assert (position["records"], position["holes"], position["stored"]) == (5, 6, 5)
    gaps = await feed.connection.fetch(
        "select reason, missing::text, offsets, first_offset, next_offset from projector.gaps"
    )
    assert [tuple(gap) for gap in gaps] == [("hole", "{[3,8),[10,11)}", 6, 3, 11)]


@ONE_PARTITION
async def test_an_open_transaction_is_waited_for(feed: Feed) -> None:
    await feed.send(range(2))
    async with AIOKafkaProducer(
        bootstrap_servers=feed.bootstrap_servers, transactional_id=feed.name
    ) as transactional:
        await transactional.begin_transaction()
        await send(transactional, feed.topic, range(2, 4))
        await feed.send(range(4, 6))

        async with running(feed.settings()):
            await feed.until_read({0: 2})
            assert (await feed.position())["next_offset"] == 2
            await transactional.commit_transaction()
            await feed.until_read({0: 7})

    assert await feed.events() == 6


@ONE_PARTITION
async def test_compacted_offsets_are_a_hole(feed: Feed, admin: AIOKafkaAdminClient) -> None:
    compacted = Topic(name=f"{feed.name}.compacted", partitions=1)
    configs = {
        "cleanup.policy": "compact",
        "segment.ms": "100",
        "min.cleanable.dirty.ratio": "0.01",
        "max.compaction.lag.ms": "100",
    }
    await admin.create_topics([NewTopic(compacted.name, 1, 1, topic_configs=configs)])
    for number in range(6):
        value = msgspec.json.encode(raw_event(number))
        await feed.producer.send_and_wait(compacted.name, value, key=b"same")
    settings = settings_for(feed.database, compacted, feed.bootstrap_servers)

    async with GrouplessClient(settings) as log:

        async def only_the_newest_is_left() -> bool:
            await feed.producer.send_and_wait(compacted.name, b"{}", key=b"another")
            return await log.offsets_with_records(compacted.name, 0, [(0, 6)]) == [5]

        await until(only_the_newest_is_left)
        end = (await log.offset_bounds([KafkaPartition(compacted.name, 0)]))[
            KafkaPartition(compacted.name, 0)
        ].end
    async with running(settings):
        await feed.watcher.until_read(compacted, {0: end})

    position = (await feed.watcher.positions(compacted))[0]
    assert position["records"] + position["holes"] == end
    assert position["holes"] >= 5
    await admin.delete_topics([compacted.name])


async def test_one_service_reads_several_topics(feed: Feed, admin: AIOKafkaAdminClient) -> None:
    second = Topic(name=f"{feed.name}.second", partitions=2)
    await admin.create_topics([NewTopic(second.name, second.partitions, 1)])
    await feed.send(range(6))
    await send(feed.producer, second, range(6, 12))
    settings = feed.settings(kafka_topics=(feed.name, second.name))

    async with running(settings):
        await feed.until_read({0: 2, 1: 2, 2: 2})
        await feed.watcher.until_read(second, {0: 3, 1: 3})

    assert await feed.events() == 12
    await admin.delete_topics([second.name])


@ONE_PARTITION
async def test_the_group_learns_a_position_after_a_failed_commit_and_without_a_batch(
    feed: Feed, admin: AIOKafkaAdminClient
) -> None:
    async def is_reported(group_id: str) -> bool:
        committed = await admin.list_consumer_group_offsets(group_id)
        return [at.offset for at in committed.values()] == [5]

    settings = feed.settings()
    async with running(settings) as service:
        commit = service._membership._reader.commit

        async def fail_once(offsets: dict[KafkaPartition, int], *, timeout_s: float) -> None:
            if 5 in offsets.values():
                service._membership._reader.commit = commit  # type: ignore[method-assign]
                raise BrokerUnavailableError("committing: RequestTimedOutError")
            await commit(offsets, timeout_s=timeout_s)

        service._membership._reader.commit = fail_once  # type: ignore[method-assign]
        await feed.send(range(5))
        await feed.until_read({0: 5})
        await until(lambda: is_reported(settings.kafka_group_id))

    other = f"{settings.kafka_group_id}.other"
    async with running(msgspec.structs.replace(settings, kafka_group_id=other)):
        await until(lambda: is_reported(other))


@ONE_PARTITION
async def test_a_fenced_process_leaves_the_partition_until_it_is_assigned_again(feed: Feed) -> None:
    settings = feed.settings(instance="zombie")
    partition = feed.partition()

    async with running(settings) as zombie:
        await feed.until_claimed()
        async with Store(feed.database.url, owner="younger") as store:
            position = await feed.position()
            await store.claim_partition(
                feed.name, 0, cluster_id=position["cluster_id"], log_start=0
            )
        with structlog.testing.capture_logs() as lines:
            await feed.send(range(5))
            await until(lambda: partition in zombie.ownership.fenced_s_by_partition())
        assert zombie.ownership.unclaimed_partitions() == []
        assert (await feed.position())["owner"] == "younger"
        assert [line["event"] for line in lines if line["log_level"] == "warning"] == [
            "partition.fenced"
        ]

        await feed.read_to({0: 5}, msgspec.structs.replace(settings, instance="other"))

    assert zombie.counters.fenced == 1
    assert await feed.events() == 5


async def test_a_partition_that_is_nobodys_is_found_while_the_others_move(feed: Feed) -> None:
    """A claim that came too late fenced its owner, and nobody reads the partition."""
    settings = feed.settings(progress_timeout_s=2)
    async with running(settings) as service:
        await feed.until_claimed()
        position = await feed.position()
        async with Store(feed.database.url, owner="too late") as store:
            await store.claim_partition(
                feed.name, 0, cluster_id=position["cluster_id"], log_start=0
            )
        await feed.send(range(3))
        sent = 3

        async def read() -> bool:
            nonlocal sent
            await feed.send(range(sent, sent + 1), partition=1)
            sent += 1
            return bool((await feed.position())["next_offset"] == 1)

        await until(read)

    assert service.counters.fenced == 1
    assert service.counters.rejoins == 1


async def test_a_claim_that_waits_is_given_up_when_the_partition_is_revoked(feed: Feed) -> None:
    """Late, it would fence the process that owns the partition by then."""
    one = feed.settings(instance="one")
    await feed.send(range(9))
    await feed.read_to({0: 3, 1: 3, 2: 3}, one)

    async with watching(feed.database.url) as other:
        lock = other.connection.transaction()
        await lock.start()
        await other.connection.execute("select * from normalizer.source_positions for update")
        async with running(one) as first:
            await feed.until_blocked()
            async with running(msgspec.structs.replace(one, instance="two")) as second:
                await until(lambda: len(second._membership._reader.assigned) in {1, 2})
                await lock.rollback()
                await feed.until_owned({"one", "two"})
                await feed.send(range(9, 18))
                await feed.until_read({0: 6, 1: 6, 2: 6})

    assert first.counters.fenced == second.counters.fenced == 0


@ONE_PARTITION
async def test_a_position_moved_by_hand_is_followed(feed: Feed) -> None:
    async with running(feed.settings()) as service:
        await feed.send(range(2))
        await feed.until_read({0: 2})
        await feed.connection.execute(
            """
            update normalizer.source_positions
            set    next_offset = next_offset + 3, holes = holes + 3
            where  topic = $1
            """,
            feed.name,
        )
        with structlog.testing.capture_logs() as lines:
            await feed.send(range(2, 10))
            await feed.until_read({0: 10})

    assert "partition.position_moved" in [line["event"] for line in lines]
    assert service.counters.fenced == 0
    assert await feed.events() == 7


@ONE_PARTITION
async def test_records_that_expired_unread_are_a_gap(
    feed: Feed, admin: AIOKafkaAdminClient
) -> None:
    settings = feed.settings()
    await feed.send(range(4))
    await feed.read_to({0: 4}, settings)
    await feed.send(range(4, 10))
    await admin.delete_records({TopicPartition(feed.name, 0): RecordsToDelete(before_offset=7)})

    with structlog.testing.capture_logs() as lines:
        async with running(settings) as service:
            await feed.until_read({0: 10})

    assert service.counters.gaps == 1
    (line,) = [line for line in lines if line["event"] == "partition.gap"]
    assert (line["first_offset"], line["next_offset"]) == (4, 7)
    (gap,) = await feed.connection.fetch("select * from projector.gaps")
    assert (gap["first_offset"], gap["next_offset"], gap["reason"]) == (4, 7, "expired")
    assert service.ownership.last_expired_ranges == {feed.partition(): (4, 7)}
    position = await feed.position()
    assert (position["records"], position["holes"]) == (7, 3)


@ONE_PARTITION
async def test_records_that_expire_under_a_running_service_are_a_gap(
    feed: Feed, admin: AIOKafkaAdminClient
) -> None:
    async with running(feed.settings()) as service:
        await feed.send(range(2))
        await feed.until_read({0: 2})
        partition = feed.partition()
        service._membership._reader.stop_reading(partition)  # as slow as one wants
        await feed.send(range(2, 8))
        await admin.delete_records({TopicPartition(feed.name, 0): RecordsToDelete(before_offset=5)})
        service._membership._reader.start_reading(partition, incarnation=0, offset=2)
        await feed.until_read({0: 8})

    assert service.counters.gaps == 1
    position = await feed.position()
    assert (position["records"], position["holes"]) == (5, 3)


@ONE_PARTITION
@pytest.mark.parametrize(
    ("records_after", "deleted"),
    [(9, False), (2, True)],
    ids=["longer, position", "shorter, deleted position"],
)
async def test_a_topic_recreated_stops_the_partition_until_reported(
    feed: Feed, admin: AIOKafkaAdminClient, records_after: int, *, deleted: bool
) -> None:
    settings = feed.settings()
    async with AIOKafkaProducer(bootstrap_servers=feed.bootstrap_servers) as producer:
        await send(producer, feed.topic, range(5))
    await feed.read_to({0: 5}, settings)
    await recreate_topic(admin, feed.topic)
    async with AIOKafkaProducer(bootstrap_servers=feed.bootstrap_servers) as producer:
        await send(producer, feed.topic, range(100, 100 + records_after))
    if deleted:
        await feed.connection.execute("delete from normalizer.source_positions")

    with structlog.testing.capture_logs() as lines:
        async with running(settings) as service:
            await until(lambda: bool(service.ownership.stop_reasons_by_partition))
    assert [line["event"] for line in lines if line["log_level"] == "error"] == [
        "partition.stopped"
    ]
    assert await feed.events() == 5
    assert (await feed.position())["next_offset"] == (0 if deleted else 5)

    async with running(settings, accept_reset=True):
        await feed.until_claimed(incarnation=1)
        await feed.until_read({0: records_after})
    async with running(settings):
        await feed.until_claimed(incarnation=1, epoch=2)

    assert await feed.events() == 5 + records_after
    assert (await feed.position())["incarnation"] == 1


@ONE_PARTITION
async def test_sigterm_ends_the_process_in_order(feed: Feed) -> None:
    settings = feed.settings()
    await feed.send(range(20))
    async with process(settings) as service:
        await feed.until_read({0: 20})
        service.terminate()
        said, _ = await service.communicate()

    assert service.returncode == 0
    lines = [json.loads(line) for line in said.splitlines()]
    assert [line["event"] for line in lines if "library" not in line] == [
        "core.chosen",
        "consumer.listening",
        "consumer.started",
        "group.partitions_assigned",
        "group.partitions_claimed",
        "consumer.stopping",
        "consumer.stopped",
    ]
    assert lines[-1]["stored"] == 20
    async with GrouplessClient(settings) as log:
        assert await log.group_state_and_size(settings.kafka_group_id) == ("Empty", 0)


@ONE_PARTITION
async def test_a_log_that_cannot_be_written_stops_nothing(feed: Feed) -> None:
    settings = feed.settings()
    await feed.send(range(20))
    full = os.open("/dev/full", os.O_WRONLY)
    async with process(settings, log=full) as service:
        os.close(full)
        await feed.until_read({0: 20})
        service.terminate()
        await service.wait()

    assert service.returncode == 0


@ONE_PARTITION
async def test_a_second_signal_ends_the_process_at_once(feed: Feed) -> None:
    settings = feed.settings()
    async with process(settings) as service, watching(feed.database.url) as other:
        await feed.until_claimed()
        async with other.connection.transaction():
            await other.connection.execute("lock table normalizer.events")
            await feed.send(range(5))
            await feed.until_blocked()
            service.send_signal(signal.SIGTERM)
            await until_said(service, "consumer.stopping")
            service.send_signal(signal.SIGTERM)
            await asyncio.wait_for(service.wait(), timeout=20)

    assert service.returncode == 130
    await feed.read_to({0: 5}, settings)
    assert await feed.events() == 5


@ONE_PARTITION
async def test_a_batch_past_the_deadline_is_rolled_back(feed: Feed) -> None:
    settings = feed.settings(stop_timeout_s=1)
    with structlog.testing.capture_logs() as lines:
        async with watching(feed.database.url) as other:
            async with running(settings) as service:
                await feed.until_claimed()
                lock = other.connection.transaction()
                await lock.start()
                await other.connection.execute("lock table normalizer.events")
                await feed.send(range(5))
                await feed.until_blocked()
                service.stop()
            await lock.rollback()

    assert "consumer.deadline_passed" in [line["event"] for line in lines]
    assert await feed.events() == 0
    await feed.read_to({0: 5}, settings)
    assert await feed.events() == 5


@ONE_PARTITION
async def test_a_stop_that_takes_long_is_no_loop_that_hangs(feed: Feed) -> None:
    settings = feed.settings(stop_timeout_s=20)
    async with watching(feed.database.url) as other, running(settings) as service:
        await feed.until_claimed()
        async with other.connection.transaction():
            await other.connection.execute("lock table normalizer.events")
            await feed.send(range(5))
            await feed.until_blocked()
            service.stop()
            begun_s = time.monotonic()
            await until(lambda: time.monotonic() > begun_s + 2)
            age_s = service.heartbeat.age_s()

    assert age_s < 1.5
    assert await feed.events() == 5


@ONE_PARTITION
async def test_a_reader_that_locks_up_merges_again(feed: Feed) -> None:
    settings = feed.settings(progress_timeout_s=3)
    async with running(settings) as service:
        await feed.until_claimed()
        lock_up(service._membership._reader)
        with structlog.testing.capture_logs() as lines:
            await feed.send(range(5))
            await feed.until_read({0: 5})

    assert service.counters.rejoins == 1
    assert "group.rejoining" in [line["event"] for line in lines]


async def test_claims_that_take_long_are_no_lack_of_progress(feed: Feed) -> None:
    settings = feed.settings(progress_timeout_s=5)
    await feed.send(range(9))
    await feed.read_to({0: 3, 1: 3, 2: 3}, settings)

    async with watching(feed.database.url) as other:
        lock = other.connection.transaction()
        await lock.start()
        await other.connection.execute("select * from normalizer.source_positions for update")
        with structlog.testing.capture_logs() as lines:
            async with running(settings) as service:
                await until(lambda: any(line["event"] == "outage.began" for line in lines))
                await lock.rollback()
                await feed.send(range(9, 18))
                await feed.until_read({0: 6, 1: 6, 2: 6})

    assert service.counters.rejoins == 0


@ONE_PARTITION
async def test_fetched_records_are_written_before_the_group_is_rejoined(feed: Feed) -> None:
    """It would be read a second time otherwise."""
    async with running(feed.settings()) as service:
        fetch, offsets = service._membership._reader.fetch, list[int]()

        async def fail_once(partitions: Any, **options: Any) -> Any:
            if partitions and offsets == [0, 1]:
                offsets.append(-1)
                message = "the group is in trouble"
                raise BrokerUnavailableError(message)
            chunks = await fetch(partitions, **options)
            offsets.extend([record.offset for chunk in chunks for record in chunk.records])
            return chunks

        service._membership._reader.fetch = fail_once  # type: ignore[method-assign]
        await feed.send(range(1))
        await feed.until_read({0: 1})
        await feed.send(range(1, 2))
        await feed.until_claimed(epoch=2)
        await feed.until_read({0: 2})

    assert service.counters.rejoins == 1
    assert offsets == [0, 1, -1]


@ONE_PARTITION
async def test_the_group_is_joined_again_also_where_only_the_claims_see_its_trouble(
    feed: Feed,
) -> None:
    async with running(feed.settings()) as service:
        await feed.until_claimed()
        fetch, failed = service._membership._reader.fetch, list[bool]()

        async def fail_once(partitions: Any, **options: Any) -> Any:
            if not partitions and not failed:
                failed.append(True)
                message = "the group is in trouble"
                raise BrokerUnavailableError(message)
            return await fetch(partitions, **options)

        with structlog.testing.capture_logs() as lines:
            service._membership._reader.fetch = fail_once  # type: ignore[method-assign]
            await feed.until_claimed(epoch=2)

    assert service.counters.rejoins == 1
    said = [line["why"] for line in lines if line["event"] == "group.rejoining"]
    assert said == ["the group is in trouble"]


@ONE_PARTITION
async def test_a_rebalance_that_does_not_end_is_begun_again(feed: Feed) -> None:
    """As after a client has hung in it. The first try is a rejoin, not the process's end."""
    settings = feed.settings(progress_timeout_s=2)
    async with running(settings) as service:
        for _ in range(2):
            await until(lambda: bool(service.ownership.current_claims))
            service._membership._reader.rebalancing = True
            await until(lambda: not service._membership._reader.rebalancing)

    assert service.counters.rejoins == 2


@ONE_PARTITION
async def test_a_reader_that_stays_locked_up_ends_the_process(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = feed.settings(progress_timeout_s=2)
    service = Service(settings)
    ended = asyncio.create_task(service.run())
    await feed.until_claimed()
    start = service._membership._reader.join_group

    async def start_locked_up() -> None:
        await start()
        lock_up(service._membership._reader)

    monkeypatch.setattr(service._membership._reader, "join_group", start_locked_up)
    lock_up(service._membership._reader)
    await feed.send(range(5))

    with pytest.raises(RestartNeededError, match="did not help"):
        await asyncio.wait_for(ended, timeout=60)


async def test_a_task_that_ends_by_itself_ends_the_process(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a future of a client that was cancelled: a group of tasks says nothing of it."""
    service = Service(feed.settings())
    ended = asyncio.create_task(service.run())
    await feed.until_claimed()

    async def verify_logs() -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(service._membership._claims, "verify_logs", verify_logs)
    service._membership._verification_due.set()

    with pytest.raises(RestartNeededError, match="the task 'verification' ended unexpectedly"):
        await asyncio.wait_for(ended, timeout=20)


@ONE_PARTITION
async def test_the_last_rejections_are_logged_although_a_fatal_error_ends_the_service(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first rejection is logged at once, and those of the next ten seconds in one line."""
    service = Service(feed.settings())
    monkeypatch.setattr(service.observer._rejections, "_clock", lambda: 0.0)

    async def verify_logs() -> None:
        raise FatalError("the end of this test")

    with structlog.testing.capture_logs() as lines:
        ended = asyncio.create_task(service.run())
        for number in range(2):
            await feed.send_value(b"[1]")
            await feed.until_read({0: number + 1})
        monkeypatch.setattr(service._membership._claims, "verify_logs", verify_logs)
        service._membership._verification_due.set()
        with pytest.raises(FatalError, match="the end of this test"):
            await asyncio.wait_for(ended, timeout=20)

    logged = [line["first"]["record"] for line in lines if line["event"] == "record.rejected"]
    assert logged == [f"{feed.name}[0]@0", f"{feed.name}[0]@1"]


async def test_a_stopped_partition_is_looked_at_again_when_it_is_assigned_again(feed: Feed) -> None:
    """It may be sound by now: another process that had it meanwhile made it so."""
    one = feed.settings(instance="one")
    async with running(one) as service:
        await feed.send(range(9))
        await feed.until_read({0: 3, 1: 3, 2: 3})
        for partition in service._membership._reader.assigned:
            service.ownership.stop_partition(
                partition, PositionMovedError("test", topic=feed.name, partition=0)
            )
        await feed.send(range(9, 18))
        async with running(msgspec.structs.replace(one, instance="two")):
            await feed.until_owned({"one", "two"})
        await feed.until_read({0: 6, 1: 6, 2: 6})

    assert service.ownership.stop_reasons_by_partition == {}
    assert await feed.events() == 18


def lock_up(reader: Any) -> None:
    async def nothing(*_: object, timeout_ms: int, **__: object) -> dict[str, object]:
        await asyncio.sleep(timeout_ms / 1000)
        return {}

    reader._consumer.getmany = nothing


async def until_said(service: asyncio.subprocess.Process, event: str) -> None:
    assert service.stdout
    async with asyncio.timeout(30):
        async for line in service.stdout:
            if json.loads(line)["event"] == event:
                return


async def test_a_log_of_which_the_broker_gives_nothing_stops_its_partition_and_no_process(
    feed: Feed, stack: Stack
) -> None:
    """As after a fault of a disk: the batch says that it is longer than its file."""
    for number in range(2):
        await feed.send(range(number, number + 1), partition=0)
    file = await stack.kafka_folder() / "log" / f"{feed.name}-0" / f"{0:020}.log"
    batches = bytearray(file.read_bytes())
    second = 12 + int.from_bytes(batches[8:12])
    batches[second + 8 : second + 12] = (1 << 20).to_bytes(4)
    with file.open("r+b") as log:
        log.write(batches)

    settings = feed.settings(progress_timeout_s=2)
    async with running(settings) as service:
        await until(lambda: bool(service.ownership.stop_reasons_by_partition))
        await feed.send(range(10, 12), partition=1)
        await feed.until_read({0: 1, 1: 2})
        (why,) = service.ownership.stop_reasons_by_partition.values()

    assert f"{feed.name}[0]@1: the batch there cannot be read" in why
