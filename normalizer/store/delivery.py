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

from normalizer.core.batch import Batch, Totals
from normalizer.errors import RetryableError, StoreUnavailable

FIRST_WAIT_S: Final = 0.1
LONGEST_WAIT_S: Final = 2.0
"""Short: what a lock held up is to be stored within five seconds of its release."""
TRIES_BEFORE_HALVING: Final = 3
WAITS_AFTER_S: Final = 5.0
"""A batch in hand for so long is said to wait."""
SAID_EVERY_S: Final = 60.0

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Writer(Protocol):
    """Writes batches: a Store."""

    async def write(self, batch: Batch, *, projections: bool = True) -> Totals:
        """Write the batch in one transaction. Raises RetryableError if nothing was written."""


class BatchInHand:
    """What one writer tries to write, since when, and what it met; may be asked from any thread.

    `piece` is the part of the batch in hand, `error` the last one since a piece was written.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since_s: float | None = None
        self.piece: Batch | None = None
        self.error: RetryableError | None = None

    def take(self, batch: Batch) -> None:
        """A writer begins with it."""
        self.error, self.piece, self._since_s = None, batch, self._clock()

    def lay_down(self) -> None:
        """It is written, or given up."""
        self._since_s = self.piece = self.error = None

    def age_s(self) -> float:
        """Since the writer took it in hand; 0 where it has none."""
        since_s = self._since_s
        return 0.0 if since_s is None else self._clock() - since_s

    def waits(self) -> bool:
        """Whether it takes longer than a batch should."""
        return self.age_s() >= WAITS_AFTER_S

    def why(self) -> str:
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


async def deliver(
    store: Writer,
    batch: Batch,
    *,
    stop: asyncio.Event,
    draw: Callable[[], float] = random.random,
    in_hand: BatchInHand | None = None,
    on_failure: Callable[[RetryableError], None] = lambda _: None,
) -> Totals:
    """Write the batch, trying again for as long as it takes; `stop` ends the trying.

    Raises what `write` raises for a position or a fatal error, and its RetryableError once
    `stop` is set: of a halved batch the first pieces may be written then.
    """
    in_hand = in_hand or BatchInHand()
    in_hand.take(batch)
    saying = _Saying(in_hand)
    try:
        return await _deliver(store, batch, stop, draw, in_hand, on_failure)
    finally:
        saying.end()
        in_hand.lay_down()


async def _deliver(
    store: Writer,
    batch: Batch,
    stop: asyncio.Event,
    draw: Callable[[], float],
    in_hand: BatchInHand,
    on_failure: Callable[[RetryableError], None],
) -> Totals:
    """Piece by piece in the order of the offsets; a piece that fails again and again is halved."""
    totals = Totals()
    pieces = [batch]
    tries = 0
    projections = True
    while pieces:
        in_hand.piece = pieces[-1]
        try:
            totals += await store.write(pieces[-1], projections=projections)
        except RetryableError as error:
            in_hand.error = error
            on_failure(error)
            tries += 1
            _log.debug("batch_not_written", why=str(error), tries=tries, piece=in_hand.offsets())
            if stop.is_set():
                raise
            if tries >= TRIES_BEFORE_HALVING and (halves := pieces[-1].halves()):
                pieces[-1:] = reversed(halves)
                tries = 0
            elif tries >= TRIES_BEFORE_HALVING and projections and _is_of_projections(error):
                _log.error("projection_failed", why=str(error), piece=in_hand.offsets())
                projections = False
            else:
                await _pause(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(tries, 10)), draw, stop)
        else:
            in_hand.error = None
            pieces.pop()
            tries = 0
            projections = True
    return totals


def _is_of_projections(error: RetryableError) -> bool:
    return isinstance(error, StoreUnavailable) and error.in_projection


class _Saying:
    """One line once a batch waits, again now and then, and one when that is over.

    By timers of the loop: also while a statement waits for a lock.
    """

    def __init__(self, in_hand: BatchInHand) -> None:
        self._in_hand = in_hand
        self._said = False
        self._timer = asyncio.get_running_loop().call_later(WAITS_AFTER_S, self._say)

    def end(self) -> None:
        """The batch is written, or given up."""
        self._timer.cancel()
        if self._said:
            _log.info("batch_waits_no_longer", waited_s=round(self._in_hand.age_s(), 1))

    def _say(self) -> None:
        self._said = True
        _log.warning(
            "batch_waits",
            why=self._in_hand.why(),
            age_s=round(self._in_hand.age_s(), 1),
            piece=self._in_hand.offsets(),
        )
        self._timer = asyncio.get_running_loop().call_later(SAID_EVERY_S, self._say)


async def _pause(wait_s: float, draw: Callable[[], float], stop: asyncio.Event) -> None:
    """Wait about so long, but not longer than until the stop."""
    try:
        async with asyncio.timeout(wait_s * (0.5 + draw() / 2)):
            await stop.wait()
    except TimeoutError:
        return
