"""Reads the note in a position that tells a new owner how the previous owner ended.

An owner that ends normally releases its partitions. If it's killed, nobody releases them, and one
of the records that it was working on may be to blame. So the position says how many records these
were, at most, counted from the position on. The new owner then reads as many, or fewer, at a time.
Such a piece is called a slice.
"""

from typing import Final

import msgspec

ALONE: Final = 1
"""The owner works on one record, and nothing else in the whole process."""
BLAMED: Final = 0
"""An owner died while it worked on only the next record."""
SHARED: Final = 2
"""The owner works on one record, or on none yet, and maybe on records of other partitions too. A
greater number is the size of a slice, or one more."""


class LastTry(msgspec.Struct, frozen=True, kw_only=True):
    """What a position says about its previous owner.

    `holder` is the random name of the process that may still be working on records, or None if it
    has released the partition. `slice_records` is how many records at most, or None for a partition
    that isn't suspect, whose owner reads without this limit.
    """

    holder: str | None = None
    slice_records: int | None = None

    def slice_records_for(
        self, holder: str, *, next_offset: int, log_end: int | None
    ) -> int | None:
        """Return the `slice_records` for the claim of this holder, or None if it isn't a suspect.

        If the partition has no records up to `log_end`, no record can have killed an owner. Pass
        None if the end of the log isn't known.
        """
        if log_end is None:
            return self.slice_records
        if next_offset >= log_end:
            return None
        has_ended = self.holder is not None and self.holder != holder
        if self.slice_records == BLAMED or (self.slice_records == ALONE and has_ended):
            return BLAMED
        return None if self.slice_records is None and not has_ended else SHARED
