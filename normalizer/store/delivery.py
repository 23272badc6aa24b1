"""A batch in, the same batch surely written: backs off, halves, and sets one record aside.

An outage never fills the quarantine: only a record that fails again and again while other rows
go in is set aside, and only after everything around it was written.
"""

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import msgspec
import structlog

from normalizer.core.batch import Batch, Totals
from normalizer.envelope import Envelope, Outcome, Rejected
from normalizer.errors import RetryableError

FIRST_WAIT_S: Final = 0.1
LONGEST_WAIT_S: Final = 10.0
TRIES_BEFORE_HALVING: Final = 3
TRIES_OF_ONE_RECORD: Final = 5

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Writer(Protocol):
    """Writes batches: a Store."""

    async def write(self, batch: Batch) -> Totals:
        """Write the batch in one transaction. Raises RetryableError if nothing was written."""

    async def probe(self, batch: Batch) -> bool:
        """Whether it could be written without its records: then they are to blame."""


async def deliver(
    store: Writer,
    batch: Batch,
    *,
    stop: asyncio.Event,
    draw: Callable[[], float] = random.random,
    on_failure: Callable[[RetryableError], None] = lambda _: None,
) -> Totals:
    """Write the batch, trying again for as long as it takes; `stop` ends the trying.

    Raises what `write` raises for a position or a fatal error, and its RetryableError once
    `stop` is set: nothing of what was not counted is written then.
    """
    failures_while_well = 0
    tries = 0
    while True:
        try:
            totals = await store.write(batch)
        except RetryableError as error:
            tries += 1
            on_failure(error)
            failures_while_well = failures_while_well + 1 if await store.probe(batch) else 0
            wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(tries, 10)) * (0.5 + draw() / 2)
            _log.warning(
                "batch_not_written",
                why=str(error),
                tries=tries,
                database_well=failures_while_well > 0,
                records=sum(len(part.items) for part in batch.parts),
                wait_s=round(wait_s, 2),
            )
            if stop.is_set():
                raise
        else:
            if tries:
                _log.info("batch_written", tries=tries + 1, records=totals.records)
            return totals
        if failures_while_well >= TRIES_BEFORE_HALVING and (halves := batch.halves()):
            first, second = halves
            again = partial(deliver, store, stop=stop, draw=draw, on_failure=on_failure)
            return await again(first) + await again(second)
        if failures_while_well >= TRIES_OF_ONE_RECORD:
            batch = _set_aside(batch)
        await _pause(wait_s, stop)


def _set_aside(batch: Batch) -> Batch:
    """The batch of one record, its events refused: they fail alone while other rows go in."""
    return Batch(
        parts=tuple(
            msgspec.structs.replace(
                part,
                items=[
                    (record, tuple(_refused(outcome) for outcome in outcomes))
                    for record, outcomes in part.items
                ],
            )
            for part in batch.parts
        )
    )


def _refused(outcome: Outcome) -> Outcome:
    if not isinstance(outcome, Envelope):
        return outcome
    _log.error(
        "record_set_aside",
        topic=outcome.source_topic,
        partition=outcome.source_partition,
        offset=outcome.source_offset,
        execution_id=outcome.execution_id,
    )
    return Rejected(
        reason="rejected_by_database",
        detail=f"failed alone {TRIES_OF_ONE_RECORD} times while other rows went in",
        shape=outcome.shape,
        index=outcome.source_index,
    )


async def _pause(wait_s: float, stop: asyncio.Event) -> None:
    """Wait, but not longer than until the stop."""
    try:
        async with asyncio.timeout(wait_s):
            await stop.wait()
    except TimeoutError:
        return
