"""Normalizes records slice by slice, so that the event loop runs in between."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Final

from normalizer.core.batch import Item
from normalizer.core.bounds import is_heavy
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Normalized
from normalizer.telemetry import get_logger

SLICE_S: Final = 0.002
"""Long enough that a round of the loop costs little. Short, because each of a dozen statements of
the batch being written waits for a slice, and its connection idles meanwhile."""
SLOW_S: Final = 0.5
LARGE_BYTES: Final = 1 << 20

Normalize = Callable[[RawRecord], tuple[Normalized, ...]]
NormalizeHeavy = Callable[[RawRecord], Awaitable[tuple[Normalized, ...] | None]]

_log: Final = get_logger()


async def slices(
    records: Sequence[RawRecord],
    normalize: Normalize,
    *,
    heavy: NormalizeHeavy | None = None,
    room: int | None = None,
) -> AsyncGenerator[list[Item], None]:
    """Yield records with their outcomes, in order, a few milliseconds of work at a time.

    Let other tasks run between two slices. A slice also ends when all outcomes so far reach `room`
    rows. `heavy` normalizes heavy records; when it returns None, the iteration ends. Large and slow
    records are logged by their coordinates.
    """
    items: list[Item] = []
    rows = 0
    due_s = (before_s := time.perf_counter()) + SLICE_S
    for record in records:
        is_heavy_record = heavy is not None and is_heavy(record)
        outcomes = await heavy(record) if heavy and is_heavy_record else normalize(record)
        if outcomes is None:
            return
        items.append((record, outcomes))
        rows += len(outcomes)
        now_s = time.perf_counter()
        if is_heavy_record or now_s - before_s >= SLOW_S:
            _log_slow(record, now_s - before_s)
        before_s = now_s
        is_enough = room is not None and rows >= room
        if now_s >= due_s or is_enough:
            yield items
            items = []
            rows = 0 if is_enough else rows
            due_s = (before_s := time.perf_counter()) + SLICE_S
    if items:
        yield items


def _log_slow(record: RawRecord, took_s: float) -> None:
    size = record.value_bytes
    if took_s >= SLOW_S or size > LARGE_BYTES:
        _log.warning("slow_record", record=record.coordinates, bytes=size, seconds=round(took_s, 3))
