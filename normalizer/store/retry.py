"""Writes a batch until it succeeds: backs off, halves it, and retries for as long as it takes.

Nothing is refused here. A batch that keeps failing is halved down to one record, so that the
position stops at the record to blame. That record is retried until it can be written, and is
reported from the fifth second on. One that makes a projection fail, or take longer than a statement
may, is written without projections.
"""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final, Protocol

from normalizer.core.batch import Batch, OutcomeTotals
from normalizer.errors import RetryableError, SignInTries, StoreUnavailable
from normalizer.process.pause import back_off_s, wait_at_most
from normalizer.telemetry import get_logger

TRIES_BEFORE_HALVING: Final = 3
WAITING_AFTER_S: Final = 5.0
"""A batch that is in flight for this long is reported as blocked."""
REPORT_EVERY_S: Final = 60.0

_log: Final = get_logger()


class BatchWriter(Protocol):
    """Writes batches: a Store."""

    async def write(self, batch: Batch, *, projections: bool = True) -> OutcomeTotals:
        """Write the batch in one transaction. Raises RetryableError if nothing was written."""


class InFlightBatch:
    """The batch that a writer is writing, since when, and its last error. Read from any thread.

    `piece` is the part of the batch that is being written; `error` is None again once it is.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since_s: float | None = None
        self.piece: Batch | None = None
        self.error: RetryableError | None = None

    def begin(self, batch: Batch) -> None:
        """The writer begins to write the batch."""
        self.error, self.piece, self._since_s = None, batch, self._clock()

    def clear(self) -> None:
        """The batch is written, or its writer has stopped."""
        self._since_s = self.piece = self.error = None

    def age_s(self) -> float:
        """Seconds since the writer began the batch; 0 without one."""
        since_s = self._since_s
        return 0.0 if since_s is None else self._clock() - since_s

    def is_waiting(self) -> bool:
        """Whether the batch takes longer than WAITING_AFTER_S."""
        return self.age_s() >= WAITING_AFTER_S

    def last_error_text(self) -> str:
        """The last error as a sentence."""
        error = self.error
        return str(error) if error else "the store has not answered yet"

    def offsets(self) -> str:
        """What is being written, by partition: noetl.events[3]@1042 (1 record)."""
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
    """Write the batch, and retry for as long as it takes; `stop` ends the retries.

    Raises PositionError and FatalError from `write`, FatalError where the database goes on to
    refuse the sign-in, and RetryableError once `stop` is set. The first pieces of a halved batch
    may be written then.
    """
    in_flight = in_flight or InFlightBatch()
    in_flight.begin(batch)
    try:
        with _WaitReporter(in_flight):
            return await _write_pieces(store, batch, stop, draw, in_flight, on_failure)
    finally:
        in_flight.clear()


async def _write_pieces(
    store: BatchWriter,
    batch: Batch,
    stop: asyncio.Event,
    draw: Callable[[], float],
    in_flight: InFlightBatch,
    on_failure: Callable[[RetryableError], None],
) -> OutcomeTotals:
    """Write the pieces in the order of their offsets; a piece that keeps failing is halved."""
    totals = OutcomeTotals()
    pieces = [batch]
    tries = tries_of_projections = 0
    sign_in_tries = SignInTries()
    projections = True
    while pieces:
        in_flight.piece = pieces[-1]
        try:
            totals += await store.write(pieces[-1], projections=projections)
        except RetryableError as error:
            in_flight.error = error
            on_failure(error)
            sign_in_tries.failed(error)
            tries += 1
            is_of_projections = isinstance(error, StoreUnavailable) and error.in_projection
            tries_of_projections = tries_of_projections + 1 if is_of_projections else 0
            _log.debug("batch_write_failed", why=str(error), tries=tries, piece=in_flight.offsets())
            if stop.is_set():
                raise
            if tries >= TRIES_BEFORE_HALVING and (split := pieces[-1].split()):
                pieces[-1:] = reversed(split)
                tries = 0
            elif projections and min(tries, tries_of_projections) >= TRIES_BEFORE_HALVING:
                _log.error("projection_failed", why=str(error), piece=in_flight.offsets())
                projections = False
            elif not projections:
                # The database is away or slow, and so it may have been before: nothing is proven.
                projections = True
                tries = tries_of_projections = 0
                await wait_at_most(stop, back_off_s(TRIES_BEFORE_HALVING, draw))
            else:
                await wait_at_most(stop, back_off_s(tries, draw))
        else:
            in_flight.error = None
            pieces.pop()
            sign_in_tries.succeeded()
            tries = 0
            projections = True
    return totals


class _WaitReporter:
    """Logs when a batch is blocked, again every REPORT_EVERY_S, and when it is written.

    It uses timers of the event loop, so it also logs while a statement waits for a lock.
    """

    def __init__(self, in_flight: InFlightBatch) -> None:
        self._in_flight = in_flight
        self._reported = False

    def __enter__(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(WAITING_AFTER_S, self._report)

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._timer.cancel()
        if self._reported and error is None:
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
