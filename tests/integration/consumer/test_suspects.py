"""A killed owner costs its partitions seconds. A record that kills is named, and costs itself."""

import asyncio
import signal
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import structlog
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from normalizer.cli.check import run_checks
from normalizer.config.settings import Settings
from normalizer.consumer import partition_claimer
from normalizer.embedded.free_ports import choose_and_store_ports
from normalizer.errors import BrokerUnavailableError
from normalizer.kafka import GrouplessClient, KafkaPartition, find_log_mismatch
from normalizer.relay.relay_positions import UNKNOWN_POSITION, parse_relay_position
from normalizer.store.store import Store
from tests.chaos.points import POINTS, gate_at
from tests.support.deadly_records import DEADLY
from tests.support.factories import raw_event
from tests.support.feed import Feed
from tests.support.lossy_proxy import Proxy
from tests.support.probe_client import http_get
from tests.support.relay_runs import (
    GROUP,
    output_topics,
    relay_settings,
    relayed_lines,
    relayed_so_far,
    until_relayed,
)
from tests.support.results import PrintLine
from tests.support.service_runs import process, running
from tests.support.stack import Topic
from tests.support.waiting import moment, until

ONE_PARTITION: Final = pytest.mark.parametrize("topic", [1], indirect=True)
TWO_PARTITIONS: Final = pytest.mark.parametrize("topic", [2], indirect=True)
TWELVE_PARTITIONS: Final = pytest.mark.parametrize("topic", [12], indirect=True)
BACKLOG: Final = 3_600
TRIES: Final = 3
NAME: Final = "one"
"""The next process of this name takes the killed one's place in the group at once."""


async def send_backlog(feed: Feed, first: int) -> dict[int, int]:
    """Send records to all partitions. Returns where each of them ends."""
    await feed.send(range(first, first + BACKLOG))
    partitions = feed.topic.partitions
    return dict.fromkeys(range(partitions), (first + BACKLOG) // partitions)


async def reading_s(feed: Feed) -> float:
    """From the first claim of the last process to its last commit, by the clock of the database."""
    found: float = await feed.connection.fetchval(
        """
        select extract(epoch from max(committed_at) - min(claimed_at))::double precision
        from   normalizer.source_positions
        where  topic = $1
        """,
        feed.name,
    )
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "topic", [12, pytest.param(200, marks=pytest.mark.soak)], indirect=True, ids=["12", "200"]
)
async def test_backlog_after_three_kills_takes_at_most_twice_its_calm_time_plus_5_s(
    feed: Feed, say: PrintLine
) -> None:
    (before_insert,) = (point for point in POINTS if point.name == "before the insert")
    settings = feed.settings(instance=NAME)
    ends = await send_backlog(feed, 0)
    async with process(settings):
        await feed.until_read(ends)
    calm_s = await reading_s(feed)

    ends = await send_backlog(feed, BACKLOG)
    async with gate_at(before_insert, feed.database) as gate:
        for _ in range(3):
            async with process(settings) as killed:
                await gate.until_somebody_waits()
                killed.kill()
                await killed.wait()
            await until(gate.somebody_waits, is_so=lambda waits: not waits)
    async with process(settings):
        await feed.until_read(ends)
    after_s = await reading_s(feed)

    say(f"{len(ends)} partitions: calm {calm_s:.1f} s, after three kills {after_s:.1f} s")
    assert after_s <= 2 * calm_s + 5


@TWO_PARTITIONS
async def test_suspect_is_read_in_slices_of_1_2_4_records_beside_a_healthy_partition(
    feed: Feed,
) -> None:
    async with GrouplessClient(feed.settings()) as log:
        cluster_id = await log.cluster_id()
    await feed.send(range(40))
    async with Store(feed.database.url, owner="killed") as killed:
        await killed.claim_partition(feed.name, 0, cluster_id=cluster_id, log_start=0, log_end=20)

    with structlog.testing.capture_logs() as lines:
        async with running(feed.settings()) as service:
            await feed.until_read({0: 20, 1: 20})
            await until(suspects_in(service), is_so=lambda found: not found)

    rows = await feed.connection.fetch(
        """
        select   array_agg(count order by batch_id) as sizes
        from     (
                     select source_partition, batch_id, count(*)
                     from normalizer.events group by source_partition, batch_id
                 ) as counted
        group by source_partition order by source_partition
        """
    )
    assert rows[0]["sizes"] == [1, 2, 4, 8, 5]
    assert rows[1]["sizes"] != rows[0]["sizes"]
    claimed = [line for line in lines if line["event"] == "group.partitions_claimed"]
    assert [one for line in claimed for one in line["suspects"]] == [f"{feed.partition(0)}"]
    assert {one["slice_records"] for one in (await feed.positions()).values()} == {None}


