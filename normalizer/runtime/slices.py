"""Normalizes records in slices of a few milliseconds, so that other tasks can run in between.

Normalizing is pure computation, which blocks the event loop while it runs. But the loop must also
send heartbeats and write the previous batch, so it gets a chance to do so after each slice.
"""

import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from typing import Final

from normalizer.core.batch import RecordWithOutcomes
from normalizer.core.decode.record_limits import is_slow_to_normalize
from normalizer.core.encoded_events import (
    MAX_LANE_CALL_BYTES,
    MAX_LANE_CALL_RECORDS,
    EventOutcome,
    NativeLane,
)
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Normalized

SLICE_DURATION_S: Final = 0.002
"""How long one slice takes. It's long enough that a round of the event loop takes little of the
time. It's short, because each of a dozen statements of the batch being written waits for a slice
while its connection idles."""
_LOOK_EVERY: Final = 8
"""How many records to normalize between two looks at the clock. Most take less than a tenth of a
millisecond."""

Normalize = Callable[[RawRecord], tuple[Normalized, ...]]
NormalizeHeavy = Callable[[RawRecord], Awaitable[tuple[Normalized, ...] | None]]


async def normalize_in_slices(
    records: Sequence[RawRecord],
    normalize: Normalize,
    *,
    heavy: NormalizeHeavy | None = None,
    room: int | None = None,
    lane: NativeLane | None = None,
) -> AsyncGenerator[list[RecordWithOutcomes], None]:
    """Yield records with their outcomes, in order, in slices of a few milliseconds of work.

    Between two slices the caller may await something, so that other tasks can run. A slice also
    ends when the outcomes so far fill `room` rows, so that the caller can stop at the end of a
    batch.

    The native `lane` reads each record first. If it leaves a record to Python, the record goes to
    `heavy` if it would take long, and to `normalize` otherwise. The iteration ends if `heavy`
    returns None.
    """
    items: list[RecordWithOutcomes] = []
    rows = 0
    room_rows = sys.maxsize if room is None else room
    due_s = time.perf_counter() + SLICE_DURATION_S
    for call, answers in _read(records, lane):
        for record, answer in zip(call, answers, strict=True):
            outcomes = answer
            if outcomes is None and heavy and is_slow_to_normalize(record):
                outcomes = await heavy(record)
                if outcomes is None:
                    return
            elif outcomes is None:
                outcomes = normalize(record)
            items.append((record, outcomes))
            rows += len(outcomes)
            is_enough = rows >= room_rows
            if is_enough or (len(items) % _LOOK_EVERY == 0 and time.perf_counter() >= due_s):
                yield items
                items = []
                rows = 0 if is_enough else rows
                due_s = time.perf_counter() + SLICE_DURATION_S
    if items:
        yield items


def _read(
    records: Sequence[RawRecord], lane: NativeLane | None
) -> Iterator[tuple[Sequence[RawRecord], Sequence[tuple[EventOutcome, ...] | None]]]:
    """Yield records, with the outcomes from the lane, or None if Python must normalize a record."""
    if lane is None:
        yield records, [None] * len(records)
        return
    for call in _calls(records):
        yield call, lane.read(call)


def _calls(records: Sequence[RawRecord]) -> Iterator[Sequence[RawRecord]]:
    """Split the records into calls of the lane."""
    first, size = 0, 0
    for at, record in enumerate(records):
        is_full = (
            at - first == MAX_LANE_CALL_RECORDS or size + record.value_bytes > MAX_LANE_CALL_BYTES
        )
        if is_full and at > first:
            yield records[first:at]
            first, size = at, 0
        size += record.value_bytes
    if records:
        yield records[first:]
