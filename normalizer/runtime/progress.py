"""Prints the progress of long work: how much is done, how fast it is, and how long the rest takes.

On a terminal it updates a single line in place. Elsewhere, for example in a CI log, it prints a new
line every ten seconds.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from normalizer.runtime.screen import Screen

_PRINT_EVERY_S: Final = 1.0
_PRINT_PLAIN_EVERY_S: Final = 10.0
_RATE_OVER_S: Final = 15.0


class JobProgress(NamedTuple):
    """How much is done, and the share of all work, or None if that isn't known."""

    what: str
    amount: int
    share: float | None = None


def format_duration(seconds: float) -> str:
    """Format seconds for people."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {whole % 60:02} s" if minutes else f"{seconds:.1f} s"


class ProgressPrinter:
    """Prints the progress of work from time to time.

    Use `print_while_running` to print it for as long as a block runs. Pass a function that returns
    how much is done:

        with ProgressPrinter(screen, "export").print_while_running(export.work_progress):
            await export.run(file.write)
    """

    def __init__(
        self, screen: Screen, name: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._screen = screen
        self._name = name
        self._clock = clock
        self._what = ""
        self._samples: deque[tuple[float, int, float | None]] = deque()
        self._printed_at_s = clock()

    @property
    def records_per_s(self) -> float:
        """Return the rate over the last 15 seconds."""
        if len(self._samples) < 2:
            return 0.0
        (first_s, first, _), (last_s, last, _) = self._samples[0], self._samples[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0

    def note_progress(self, done: JobProgress) -> None:
        """Note the progress. If something else is counted from now on, the rate starts over."""
        if done.what != self._what:
            self._what = done.what
            self._samples.clear()
        now_s = self._clock()
        self._samples.append((now_s, done.amount, done.share))
        while self._samples[0][0] < now_s - _RATE_OVER_S:
            self._samples.popleft()

    def print_progress(self, more: str = "") -> None:
        """Print the progress line, on a terminal each time, otherwise every ten seconds."""
        line = self._line() + more
        if self._screen.rewrites:
            self._screen.print_live_line(line)
        elif self._clock() - self._printed_at_s >= _PRINT_PLAIN_EVERY_S:
            self._printed_at_s = self._clock()
            self._screen.print_line(line)

    @contextlib.contextmanager
    def print_while_running(
        self, done: Callable[[], JobProgress], *, every_s: float = _PRINT_EVERY_S
    ) -> Iterator[None]:
        """Print the progress while the block runs, then clear the live line."""
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle

        def report() -> None:
            nonlocal timer
            self.note_progress(done())
            self.print_progress()
            timer = loop.call_later(every_s, report)

        timer = loop.call_later(every_s, report)
        try:
            yield
        finally:
            timer.cancel()
            self._screen.clear_live_line()

    def _line(self) -> str:
        _, amount, share = self._samples[-1]
        percent = "" if share is None else f" {share:4.0%}"
        left_s = self._left_s()
        left = "" if left_s is None else f", {format_duration(left_s)} left"
        rate = f"{self.records_per_s:,.0f}/s"
        return f"{self._name}{percent}: {amount:,} {self._what}, {rate}{left}"

    def _left_s(self) -> float | None:
        (first_s, _, first), (last_s, _, last) = self._samples[0], self._samples[-1]
        if first is None or last is None or last <= first:
            return None
        return (1 - last) * (last_s - first_s) / (last - first)
