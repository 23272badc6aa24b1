"""Limits each fetch to what the link to its broker carries in about a second.

The client itself always requests the same size. Over a slow link, such an answer takes longer than
the request timeout, so the client would request the same again and never read anything.
"""

import time
from collections.abc import Callable
from typing import Any, Final

from aiokafka.errors import KafkaError
from aiokafka.protocol.fetch import FetchRequest

ANSWER_S: Final = 1.0
"""The target time of an answer. A log that's silent for more than two seconds must be compared."""
FIRST_BYTES: Final = 1 << 20
LEAST_BYTES: Final = 64 << 10
"""Smaller answers would mostly wait. A broker answers with at least one whole batch anyway."""


class FetchSizes:
    """Chooses how many bytes to request from each broker, by the time of its last answer."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes: dict[Any, int] = {}

    def of(self, broker: Any) -> int:
        """Return the bytes to request next."""
        return self._bytes.get(broker, min(FIRST_BYTES, self._most_bytes))

    def note_answer(self, broker: Any, answer_bytes: int, took_s: float) -> None:
        """Request less after a slow answer, and twice as much after a fast and full one.

        A small answer may have waited for records, so it says nothing about the link.
        """
        requested = self.of(broker)
        if took_s > ANSWER_S and answer_bytes > LEAST_BYTES:
            fits = round(answer_bytes * ANSWER_S / took_s)
            self._bytes[broker] = max(LEAST_BYTES, min(requested, fits))
        elif took_s < ANSWER_S / 2 and answer_bytes >= requested / 2:
            self._bytes[broker] = min(self._most_bytes, 2 * requested)

    def note_failure(self, broker: Any) -> None:
        """Request a quarter after a request without an answer."""
        self._bytes[broker] = max(LEAST_BYTES, self.of(broker) // 4)


def fit_fetches(
    client: Any, most_bytes: int, *, clock: Callable[[], float] = time.monotonic
) -> None:
    """Let a client request what fits, but never more than `most_bytes` in one answer."""
    send = client.send
    sizes = FetchSizes(most_bytes)

    async def send_fitting(node_id: Any, request: Any, **options: Any) -> Any:
        if not isinstance(request, FetchRequest):
            return await send(node_id, request, **options)
        request._max_bytes = min(request._max_bytes, sizes.of(node_id))  # noqa: SLF001 - the public API has no setting by broker
        begun_s = clock()
        try:
            answer = await send(node_id, request, **options)
        except KafkaError:
            sizes.note_failure(node_id)
            raise
        answer_bytes = sum(
            len(records or b"") for _, partitions in answer.topics for *_, records in partitions
        )
        sizes.note_answer(node_id, answer_bytes, clock() - begun_s)
        return answer

    client.send = send_fitting
