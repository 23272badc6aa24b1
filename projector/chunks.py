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
    """The number of items per statement, from `size` at first up to `most`.

    It aims at `target_s` seconds per statement. `too_much` lists the errors after which fewer
    items, or other ones, may succeed. If `most_failures` items fail alone one after the other, the
    items aren't the cause.
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

        Raises the error of the last of `most_failures`.
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
