"""What a position says about the last try to read on, and what a new owner makes of it.

An owner that ends in order gives its partitions up. If it's killed, nobody gives them up, and one
of the records that it had in hand may be to blame. The position tells the next owner how many
records that were. Every number here counts records from the position on.
"""

from typing import Final

import msgspec

ALONE: Final = 1
"""One record is in hand, and nothing else in its whole process."""
BLAMED: Final = 0
"""The next record was in hand alone when an owner ended."""
SHARED: Final = 2
"""One record is in hand, or none yet. The owner may have records of other partitions in hand too.

Every larger number is the size of a slice, or the next one above it."""


class LastTry(msgspec.Struct, frozen=True, kw_only=True):
    """The `holder` that may have records in hand, and at most how many (`slice_records`).

    `holder` is the random name of a process, None after it has given the partition up.
    `slice_records` is None for a partition that is no suspect: its owner reads without this limit.
    """

    holder: str | None = None
    slice_records: int | None = None

    def slice_for(self, holder: str, *, next_offset: int, log_end: int | None) -> int | None:
        """The `slice_records` under the claim of this holder; None for no suspect.

        Without records up to `log_end` no owner can have ended because of one. A caller that
        doesn't know the end doesn't judge.
        """
        if log_end is None:
            return self.slice_records
        if next_offset >= log_end:
            return None
        has_ended = self.holder is not None and self.holder != holder
        if self.slice_records == BLAMED or (self.slice_records == ALONE and has_ended):
            return BLAMED
        return None if self.slice_records is None and not has_ended else SHARED
