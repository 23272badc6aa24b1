"""Reads the note in a position that tells a new owner how its last owner ended.

An owner that ends cleanly releases its partitions. If it's killed, nobody releases them, and one of
the records that it was processing may be to blame. The position tells the next owner how many
records those were. Every number here counts records from the position on.
"""

from typing import Final

import msgspec

ALONE: Final = 1
"""The owner processes one record, and nothing else in the whole process."""
BLAMED: Final = 0
"""An owner died while it processed only the next record."""
SHARED: Final = 2
"""The owner processes one record, or none yet, perhaps beside records of other partitions. Every
larger number is the size of a slice, or one more."""


class LastTry(msgspec.Struct, frozen=True, kw_only=True):
    """The `holder` that may be processing records, and at most how many (`slice_records`).

    `holder` is the random name of a process, or None after it has released the partition.
    `slice_records` is None for a partition that isn't a suspect, whose owner reads without this
    limit.
    """

    holder: str | None = None
    slice_records: int | None = None

    def slice_for(self, holder: str, *, next_offset: int, log_end: int | None) -> int | None:
        """Return the `slice_records` under the claim of this holder, or None for no suspect.

        If there are no records up to `log_end`, no record can have killed an owner. A `log_end` of
        None means that the caller doesn't know.
        """
        if log_end is None:
            return self.slice_records
        if next_offset >= log_end:
            return None
        has_ended = self.holder is not None and self.holder != holder
        if self.slice_records == BLAMED or (self.slice_records == ALONE and has_ended):
            return BLAMED
        return None if self.slice_records is None and not has_ended else SHARED
