"""Maps event ids to the partitions of the table `events`."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence


class Grid:
    """The bounds of every partition; each new connection loads them."""

    def __init__(self) -> None:
        self.partitions: Sequence[tuple[int, int]] = ()
        """The least and greatest id of each, ascending; together they cover every bigint."""
        self._highs: list[int] = []

    def load(self, partitions: Sequence[tuple[int, int]]) -> None:
        """Replace the partitions."""
        self.partitions = partitions
        self._highs = [high for _, high in partitions]

    def grouped(self, event_ids: Sequence[int]) -> list[tuple[int, int, Sequence[int]]]:
        """Group ascending ids by partition: (least, greatest, ids)."""
        groups = []
        first = 0
        while first < len(event_ids):
            low, high = self.bounds(event_ids[first])
            after = bisect_right(event_ids, high, first)
            groups.append((low, high, event_ids[first:after]))
            first = after
        return groups

    def bounds(self, event_id: int) -> tuple[int, int]:
        """The least and greatest id of the partition that the id falls into."""
        return self.partitions[bisect_left(self._highs, event_id)]


def adjacent_ranges(partitions: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join adjacent partitions (least, greatest id), ascending, into ranges."""
    ranges: list[tuple[int, int]] = []
    for low, high in partitions:
        if ranges and ranges[-1][1] + 1 == low:
            ranges[-1] = (ranges[-1][0], high)
        else:
            ranges.append((low, high))
    return ranges
