"""Limits each fetch to what the link to its broker carries in about a second.

aiokafka always requests the same number of bytes. If the link is so slow that such a response takes
longer than the request timeout, the client would repeat the request endlessly without ever getting
a record. `limit_fetch_sizes` changes a client so that it adapts the size for each broker.
"""

import time
from collections.abc import Callable
from typing import Any, Final

from aiokafka.errors import KafkaError
from aiokafka.protocol.fetch import FetchRequest

TARGET_RESPONSE_S: Final = 1.0
"""How long a fetch response should take. Above two seconds, fetch_positions would take the slow
response for a silence, and compare the log."""
FIRST_FETCH_BYTES: Final = 1 << 20
MIN_BYTES_TO_REQUEST: Final = 64 << 10
"""The least bytes to request. With less, most time would be spent waiting. A broker returns at
least one whole batch anyway."""


class FetchSizes:
    """Chooses how many bytes to request from each broker, by how long its last response took."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes: dict[Any, int] = {}

    def bytes_to_request(self, broker: Any) -> int:
        """Return how many bytes to request from this broker next."""
        return self._bytes.get(broker, min(FIRST_FETCH_BYTES, self._most_bytes))

    def note_response(self, broker: Any, response_bytes: int, took_s: float) -> None:
        """Request less after a slow response, and twice as much after a fast one that was full.

        A fast response that wasn't full says nothing about the link, because the broker may simply
        have had no more records. So it changes nothing.
        """
        requested = self.bytes_to_request(broker)
        if took_s > TARGET_RESPONSE_S and response_bytes > MIN_BYTES_TO_REQUEST:
            fits = round(response_bytes * TARGET_RESPONSE_S / took_s)
            self._bytes[broker] = max(MIN_BYTES_TO_REQUEST, min(requested, fits))
        elif took_s < TARGET_RESPONSE_S / 2 and response_bytes >= requested / 2:
            self._bytes[broker] = min(self._most_bytes, 2 * requested)

    def note_failure(self, broker: Any) -> None:
        """Request a quarter of the bytes after a request that got no response."""
        self._bytes[broker] = max(MIN_BYTES_TO_REQUEST, self.bytes_to_request(broker) // 4)


def limit_fetch_sizes(
    client: Any, most_bytes: int, *, clock: Callable[[], float] = time.monotonic
) -> None:
    """Make a client request what fits the link, but never more than `most_bytes` at once."""
    send = client.send
    sizes = FetchSizes(most_bytes)

    async def send_fitting(node_id: Any, request: Any, **options: Any) -> Any:
        if not isinstance(request, FetchRequest):
            return await send(node_id, request, **options)
        request._max_bytes = min(request._max_bytes, sizes.bytes_to_request(node_id))  # noqa: SLF001 - the public API has no setting per broker
        begun_s = clock()
        try:
            response = await send(node_id, request, **options)
        except KafkaError:
            sizes.note_failure(node_id)
            raise
        response_bytes = sum(
            len(records or b"") for _, partitions in response.topics for *_, records in partitions
        )
        sizes.note_response(node_id, response_bytes, clock() - begun_s)
        return response

    client.send = send_fitting
