"""A batch in, the same batch surely written: backs off, halves, and waits for as long as it takes.

Nothing is refused here. A batch that fails is halved down to one record, so that the position
stands at the culprit; that one waits until it can be written, and says so from the fifth second.
One that makes a projection fail goes in without its projections.
"""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from normalizer.core.batch import Batch, OutcomeTotals
from normalizer.errors import RetryableError, StoreUnavailable

FIRST_WAIT_S: Final = 0.1
LONGEST_WAIT_S: Final = 2.0
"""Short: what a lock held up is to be stored within five seconds of its release."""
TRIES_BEFORE_HALVING: Final = 3
WAITING_AFTER_S: Final = 5.0
"""A batch in hand for so long is said to wait."""
REPORT_EVERY_S: Final = 60.0

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class BatchWriter(Protocol):
    """Writes batches: a Store."""

    async def write(self, batch: Batch, *, projections: bool = True) -> OutcomeTotals:
        """Write the batch in one transaction. Raises RetryableError if nothing was written."""


class InFlightBatch:
    """What one writer tries to write, since when, and what it met; may be asked from any thread.

    `piece` is the part of the batch in hand, `error` the last one since a piece was written.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since_s: float | None = None
        self.piece: Batch | None = None
        self.error: RetryableError | None = None

    def begin(self, batch: Batch) -> None:
        """A writer begins with it."""
        self.error, self.piece, self._since_s = None, batch, self._clock()

    def clear(self) -> None:
        """It is written, or given up."""
        self._since_s = self.piece = self.error = None

    def age_s(self) -> float:
        """Since the writer took it in hand; 0 where it has none."""
        since_s = self._since_s
        return 0.0 if since_s is None else self._clock() - since_s

    def is_waiting(self) -> bool:
        """Whether it takes longer than a batch should."""
        return self.age_s() >= WAITING_AFTER_S

    def last_error_text(self) -> str:
        """What it met last, in our words."""
        error = self.error
        return str(error) if error else "the database has not answered yet"

    def offsets(self) -> str:
        """What is in hand, by partition: noetl.events[3]@1042 (1 record)."""
        piece = self.piece
        return ", ".join(
            f"{part.topic}[{part.partition}]@{part.from_offset} "
            f"({len(part.items)} record{'s' * (len(part.items) != 1)})"
            for part in (piece.parts if piece else ())
        )


async def write_with_retry(
    store: BatchWriter,
    batch: Batch,
    *,
    stop: asyncio.Event,
    draw: Callable[[], float] = random.random,
    in_flight: InFlightBatch | None = None,
    on_failure: Callable[[RetryableError], None] = lambda _: None,
) -> OutcomeTotals:
    """Write the batch, trying again for as long as it takes; `stop` ends the trying.

    Raises what `write` raises for a position or a fatal error, and its RetryableError once
    `stop` is set: of a halved batch the first pieces may be written then.
    """
    in_flight = in_flight or InFlightBatch()
    in_flight.begin(batch)
    reporter = _WaitReporter(in_flight)
    try:
        return await _write_pieces(store, batch, stop, draw, in_flight, on_failure)
    finally:
        reporter.end()
        in_flight.clear()


async def _write_pieces(
    store: BatchWriter,
    batch: Batch,
    stop: asyncio.Event,
    draw: Callable[[], float],
    in_flight: InFlightBatch,
    on_failure: Callable[[RetryableError], None],
) -> OutcomeTotals:
    """Piece by piece in the order of the offsets; a piece that fails again and again is halved."""
    totals = OutcomeTotals()
    pieces = [batch]
    tries = 0
    projections = True
    while pieces:
        in_flight.piece = pieces[-1]
        try:
            totals += await store.write(pieces[-1], projections=projections)
        except RetryableError as error:
            in_flight.error = error
            on_failure(error)
            tries += 1
            _log.debug("batch_write_failed", why=str(error), tries=tries, piece=in_flight.offsets())
            if stop.is_set():
                raise
            if tries >= TRIES_BEFORE_HALVING and (split := pieces[-1].split()):
                pieces[-1:] = reversed(split)
                tries = 0
            elif tries >= TRIES_BEFORE_HALVING and projections and _is_of_projections(error):
                _log.error("projection_failed", why=str(error), piece=in_flight.offsets())
                projections = False
            else:
                await _pause(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(tries, 10)), draw, stop)
        else:
            in_flight.error = None
            pieces.pop()
            tries = 0
            projections = True
    return totals


def _is_of_projections(error: RetryableError) -> bool:
    return isinstance(error, StoreUnavailable) and error.in_projection


class _WaitReporter:
    """One line once a batch waits, again now and then, and one when that is over.

    By timers of the loop: also while a statement waits for a lock.
    """

    def __init__(self, in_flight: InFlightBatch) -> None:
        self._in_flight = in_flight
        self._reported = False
        self._timer = asyncio.get_running_loop().call_later(WAITING_AFTER_S, self._report)

    def end(self) -> None:
        """The batch is written, or given up."""
        self._timer.cancel()
        if self._reported:
            _log.info("batch_unblocked", waited_s=round(self._in_flight.age_s(), 1))

    def _report(self) -> None:
        self._reported = True
        _log.warning(
            "batch_blocked",
            why=self._in_flight.last_error_text(),
            age_s=round(self._in_flight.age_s(), 1),
            piece=self._in_flight.offsets(),
        )
        self._timer = asyncio.get_running_loop().call_later(REPORT_EVERY_S, self._report)


async def _pause(wait_s: float, draw: Callable[[], float], stop: asyncio.Event) -> None:
    """Wait about so long, but not longer than until the stop."""
    try:
        async with asyncio.timeout(wait_s * (0.5 + draw() / 2)):
            await stop.wait()
    except TimeoutError:
        return
