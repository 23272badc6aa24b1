"""The million through two relays, with five kill -9 on the way.

With fewer events, to try it out (SOAK_EVENTS=40000), nothing is written.
"""

import asyncio
import signal
from pathlib import Path

import msgspec
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from normalizer.embedded import KafkaBroker
from normalizer.kafka.transactional_producer import TRANSACTION_TIMEOUT_MS
from normalizer.relay.kafka_store import relay_stores
from normalizer.runtime.backoff import wait_at_most
from tests.integration.simulator.test_simulator_soak import EVENTS, KILLS, MILLION, Timed
from tests.support.relay_runs import (
    PARTITIONS,
    assert_relayed_once,
    expected_lines,
    output_topics,
    relay_settings,
    relayed_lines,
    relayed_so_far,
    settings_of_command,
    until_relayed,
)
from tests.support.results import PrintLine, write_results
from tests.support.service_runs import process, running, until
from tests.support.simulator_runs import Pair, load_topic, traffic_mix
from tests.support.stack import Topic


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("topic", [6], indirect=True)
async def test_a_million_events_are_relayed_once_each(
    topic: Topic,
    bootstrap_servers: str,
    admin: AIOKafkaAdminClient,
    tmp_path: Path,
    say: PrintLine,
) -> None:
    timed = Timed(say)
    played = msgspec.structs.replace(traffic_mix(in_flight=2_000), partitions=topic.partitions)
    settings = relay_settings(topic, bootstrap_servers, kafka_session_timeout_ms=6_000)
    command = settings_of_command(settings)

    with timed("loading, with its ledger"):
        ends = await load_topic(played, EVENTS, topic, bootstrap_servers, tmp_path / "ledger")
    total = sum(ends.values())

    async def relay_to(offsets: int) -> None:
        while sum((await relayed_so_far(settings, ends)).values()) < offsets:
            at = sum((await relayed_so_far(settings, ends)).values())

            async def moved(at: int = at) -> bool:
                return sum((await relayed_so_far(settings, ends)).values()) > at

            await until(moved)

    async with output_topics(admin, settings, **{"retention.ms": "-1"}):
        with timed(f"relaying by two, {KILLS} kill -9 on the way"):
            async with Pair(command, "relay") as pair:
                for kill in range(1, KILLS + 1):
                    await relay_to(total * kill // (KILLS + 2))
                    await pair.kill_one()
                await relay_to(total)
        with timed("normalizing every record again, also by the filter's way"):
            expected = await expected_lines(bootstrap_servers, topic)
        with timed("reading both topics, read_committed"):
            found = await relayed_lines(bootstrap_servers, settings)

    as_filtered, expected.as_filtered = expected.as_filtered, 0
    assert found == expected
    if EVENTS < MILLION:
        return
    took_s = dict(timed.steps())
    relaying_s = next(seconds for what, seconds in took_s.items() if what.startswith("relaying"))
    write_results(
        "relay",
        'make soak ARGS="-k relayed_once_each"',
        {
            "records": f"{total:,}",
            "canonical records, none missing, none twice": f"{found.lines.total():,}",
            "of these, byte for byte as the filter gives them": f"{as_filtered:,}",
            "rejections": f"{found.reasons.total():,}",
            "relayed, with kills": f"{found.lines.total() / relaying_s:,.0f} events/s",
            **{what: f"{seconds:.0f} s" for what, seconds in took_s.items()},
        },
    )


@pytest.mark.soak
async def test_a_broker_killed_in_the_middle_of_transactions_loses_and_doubles_nothing(
    kafka_broker: KafkaBroker, tmp_path: Path
) -> None:
    servers = kafka_broker.bootstrap_servers
    topic = Topic(name="noetl.events", partitions=3)
    settings = relay_settings(topic, servers, batch_rows=100)
    keeping = {"retention.ms": "-1"}
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    await admin.create_topics(
        [
            NewTopic(topic.name, topic.partitions, 1, topic_configs=keeping),
            NewTopic(settings.kafka_canonical_topic, PARTITIONS, 1),
            NewTopic(settings.kafka_rejected_topic, PARTITIONS, 1),
        ]
    )
    await admin.close()
    ends = await load_topic(traffic_mix(), 4_000, topic, servers, tmp_path / "ledger")

    async with running(settings, open_stores=relay_stores):
        await until_relayed(settings, {0: 200})
        await kafka_broker.kill()
        await kafka_broker.start()
        await until_relayed(settings, ends)

    await assert_relayed_once(servers, topic, settings)


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("topic", [1], indirect=True)
async def test_a_relay_frozen_for_longer_than_its_transaction_may_last_goes_on_by_itself(
    topic: Topic, bootstrap_servers: str, admin: AIOKafkaAdminClient, tmp_path: Path
) -> None:
    """The broker aborts the transaction, but the group still counts the relay as its member."""
    settings = relay_settings(
        topic, bootstrap_servers, batch_rows=50, kafka_session_timeout_ms=300_000
    )
    command = settings_of_command(settings)
    ends = await load_topic(traffic_mix(), 3_000, topic, bootstrap_servers, tmp_path / "ledger")

    async with output_topics(admin, settings):
        async with process(command, command="relay") as relay:
            await until_relayed(settings, {0: ends[0] // 4})
            relay.send_signal(signal.SIGSTOP)
            await wait_at_most(asyncio.Event(), TRANSACTION_TIMEOUT_MS / 1000 + 20)
            relay.send_signal(signal.SIGCONT)
            await until_relayed(settings, ends)

        await assert_relayed_once(bootstrap_servers, topic, settings)
