"""Ids in, the buckets of `events` they fall into out."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final

_HASHED_FROM: Final = 1 << 62 | 1 << 61
_INT64_MAX: Final = (1 << 63) - 1


class Buckets:
    """Which buckets are known to be there, and the bounds of each."""

    def __init__(self) -> None:
        self.shift = 51
        self._known: set[int] = set()
        self._closed: set[int] = set()

    def bounds(self, event_id: int) -> tuple[int, int]:
        """The least and greatest id of the bucket that the id falls into."""
        if event_id >= _HASHED_FROM:
            return _HASHED_FROM, _INT64_MAX
        low = event_id >> self.shift << self.shift
        return low, low + (1 << self.shift) - 1

    def grouped(self, event_ids: Sequence[int]) -> list[tuple[int, int, Sequence[int]]]:
        """Ascending ids by bucket: (least, greatest, ids)."""
        groups = []
        first = 0
        while first < len(event_ids):
            low, high = self.bounds(event_ids[first])
            after = bisect_right(event_ids, high, first)
            groups.append((low, high, event_ids[first:after]))
            first = after
        return groups

    def missing(self, event_ids: Iterable[int]) -> list[int]:
        """The least id of each bucket not known to be there, the hashed one among them."""
        wanted = {event_id >> self.shift for event_id in event_ids if event_id < _HASHED_FROM}
        lows = {bucket << self.shift for bucket in wanted} | {_HASHED_FROM}
        return sorted(lows - self._known - self._closed)

    def made(self, low: int) -> None:
        """The bucket of this least id is there now."""
        self._known.add(low)

    def close(self, low: int) -> None:
        """The bucket of this least id takes no event any more, and never will again."""
        self._closed.add(low)

    @property
    def any_closed(self) -> bool:
        """Whether any bucket that was asked for is closed."""
        return bool(self._closed)

    def is_closed(self, event_id: int | None) -> bool:
        """Whether retention has closed the bucket that the id falls into."""
        return bool(self._closed and event_id) and self.bounds(event_id or 0)[0] in self._closed

    def forget(self) -> None:
        """One was not there after all."""
        self._known.clear()