def suspects_in(service: Any) -> Any:
    async def found() -> list[KafkaPartition]:
        return [*service.ownership.suspects]

    return found


def suspects_among(lines: Any) -> list[str]:
    """Every suspect of these log lines."""
    claimed = [line for line in lines if line["event"] == "group.partitions_claimed"]
    assert claimed
    return [one for line in claimed for one in line["suspects"]]


@ONE_PARTITION
async def test_owners_that_stop_in_order_before_they_read_anything_leave_no_suspect(
    feed: Feed,
) -> None:
    (before_insert,) = (point for point in POINTS if point.name == "before the insert")
    settings = feed.settings(stop_timeout_s=1)
    await feed.send(range(5))
    async with gate_at(before_insert, feed.database) as gate:
        for _ in range(TRIES):
            async with process(settings) as stopped:
                await gate.until_somebody_waits()
                stopped.send_signal(signal.SIGTERM)
                assert await stopped.wait() == 0
            assert (await feed.position())["holder"] is None

    with structlog.testing.capture_logs() as lines:
        await feed.read_to({0: 5}, settings)

    assert suspects_among(lines) == []


@ONE_PARTITION
async def test_process_that_joins_again_and_again_has_no_suspect(feed: Feed) -> None:
    """It lives, so that no record has ended it: the brokers were in trouble."""
    await feed.send(range(5))
    tries: list[int] = []
    with structlog.testing.capture_logs() as lines:
        async with running(feed.settings()) as service:
            fetch = service._membership._reader.fetch

            async def in_trouble(partitions: Any, **options: Any) -> Any:
                if partitions and len(tries) <= TRIES:
                    tries.append(service.ownership.current_claims[next(iter(partitions))].epoch)
                    message = "the group is in trouble"
                    raise BrokerUnavailableError(message)
                return await fetch(partitions, **options)

            service._membership._reader.fetch = in_trouble  # type: ignore[method-assign]
            await feed.until_read({0: 5})

    assert tries[-1] >= TRIES
    assert suspects_among(lines) == []


