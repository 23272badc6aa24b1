"""Splits a long list of items into statements that end within the session's time limit."""

import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, TypeVar

import asyncpg

T = TypeVar("T")

_MOST_FAILURES_IN_A_ROW: Final = 20
"""After this many failures in a row, the database is taken to be too slow, and retention stops."""


class ChunkRunner:
    """Runs a statement over a list of items, in chunks whose size depends on the speed so far.

    Each chunk should take about `target_s` seconds. The first has `size` items, and the next ones
    grow up to `most` while statements are fast. If a statement fails with one of the errors in
    `too_much`, for example a timeout, its items are tried again in smaller chunks, down to one. If
    `most_failures` single items fail in a row, the database is probably at fault and not the items,
    so `run` gives up.
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

    async def run_yielding_failures(
        self, items: Sequence[T], work: Callable[[Sequence[T]], Awaitable[None]]
    ) -> AsyncIterator[T]:
        """Call `work` on one chunk after another, and yield each item that fails even on its own.

        The caller decides what to do with such an item. After `most_failures` of them in a row, the
        last error is raised, because the items are unlikely to be the cause.
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
