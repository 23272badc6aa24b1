"""Computes a partition's lag in offsets and in time, and the time until unread records expire.

This module does no I/O. The module `lag` reads the numbers that go into the computation, and
`gauges` exports the results.
"""

import math

import msgspec

from normalizer.kafka import OffsetBounds


class PartitionLag(msgspec.Struct, frozen=True, kw_only=True):
    """The lag of one partition, computed from its position and the bounds of its log.

    `next_offset` is the stored position, or 0 if there's none. `oldest_unread_ms` is the time of
    the oldest unread record, in milliseconds since 1970. It's None if every record was read, or if
    the time hasn't been read from Kafka yet.
    """

    next_offset: int
    bounds: OffsetBounds
    oldest_unread_ms: int | None
    retention_ms: float

    @property
    def first_unread_offset(self) -> int:
        """Return the first offset that can still be read. Deleted offsets aren't lag."""
        return max(self.next_offset, self.bounds.start)

    @property
    def lag_records(self) -> int:
        """Return the number of unread offsets."""
        return max(0, self.bounds.end - self.first_unread_offset)

    def lag_s(self, now_s: float) -> float | None:
        """Return the age of the oldest unread record, or None if its time isn't known yet."""
        if not self.lag_records:
            return 0.0
        if self.oldest_unread_ms is None:
            return None
        return max(0.0, now_s - self.oldest_unread_ms / 1000)

    def time_to_expiry_s(self, now_s: float) -> float | None:
        """Return the time until the oldest unread record may be deleted, or None if unknown."""
        if math.isinf(self.retention_ms):
            return math.inf
        lag_s = self.lag_s(now_s)
        return None if lag_s is None else self.retention_ms / 1000 - lag_s
