"""Asks PostgreSQL what a slow batch is waiting for, for /readyz and the log."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Final

from normalizer.consumer.record_store import RecordStore
from normalizer.errors import NormalizerError
from normalizer.runtime.backoff import wait_at_most
from normalizer.store.write_retry import BLOCKED_AFTER_S, InFlightBatch

_ASK_EVERY_S: Final = 1.0

ListInFlightWrites = Callable[[], Sequence[tuple[InFlightBatch, RecordStore]]]
"""Returns what is being written now, each with its store."""


async def keep_finding_lock_holders(
    stopping: asyncio.Event, claims_store: RecordStore, writers: ListInFlightWrites
) -> None:
    """Find out every second what the slow batches are waiting for, until the service stops.

    The query runs on the connection for claims, because the connections that write are the ones
    that wait. It begins when a batch has taken half of BLOCKED_AFTER_S, so that the reason is known
    by the time the batch is reported as waiting.
    """
    while not await wait_at_most(stopping, _ASK_EVERY_S):
        for in_flight, store in writers():
            if in_flight.age_s() >= BLOCKED_AFTER_S / 2:
                piece = in_flight.piece
                waits_for = store.why_transaction_not_begun or await _lock(
                    claims_store, store.server_pid
                )
                # If the writer has meanwhile gone on to another piece of the batch, the finding is
                # out of date, so ignore it. If nothing was found, keep the last finding, because
                # the writer may only be between two tries.
                if waits_for and in_flight.piece is piece:
                    in_flight.waits_for = waits_for


async def _lock(claims_store: RecordStore, pid: int | None) -> str:
    holders = ""
    if pid is not None:
        with contextlib.suppress(NormalizerError):
            holders = await claims_store.find_lock_holders(pid)
    return f"a lock held by {holders}" if holders else ""
