"""The size of the next request to a broker, by the time of its last answer."""

from types import SimpleNamespace

import pytest
from aiokafka.errors import RequestTimedOutError
from aiokafka.protocol.fetch import FetchRequest

from normalizer.kafka.fetch_sizes import (
    FIRST_FETCH_BYTES,
    MIN_BYTES_TO_REQUEST,
    TARGET_RESPONSE_S,
    FetchSizes,
    limit_fetch_sizes,
)

MOST_BYTES = 50 << 20
BROKER = 1


def read_over_a_link(sizes: FetchSizes, bytes_per_s: float, delay_s: float) -> list[float]:
    """How long each of twenty answers takes while more is unread than is requested."""
    took: list[float] = []
    for _ in range(20):
        requested = sizes.bytes_to_request(BROKER)
        took.append(delay_s + requested / bytes_per_s)
        sizes.note_response(BROKER, requested, took[-1])
    return took


@pytest.mark.parametrize("bytes_per_s", [70_000, 400_000, 3_000_000])
def test_over_a_slow_link_an_answer_takes_about_a_second(bytes_per_s: float) -> None:
    took = read_over_a_link(FetchSizes(MOST_BYTES), bytes_per_s, 0.4)

    assert max(took[:1]) < 16
    assert max(took[2:]) < 2 * TARGET_RESPONSE_S


def test_over_a_fast_link_all_that_the_setting_allows_is_requested_after_some_answers() -> None:
    sizes = FetchSizes(MOST_BYTES)
    assert sizes.bytes_to_request(BROKER) == FIRST_FETCH_BYTES

    read_over_a_link(sizes, 1e9, 0.001)

    assert sizes.bytes_to_request(BROKER) == MOST_BYTES
    assert sizes.bytes_to_request("another broker") == FIRST_FETCH_BYTES


class SlowClient:
    """A client whose answers hold what was requested, as a link of 400 kB/s brings them."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.requested: list[int] = []

    async def send(self, node_id: int, request: FetchRequest) -> SimpleNamespace:  # noqa: ARG002 - the client's signature
        self.requested.append(request._max_bytes)
        self.now_s += 0.4 + request._max_bytes / 400_000
        if self.now_s > 60 and len(self.requested) == 1:
            raise RequestTimedOutError
        return SimpleNamespace(topics=[("t", [(0, 0, 9, None, bytes(request._max_bytes))])])


async def test_a_client_requests_what_fits_whatever_it_would_request_itself() -> None:
    client = SlowClient()
    limit_fetch_sizes(client, MOST_BYTES, clock=lambda: client.now_s)

    for _ in range(5):
        await client.send(BROKER, FetchRequest(500, 1, MOST_BYTES, 1, [("t", [(0, 0, 4 << 20)])]))

    assert client.requested[0] == FIRST_FETCH_BYTES
    assert all(size < 400_000 for size in client.requested[1:])


async def test_a_fetch_without_an_answer_makes_the_next_one_smaller() -> None:
    client = SlowClient()
    client.now_s = 60.0
    limit_fetch_sizes(client, MOST_BYTES, clock=lambda: client.now_s)
    request = FetchRequest(500, 1, MOST_BYTES, 1, [("t", [(0, 0, 4 << 20)])])

    with pytest.raises(RequestTimedOutError):
        await client.send(BROKER, request)
    await client.send(BROKER, request)

    assert client.requested == [FIRST_FETCH_BYTES, FIRST_FETCH_BYTES // 4]


def test_after_requests_without_an_answer_less_is_requested_but_not_nothing() -> None:
    sizes = FetchSizes(MOST_BYTES)

    sizes.note_failure(BROKER)
    assert sizes.bytes_to_request(BROKER) == FIRST_FETCH_BYTES // 4
    for _ in range(5):
        sizes.note_failure(BROKER)

    assert sizes.bytes_to_request(BROKER) == MIN_BYTES_TO_REQUEST