@ONE_PARTITION
async def test_process_whose_claims_came_to_nothing_has_no_suspect(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a leader says where its log ends, but does not give the last record to compare."""
    await feed.send(range(5))
    tries: list[KafkaPartition] = []

    async def away(kafka: Any, partition: KafkaPartition, *arguments: Any, **options: Any) -> Any:
        tries.append(partition)
        if len(tries) < TRIES:
            message = "the leader is unreachable"
            raise BrokerUnavailableError(message)
        return await find_log_mismatch(kafka, partition, *arguments, **options)

    monkeypatch.setattr(partition_claimer, "find_log_mismatch", away)
    with structlog.testing.capture_logs() as lines:
        await feed.read_to({0: 5}, feed.settings())

    assert (await feed.position())["epoch"] == TRIES
    assert suspects_among(lines) == []


@TWELVE_PARTITIONS
async def test_backlog_after_20_lost_commit_answers_takes_its_calm_time_and_has_no_suspect(
    feed: Feed, say: PrintLine
) -> None:
    """In claims and in batches, and the process lives."""
    settings = feed.settings()
    ends = await send_backlog(feed, 0)
    await feed.read_to(ends, settings)
    calm_s = await reading_s(feed)
    ends = await send_backlog(feed, BACKLOG)

    with structlog.testing.capture_logs() as lines:
        async with Proxy(feed.database.url) as proxy:
            lossy = msgspec.structs.replace(settings, database_url=proxy.url)
            proxy.lose(b"COMMIT;", "cut")
            async with running(lossy):
                for _ in range(20):
                    await proxy.lost.wait()
                    proxy.lose(b"COMMIT;", "cut")
                proxy.lose_no_more()
                began_s = asyncio.get_running_loop().time()
                await feed.until_read(ends)
                after_s = asyncio.get_running_loop().time() - began_s

    say(f"calm {calm_s:.1f} s, after 20 lost answers {after_s:.1f} s")
    assert suspects_among(lines) == []
    assert after_s <= 2 * calm_s + 5


async def reasons_about_kills(port: int) -> list[str]:
    """Return what /readyz says about records that are to blame, or nothing without an answer."""
    try:
        _, body = await http_get(f"http://127.0.0.1:{port}/readyz")
    except (OSError, HTTPException):
        return []
    return [reason for reason in body["degraded"] if "was killed" in reason]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("topic", [3], indirect=True)
async def test_record_that_kills_is_named_after_five_deaths_and_all_before_it_is_stored(
    feed: Feed, tmp_path: Path, say: PrintLine
) -> None:
    before = 2_000
    await feed.send(range(before), partition=0)
    deadly = msgspec.json.encode(raw_event(before, step=DEADLY))
    await feed.send_value(deadly)
    await feed.send(range(before + 1, before + 11), partition=0)
    for partition in (1, 2):
        first = partition * 10_000
        await feed.send(range(first, first + 1_500), partition=partition)
    port = choose_and_store_ports(tmp_path / "ports", ["http"])["http"]
    settings = feed.settings(http_port=port, instance=NAME)

    deaths, reasons = 0, list[str]()
    while not reasons:
        async with process(settings, program="tests.support.deadly_records") as killed:
            while killed.returncode is None and not reasons:
                reasons = await reasons_about_kills(port)
                await moment()
        deaths += not reasons
        assert deaths <= 5
    async with GrouplessClient(settings) as log:
        found = [finding async for finding in run_checks(settings, log)]

    say(f"{deaths} deaths: {reasons}")
    position = await feed.position()
    assert (position["next_offset"], position["stored"]) == (before, before)
    where = f"{feed.partition(0)}"
    words = f"a process was killed while it processed offset {before} and no other record"
    assert reasons == [f"partition {where}: {words}"]
    assert [one.message for one in found if one.about == f"position of {where}"] == [words]
    async with process(settings):
        await feed.until_read({0: before + 11, 1: 1_500, 2: 1_500})


async def holders(settings: Settings, topic: Topic) -> dict[int, str | None]:
    """Which relay has each partition, by its random name."""
    async with GrouplessClient(settings) as reader:
        partitions = [KafkaPartition(topic.name, one) for one in range(topic.partitions)]
        committed = await reader.committed_offsets(settings.kafka_group_id, partitions)
    found = {
        one.partition: parse_relay_position(at, UNKNOWN_POSITION) for one, at in committed.items()
    }
    return {partition: position.last_try.holder for partition, position in found.items()}


async def until_all_claimed(
    settings: Settings, topic: Topic, before: dict[int, str | None]
) -> dict[int, str | None]:
    """Wait until another relay than before has claimed every partition."""
    return await until(
        lambda: holders(settings, topic),
        is_so=lambda now: all(
            now.get(one) not in {None, before.get(one)} for one in range(topic.partitions)
        ),
        deadline_s=60,
    )


@pytest.mark.timeout(300)
@TWELVE_PARTITIONS
async def test_relayed_backlog_after_five_kills_takes_at_most_twice_its_calm_time_plus_5_s(
    feed: Feed, admin: AIOKafkaAdminClient, say: PrintLine
) -> None:
    """Killed between the claim and the first commit: the output takes no record meanwhile."""
    settings = relay_settings(feed.topic, feed.bootstrap_servers)
    group = settings.kafka_group_id.removesuffix(f".{GROUP}")
    command = msgspec.structs.replace(settings, kafka_group_id=group)
    loop = asyncio.get_running_loop()

    async def takes(replicas: int) -> None:
        name, configs = settings.kafka_canonical_topic, {"min.insync.replicas": str(replicas)}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs)])
        async with GrouplessClient(settings) as reader:
            await until(
                lambda: reader.read_topic_config(name),
                is_so=lambda found: bool(found and configs.items() <= found.items()),
            )

    async with output_topics(admin, settings):
        ends = await send_backlog(feed, 0)
        async with process(command, command="relay"):
            claimed = await until_all_claimed(settings, feed.topic, {})
            began_s = loop.time()
            await until_relayed(settings, ends)
            calm_s = loop.time() - began_s

        ends = await send_backlog(feed, BACKLOG)
        await takes(2)
        for _ in range(5):
            async with process(command, command="relay") as killed:
                claimed = await until_all_claimed(settings, feed.topic, claimed)
                killed.kill()
                await killed.wait()
        assert sum((await relayed_so_far(settings, ends)).values()) < sum(ends.values())
        await takes(1)
        async with process(command, command="relay"):
            await until_all_claimed(settings, feed.topic, claimed)
            began_s = loop.time()
            await until_relayed(settings, ends)
            after_s = loop.time() - began_s

        say(f"calm {calm_s:.1f} s, after five kills {after_s:.1f} s")
        assert (await relayed_lines(feed.bootstrap_servers, settings)).lines.total() == 2 * BACKLOG
    assert after_s <= 2 * calm_s + 5
