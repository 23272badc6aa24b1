"""How far a position is behind its log, in offsets and in time."""

import msgspec

from normalizer.kafka import Bounds


class PartitionLag(msgspec.Struct, frozen=True, kw_only=True):
    """One partition. `next_offset` is the stored position, 0 before the first.

    `oldest_unread_ms` is None if every record is read, or before the first look.
    """

    next_offset: int
    bounds: Bounds
    oldest_unread_ms: int | None
    retention_ms: float

    @property
    def unread_from(self) -> int:
        """The first offset that can still be read: what the log deleted unread is no lag."""
        return max(self.next_offset, self.bounds.start)

    @property
    def lag_records(self) -> int:
        """Offsets still to read."""
        return max(0, self.bounds.end - self.unread_from)

    def lag_s(self, now_s: float) -> float:
        """Age of the oldest unread record."""
        if not self.lag_records or self.oldest_unread_ms is None:
            return 0.0
        return max(0.0, now_s - self.oldest_unread_ms / 1000)

    def expires_s(self, now_s: float) -> float:
        """Time until the oldest unread record may be deleted."""
        return self.retention_ms / 1000 - self.lag_s(now_s)
