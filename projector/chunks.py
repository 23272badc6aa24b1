"""Cuts work into statements that end within their session's time limit."""

import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, TypeVar

import asyncpg

T = TypeVar("T")

MOST_FAILURES: Final = 20
"""After this many failures in a row, retention takes the database to be too slow."""


class Chunks:
    """How many items a statement gets: `size` at first, and later up to `most`.

    The number changes so that a statement takes about `target_s` seconds. `too_much` lists the
    errors after which fewer or other items may succeed. If `most_failures` items in a row fail on
    their own, the items aren't the cause.
    """

    def __init__(
        self,
        *,
        size: int,
        most: int,
        target_s: float,
        too_much: tuple[type[asyncpg.PostgresError], ...] = (asyncpg.QueryCanceledError,),
        most_failures: float = math.inf,
    ) -> None:
        self._size = size
        self._most = most
        self._target_s = target_s
        self._too_much = too_much
        self._most_failures = most_failures
        self._failures = 0

    async def run(
        self, items: Sequence[T], work: Callable[[Sequence[T]], Awaitable[None]]
    ) -> AsyncIterator[T]:
        """Call `work` on a few items at a time, in order. Yields each item that fails even alone.

        After `most_failures` such items in a row it raises the error of the last one, because then
        the items aren't the cause.
        """
        at = 0
        while at < len(items):
            chunk = items[at : at + self._size]
            began = time.monotonic()
            try:
                await work(chunk)
            except self._too_much:
                self._size = max(len(chunk) // 4, 1)
                if len(chunk) > 1:
                    continue
                self._failures += 1
                if self._failures >= self._most_failures:
                    raise
                yield chunk[0]
            else:
                self._failures = 0
                took_s = max(time.monotonic() - began, 0.001)
                fitting = round(len(chunk) * self._target_s / took_s)
                self._size = max(1, min(2 * self._size, fitting, self._most))
            at += len(chunk)
