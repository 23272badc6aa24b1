"""Retries a batch until it's written. Backs off between tries, and halves it if it keeps failing.

This module never rejects a record. A batch that keeps failing is halved again and again, so that
the position advances up to exactly the record that causes the failure. That record is retried until
it can be written, and after five seconds it's reported as blocked. If only a projection fails or
takes too long for it, the record is written without projections.

If a batch has waited for ten seconds although the database works, its partitions are written one by
one. The partition that still fails is handed over to the service (`set_aside`), so that the others
needn't wait for it.

The retries end when the caller sets `stop`, which the service does at SIGTERM and when the group
rebalances. The batch isn't lost then, because the next owner reads it again from Kafka.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from normalizer.core.batch import Batch, OutcomeTotals, PartitionBatch
from normalizer.errors import (
    ProjectionFailedError,
    RetryableError,
    SignInRetryLimit,
)
from normalizer.runtime.backoff import backoff_delay_s, wait_at_most
from normalizer.runtime.logging_setup import get_logger
from normalizer.store.sqlstate import LOCK_NOT_AVAILABLE, is_server_outage

TRIES_BEFORE_HALVING: Final = 3
"""Halve a batch after this many failed tries, or write a single record without projections."""
BLOCKED_AFTER_S: Final = 5.0
"""Report a batch as blocked when it has been in flight for this long."""
_BLOCKED_REPORT_EVERY_S: Final = 60.0
"""Repeat that report this often."""
_SET_ASIDE_AFTER_S: Final = 10.0
"""After this long, write a waiting batch without the part that waits."""

SetPartAside = Callable[[PartitionBatch], bool]
"""Takes over a waiting part, to write it on its own. Returns False if that isn't possible."""

_log: Final = get_logger()


class SingleTryWriter(Protocol):
    """Tries once to write a batch, like a Store."""

    async def write(self, batch: Batch, *, projections: bool = True) -> OutcomeTotals:
        """Write the batch in one transaction. Raises RetryableError if nothing was written."""


