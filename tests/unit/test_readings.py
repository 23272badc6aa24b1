"""Which answers of brokers hang together, and what puts a log in doubt: each partition apart."""

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
from aiokafka.protocol.metadata import MetadataRequest

from normalizer.kafka import Partition
from normalizer.kafka.readings import UNHEARD_MS, Reading, Readings, wall_ms

ZERO, ONE, OTHER = Partition("t", 0), Partition("t", 1), Partition("other", 0)
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


def readings_of(client: Client) -> tuple[Readings, list[str]]:
    calls: list[str] = []
    readings = Readings(lambda: calls.append("doubt"))
    readings |= {one: Reading(0, 5, None, wall_ms()) for one in (ZERO, ONE, OTHER)}
    readings.listen(client)
    return readings, calls


def doubted(readings: Readings) -> set[Partition]:
    return {doubt.partition for doubt in readings.in_doubt()}


async def test_answers_over_one_connection_hang_together() -> None:
    client: Any = Client(0, 0)
    readings, calls = readings_of(client)

    for _ in range(3):
        await client.send(1, FETCH)

    assert (doubted(readings), calls) == (set(), [])
    assert readings.is_trusted(ZERO)


async def test_a_fetch_that_failed_doubts_what_it_asked_for() -> None:
    client: Any = Client(error=KafkaConnectionError())
    readings, calls = readings_of(client)

    with pytest.raises(KafkaConnectionError):
        await client.send(1, FETCH)

    assert (doubted(readings), calls) == ({ZERO, ONE}, ["doubt"])
    assert not readings.is_trusted(ONE)


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
    error: Any, expected: set[Partition]
) -> None:
    client: Any = Client(0, error.errno)
    readings, _ = readings_of(client)

    await client.send(1, FETCH)

    assert doubted(readings) == expected


async def test_an_answer_over_another_connection_is_a_doubt() -> None:
    client: Any = Client(0)
    readings, _ = readings_of(client)
    await client.send(1, FETCH)
    client.reconnect()

    await client.send(1, FETCH)

    assert doubted(readings) == {ZERO}


async def test_a_lost_connection_is_one_doubt() -> None:
    client: Any = Client(0)
    readings, _ = readings_of(client)
    await client.send(1, FETCH)
    client.error = KafkaConnectionError()
    with pytest.raises(KafkaConnectionError):
        await client.send(1, FETCH)
    (doubt, _) = readings.in_doubt()
    client.error = None
    client.reconnect()

    await client.send(1, FETCH)
    readings.trust(doubt, compared_ms=wall_ms())

    assert readings.is_trusted(ZERO)


async def test_other_requests_may_fail() -> None:
    client: Any = Client(error=KafkaConnectionError())
    readings, _ = readings_of(client)

    with pytest.raises(KafkaConnectionError):
        await client.send(1, MetadataRequest([]))

    assert doubted(readings) == set()


@pytest.mark.parametrize(
    ("passed_ms", "is_doubted"),
    [(UNHEARD_MS, False), (UNHEARD_MS + 1, True), (-UNHEARD_MS - 1, True)],
)
def test_an_answer_after_a_silence_is_a_doubt(passed_ms: int, *, is_doubted: bool) -> None:
    readings = Readings(lambda: None)
    readings[ZERO] = Reading(0, 5, None, 10_000)

    readings.hear(ZERO, 10_000 + passed_ms)

    assert bool(readings.in_doubt()) is is_doubted


def test_a_doubt_that_came_while_the_log_was_compared_stays() -> None:
    readings = Readings(lambda: None)
    readings[ZERO] = Reading(0, 5, None, 10_000)
    readings.doubt([ZERO])
    (first,) = readings.in_doubt()
    readings.doubt([ZERO])

    readings.trust(first, compared_ms=10_000)
    assert not readings.is_trusted(ZERO)

    readings.trust(readings.in_doubt()[0], compared_ms=10_000)
    assert readings.is_trusted(ZERO)


def test_a_comparison_that_takes_long_is_no_silence() -> None:
    """The broker answered all the while that its log was compared."""
    readings = Readings(lambda: None)
    readings[ZERO] = Reading(0, 5, None, 10_000)
    readings.doubt([ZERO])
    (doubt,) = readings.in_doubt()
    for at_ms in range(10_500, 14_000, 500):
        readings.hear(ZERO, at_ms)

    readings.trust(doubt, compared_ms=10_000)
    readings.hear(ZERO, 14_000)

    assert readings.is_trusted(ZERO)


def test_a_comparison_ends_a_silence() -> None:
    readings = Readings(lambda: None)
    readings[ZERO] = Reading(0, 5, None, 10_000)
    readings.hear(ZERO, 20_000)

    readings.trust(readings.in_doubt()[0], compared_ms=21_000)
    readings.hear(ZERO, 21_000 + UNHEARD_MS)

    assert readings.is_trusted(ZERO)
