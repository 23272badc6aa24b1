"""Two consumer groups that read a topic into one database: both are named, and one reads."""

import contextlib

import msgspec
import pytest
import structlog

from normalizer.cli.check import run_checks
from normalizer.kafka import GrouplessClient
from tests.integration.monitoring.test_monitoring_server import monitored
from tests.support.feed import Feed
from tests.support.probe_client import http_get
from tests.support.service_runs import until

TWO_PARTITIONS = pytest.mark.parametrize("topic", [2], indirect=True)


@TWO_PARTITIONS
async def test_a_second_group_leaves_the_partitions_to_the_first_and_names_both(
    feed: Feed,
) -> None:
    settings = feed.settings(instance="reader", progress_timeout_s=2)
    group = settings.kafka_group_id
    other = msgspec.structs.replace(settings, kafka_group_id=f"{group}.2", instance="late")
    names = f"{feed.name}[0], {feed.name}[1]"

    async def degraded(url: str) -> list[str]:
        _, body = await http_get(f"{url}/readyz")
        assert body["ready"], body
        found: list[str] = body["degraded"]
        return found

    with structlog.testing.capture_logs() as lines:
        async with contextlib.AsyncExitStack() as first:
            reader, _ = await first.enter_async_context(monitored(settings))
            await until(lambda: len(reader.ownership.current_claims) == 2)
            async with monitored(other) as (late, url):
                await until(lambda: bool(late.ownership.other_group_partitions_by_reason))
                await feed.send(range(10))
                await feed.until_read({0: 5, 1: 5})
                reasons = await degraded(url)
                async with GrouplessClient(other) as log:
                    failed = [one async for one in run_checks(other, log) if one.is_failure]
                await first.aclose()
                await feed.send(range(10, 20))
                await feed.until_read({0: 10, 1: 10})
                assert await degraded(url) == []

    remedy = (
        "Use one KAFKA_GROUP_ID for one database. Before you change it, stop every process of "
        f"group {group}"
    )
    why = (
        f"consumer group {group}, whose process reader was alive within the last 10 s, while this "
        f"process is in group {group}.2. {remedy}"
    )
    assert reasons == [f"partitions {names} are left to {why}"]
    assert [
        (one["event"], one["partitions"], one["why"])
        for one in lines
        if one["event"] in {"group.another_reads", "partition.fenced", "record.blamed"}
    ] == [("group.another_reads", names.split(", "), why)]
    assert [(one.about, one.message, one.remedy) for one in failed] == [
        (
            f"group {group}.2",
            f"consumer group {group} (process reader) reads {names} into this database",
            remedy,
        )
    ]
    assert late.counters.rejoins == 0
    assert await feed.events() == 20
