"""Reads what a partition's position says about how the previous owner ended.

An owner that ends normally releases its partitions. An owner that's killed can't, and the cause may
be one of the records that it was working on, for example one that takes too much memory. So the
next owner reads the following records in small groups, called slices, and stores in the position
how many records it may be working on. If it's killed too, the owner after it reads these records in
smaller slices, until the harmful one is found.
"""

from typing import Final

import msgspec

SLICE_CODE_ALONE: Final = 1
"""The owner works on one record, and nothing else in the whole process."""
SLICE_CODE_BLAMED: Final = 0
"""An owner died while it worked on only the next record."""
SLICE_CODE_ONE_RECORD: Final = 2
"""The owner works on one record of the partition, or on none yet, and maybe on records of other
partitions too. A greater number is the size of a slice, or one more."""


class PreviousOwner(msgspec.Struct, frozen=True, kw_only=True):
    """What a partition's position says about the previous owner.

    - `holder` is the random name of a process that may still be working on records, or None if the
      process has released the partition.
    - `slice_records` is the greatest number of records that this process may have been working on.
      It's None if the partition wasn't a suspect, because its owner then read without such a limit.
    """

    holder: str | None = None
    slice_records: int | None = None

    def slice_records_for(
        self, holder: str, *, next_offset: int, log_end: int | None
    ) -> int | None:
        """Return `slice_records` for a claim by this holder, or None if the partition is healthy.

        A partition is healthy if none of its records can have killed its last owner, for example
        because no record is unread before `log_end`. Otherwise it's a suspect, and its new owner
        reads it in slices. Pass None for `log_end` if the end of the log isn't known.
        """
        if log_end is None:
            return self.slice_records
        if next_offset >= log_end:
            return None
        has_ended = self.holder is not None and self.holder != holder
        if self.slice_records == SLICE_CODE_BLAMED or (
            self.slice_records == SLICE_CODE_ALONE and has_ended
        ):
            return SLICE_CODE_BLAMED
        return None if self.slice_records is None and not has_ended else SLICE_CODE_ONE_RECORD