class InFlightBatch:
    """The batch that a writer is writing now, as shown by /readyz and the metrics.

    Any thread may read it.

    - `piece` is what's being written now: the batch, or a smaller one that it was split into.
    - `error` is the error of its last try, or None.
    - `waits_for` is what its statement is waiting for, according to the server.
    - `set_aside` has the parts that `write_with_retry` handed over to its caller. They stay listed
      after the end of the batch, until the next one begins.
    - `since_s` is the time at which the writer began with the batch.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, since_s: float | None = None
    ) -> None:
        self._clock = clock
        self.since_s = since_s
        self.piece: Batch | None = None
        self.error: RetryableError | None = None
        self.waits_for = ""
        self.set_aside: list[PartitionBatch] = []

    def begin(self, batch: Batch) -> None:
        """Note that the writer begins to write the batch."""
        self.error, self.piece, self.waits_for, self.set_aside = None, batch, "", []
        if self.since_s is None:
            self.since_s = self._clock()

    def note_failure(self, error: RetryableError) -> None:
        """Note a failed try. Forgets `waits_for`, except after a lock timeout.

        After a lock timeout, the other session may still hold the lock.
        """
        self.error = error
        if getattr(error, "sqlstate", None) != LOCK_NOT_AVAILABLE:
            self.waits_for = ""

    def note_piece_written(self) -> None:
        """Note that the piece was written."""
        self.error, self.waits_for = None, ""

    def clear(self) -> None:
        """Note that the batch was written, or that its writer has stopped."""
        self.since_s = self.piece = self.error = None
        self.waits_for = ""

    def without_set_aside(self, batch: Batch) -> Batch:
        """Return the batch without the parts that were set aside."""
        keys = {part.key for part in self.set_aside}
        return Batch(parts=tuple(part for part in batch.parts if part.key not in keys))

    def age_s(self) -> float:
        """Return the seconds since the writer began with the batch, or 0 without one."""
        since_s = self.since_s
        return 0.0 if since_s is None else self._clock() - since_s

    def is_blocked(self) -> bool:
        """Return whether the batch has taken longer than BLOCKED_AFTER_S."""
        return self.age_s() >= BLOCKED_AFTER_S

    def last_error_text(self) -> str:
        """Return the last error as a sentence."""
        error = self.error
        return str(error) if error else "the store has not answered yet"

    def describe_wait_and_error(self) -> str:
        """Return what the batch waits for, and its last error."""
        waits_for, error = self.waits_for, self.last_error_text()
        return f"it waits for {waits_for}; last: {error}" if waits_for else error

    def describe_piece(self) -> str:
        """Return what is being written, by partition, such as noetl.events[3]@1042 (1 record)."""
        piece = self.piece
        return ", ".join(
            f"{part.topic}[{part.partition}]@{part.from_offset} "
            f"({len(part.items)} record{'s' * (len(part.items) != 1)})"
            for part in (piece.parts if piece else ())
        )


async def write_with_retry(
    store: SingleTryWriter,
    batch: Batch,
    *,
    stop: asyncio.Event,
    draw: Callable[[], float] = random.random,
    in_flight: InFlightBatch | None = None,
    on_failure: Callable[[RetryableError], None] = lambda _: None,
    set_aside: SetPartAside | None = None,
) -> OutcomeTotals:
    """Write the batch, and retry until it's written or `stop` is set.

    A try that is running when `stop` is set may still commit. `draw` returns a random number below
    1, which spreads the pauses of several processes. `in_flight` shows the progress to others, and
    `on_failure` is called after each failed try.

    If `set_aside` takes over the part of a partition, nothing more of that partition is written
    here, and `in_flight` lists the part.

    Raises RetryableError once `stop` is set, FatalError if the database keeps rejecting the
    sign-in, and the PositionError and FatalError that `write` raises. When this raises, earlier
    pieces of a halved batch may already be written.
    """
    in_flight = in_flight or InFlightBatch()
    in_flight.begin(batch)
    try:
        with _WaitReporter(in_flight):
            retries = _Retries(store, stop, draw, in_flight, on_failure, set_aside)
            return await retries.write(batch)
    finally:
        in_flight.clear()


class _Retries:
    """Writes one batch in pieces, in the order of their offsets.

    It halves a piece that keeps failing.
    """

    def __init__(
        self,
        store: SingleTryWriter,
        stop: asyncio.Event,
        draw: Callable[[], float],
        in_flight: InFlightBatch,
        on_failure: Callable[[RetryableError], None],
        set_aside: SetPartAside | None,
    ) -> None:
        self._store = store
        self._stop = stop
        self._draw = draw
        self._in_flight = in_flight
        self._on_failure = on_failure
        self._set_aside = set_aside
        self._pieces: list[Batch] = []
        """The pieces still to write. The next one is at the end of the list."""
        self._tries = self._tries_of_projections = 0
        """The failed tries of the next piece, and how many of the last ones a projection caused."""
        self._projections = True
        """Whether to update the projections. It's False only for a record that they fail for."""

    async def write(self, batch: Batch) -> OutcomeTotals:
        """Write the batch. Returns the totals of what was written."""
        totals = OutcomeTotals()
        sign_in_tries = SignInRetryLimit()
        self._pieces = [batch]
        while self._pieces:
            piece = self._in_flight.piece = self._pieces[-1]
            try:
                totals += await self._store.write(piece, projections=self._projections)
            except RetryableError as error:
                self._in_flight.note_failure(error)
                self._on_failure(error)
                sign_in_tries.count_failure(error)
                self._count_failure(error)
                if self._stop.is_set():
                    raise
                if not self._shrink(error):
                    await self._back_off(error)
            else:
                self._in_flight.note_piece_written()
                sign_in_tries.reset_count()
                self._pieces.pop()
                self._restart()
        return totals

    def _restart(self) -> None:
        """Count the tries from zero, for a new piece."""
        self._tries = self._tries_of_projections = 0
        self._projections = True

    def _count_failure(self, error: RetryableError) -> None:
        self._tries += 1
        is_of_projections = isinstance(error, ProjectionFailedError)
        self._tries_of_projections = self._tries_of_projections + 1 if is_of_projections else 0
        _log.debug(
            "batch.write_failed",
            why=str(error),
            tries=self._tries,
            piece=self._in_flight.describe_piece(),
        )

    def _shrink(self, error: RetryableError) -> bool:
        """Make the failed piece smaller.

        Returns False if it's too early for that, or not possible.
        """
        piece = self._pieces[-1]
        has_waited = self._in_flight.age_s() >= _SET_ASIDE_AFTER_S and not is_server_outage(error)
        if self._set_aside and has_waited:
            if len(piece.parts) > 1:
                self._replace([Batch(parts=(part,)) for part in piece.parts])
                return True
            if self._set_aside(piece.parts[0]):
                self._in_flight.set_aside.append(piece.parts[0])
                self._leave_out(piece.parts[0])
                return True
        # Halve it in an outage too, because a record may cause what looks like one. For example,
        # the server may run out of memory for it and close every connection. In an outage, a batch
        # of 1,000 records therefore has some 30 tries of smaller and smaller pieces, with short
        # pauses. The pauses grow once a single record is left.
        if self._tries >= TRIES_BEFORE_HALVING and (halves := piece.split()):
            self._replace(halves)
            return True
        return False

    def _replace(self, smaller: Sequence[Batch]) -> None:
        self._pieces[-1:] = reversed(smaller)
        self._tries = 0

    def _leave_out(self, taken: PartitionBatch) -> None:
        """Drop the rest of the part's partition. It's read again once the part is written."""
        left = (
            Batch(parts=tuple(part for part in piece.parts if part.key != taken.key))
            for piece in self._pieces
        )
        self._pieces = [piece for piece in left if piece.parts]
        self._restart()

    async def _back_off(self, error: RetryableError) -> None:
        """Wait before the next try of the same piece, which can't be halved any more.

        After three failures of its projections, turn them off.
        """
        # A piece that was just halved has no tries yet, even if the projections failed for the
        # larger piece. So count no more tries than this piece has had.
        tries = min(self._tries, self._tries_of_projections)
        if self._projections and tries >= TRIES_BEFORE_HALVING:
            _log.error("projection.failed", why=str(error), piece=self._in_flight.describe_piece())
            self._projections = False
        elif not self._projections:
            # The try without projections failed too, so the projections may not be to blame. The
            # database may have been unreachable or slow all along. Turn the projections on again.
            self._restart()
            await wait_at_most(self._stop, backoff_delay_s(TRIES_BEFORE_HALVING, self._draw))
        else:
            await wait_at_most(self._stop, backoff_delay_s(self._tries, self._draw))


class _WaitReporter:
    """Logs that a batch is blocked, repeats that every _BLOCKED_REPORT_EVERY_S, and logs its end.

    The log lines are written by timers of the event loop, so they appear even while a statement
    waits for a lock.
    """

    def __init__(self, in_flight: InFlightBatch) -> None:
        self._in_flight = in_flight
        self._reported = False

    def __enter__(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(BLOCKED_AFTER_S, self._report)

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._timer.cancel()
        if self._reported and error is None:
            _log.info("batch.unblocked", waited_s=round(self._in_flight.age_s(), 1))

    def _report(self) -> None:
        self._reported = True
        _log.warning(
            "batch.blocked",
            why=self._in_flight.describe_wait_and_error(),
            age_s=round(self._in_flight.age_s(), 1),
            piece=self._in_flight.describe_piece(),
        )
        self._timer = asyncio.get_running_loop().call_later(_BLOCKED_REPORT_EVERY_S, self._report)
