"""Which answers of brokers hang together, and what puts a log in doubt: each partition apart."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.client import ConnectionGroup
from aiokafka.errors import (
    KafkaConnectionError,
    NotLeaderForPartitionError,
    OffsetOutOfRangeError,
    UnknownError,
    UnknownTopicOrPartitionError,
)
from aiokafka.protocol.fetch import FetchRequest

from normalizer.kafka import KafkaPartition
from normalizer.kafka.client_setup import RETRY_BACKOFF_S
from normalizer.kafka.fetch_positions import (
    MAX_FETCH_SILENCE_MS,
    FetchPosition,
    FetchPositions,
    wall_clock_ms,
)

ZERO, ONE, OTHER = KafkaPartition("t", 0), KafkaPartition("t", 1), KafkaPartition("other", 0)
FETCH = FetchRequest(500, 1, 1, 1, [("t", [(0, 5, 1), (1, 5, 1)])], rack_id="")


class Client:
    """Answers every fetch of node 1 with these error codes, or fails with this error."""

    def __init__(self, *codes: int, error: Exception | None = None) -> None:
        self.codes = codes
        self.error = error
        self._conns = {(1, ConnectionGroup.DEFAULT): object()}

    def reconnect(self) -> None:
        self._conns[1, ConnectionGroup.DEFAULT] = object()

    async def send(self, *_: Any) -> Any:
        if self.error:
            raise self.error
        return SimpleNamespace(topics=[("t", [(at, code) for at, code in enumerate(self.codes)])])


def listen_to(client: Client) -> tuple[FetchPositions, list[str]]:
    calls: list[str] = []
    fetch_positions = FetchPositions(lambda: calls.append("doubt"))
    fetch_positions |= {
        one: FetchPosition(0, 5, None, wall_clock_ms()) for one in (ZERO, ONE, OTHER)
    }
    fetch_positions.watch_responses(client)
    return fetch_positions, calls


def doubted(fetch_positions: FetchPositions) -> set[KafkaPartition]:
    return {doubt.partition for doubt in fetch_positions.unverified_partitions()}


async def test_answers_over_one_connection_hang_together() -> None:
    client: Any = Client(0, 0)
    fetch_positions, calls = listen_to(client)

    for _ in range(3):
        await client.send(1, FETCH)

    assert (doubted(fetch_positions), calls) == (set(), [])
    assert fetch_positions.position_if_verified(ZERO)


async def test_a_fetch_that_failed_doubts_what_it_requested() -> None:
    client: Any = Client(error=KafkaConnectionError())
    fetch_positions, calls = listen_to(client)

    with pytest.raises(KafkaConnectionError):
        await client.send(1, FETCH)

    assert (doubted(fetch_positions), calls) == ({ZERO, ONE}, ["doubt"])
    assert not fetch_positions.position_if_verified(ONE)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OffsetOutOfRangeError, {ONE}),
        (UnknownError, {ONE}),
        (NotLeaderForPartitionError, {ZERO, ONE}),
        (UnknownTopicOrPartitionError, {ZERO, ONE}),
    ],
)
async def test_an_error_of_a_partition_doubts_it_and_one_of_the_topic_all_of_that(
    error: Any, expected: set[KafkaPartition]
) -> None:
    client: Any = Client(0, error.errno)
    fetch_positions, _ = listen_to(client)

    await client.send(1, FETCH)

    assert doubted(fetch_positions) == expected


@pytest.mark.parametrize("error", [NotLeaderForPartitionError, UnknownError])
async def test_a_fetch_that_was_refused_is_not_repeated_at_once(error: Any) -> None:
    refused: Any = Client(0, error.errno)
    listen_to(refused)
    loop = asyncio.get_running_loop()

    began_s = loop.time()
    for _ in range(2):
        await refused.send(1, FETCH)

    assert loop.time() - began_s > 1.9 * RETRY_BACKOFF_S


async def test_an_answer_over_another_connection_is_a_doubt() -> None:
    client: Any = Client(0)
    fetch_positions, _ = listen_to(client)
    await client.send(1, FETCH)
    client.reconnect()

    await client.send(1, FETCH)

    assert doubted(fetch_positions) == {ZERO}


async def test_a_lost_connection_is_one_doubt() -> None:
    client: Any = Client(0)
    fetch_positions, _ = listen_to(client)
    await client.send(1, FETCH)
    client.error = KafkaConnectionError()
    with pytest.raises(KafkaConnectionError):
        await client.send(1, FETCH)
    (doubt, _) = fetch_positions.unverified_partitions()
    client.error = None
    client.reconnect()

    await client.send(1, FETCH)
    fetch_positions.mark_verified(doubt, compared_ms=wall_clock_ms())

    assert fetch_positions.position_if_verified(ZERO)


@pytest.mark.parametrize(
    ("passed_ms", "is_doubted"),
    [
        (MAX_FETCH_SILENCE_MS, False),
        (MAX_FETCH_SILENCE_MS + 1, True),
        (-MAX_FETCH_SILENCE_MS - 1, True),
    ],
)
def test_an_answer_after_a_silence_is_a_doubt(passed_ms: int, *, is_doubted: bool) -> None:
    fetch_positions = FetchPositions(lambda: None)
    fetch_positions[ZERO] = FetchPosition(0, 5, None, 10_000)

    fetch_positions.note_response(ZERO, 10_000 + passed_ms)

    assert bool(fetch_positions.unverified_partitions()) is is_doubted


def test_a_doubt_that_came_while_the_log_was_compared_stays() -> None:
    fetch_positions = FetchPositions(lambda: None)
    fetch_positions[ZERO] = FetchPosition(0, 5, None, 10_000)
    fetch_positions.mark_unverified([ZERO])
    (first,) = fetch_positions.unverified_partitions()
    fetch_positions.mark_unverified([ZERO])

    fetch_positions.mark_verified(first, compared_ms=10_000)
    assert not fetch_positions.position_if_verified(ZERO)

    fetch_positions.mark_verified(fetch_positions.unverified_partitions()[0], compared_ms=10_000)
    assert fetch_positions.position_if_verified(ZERO)


def test_a_comparison_that_takes_long_is_no_silence() -> None:
    """The broker answered all the while that its log was compared."""
    fetch_positions = FetchPositions(lambda: None)
    fetch_positions[ZERO] = FetchPosition(0, 5, None, 10_000)
    fetch_positions.mark_unverified([ZERO])
    (doubt,) = fetch_positions.unverified_partitions()
    for at_ms in range(10_500, 14_000, 500):
        fetch_positions.note_response(ZERO, at_ms)

    fetch_positions.mark_verified(doubt, compared_ms=10_000)
    fetch_positions.note_response(ZERO, 14_000)

    assert fetch_positions.position_if_verified(ZERO)
