"""Defines the interface of a source of history, which a backfill reads.

A source consists of parts, such as partitions or files, and yields the records of a part in pages,
from any position on. A backfill and its dry run work with any class that implements JobSource.
There's one each for files, topics, tables, and the quarantine.
"""

from collections.abc import AsyncGenerator, Mapping
from types import TracebackType
from typing import Protocol, Self

import msgspec

from normalizer.core.raw_record import RawRecord

PartKey = tuple[str, int, int]
"""(topic, incarnation, partition), which identifies a part of a source and the position in it."""


class SourcePart(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a source: the offsets from `start` to `end`. `end` is None if it isn't known."""

    key: PartKey
    start: int
    end: int | None = None


class ReadPosition(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run has read a part, and how far it will read.

    `next_offset` is the offset to read next, and `cursor` is the key of the last row read, if the
    source needs one. `start` and `end` are the part's first offset and its end when the run began.
    `end` is None if the run reads as far as it can.
    """

    start: int = 0
    next_offset: int
    end: int | None = None
    cursor: str | None = None


class SourcePage(msgspec.Struct, frozen=True, kw_only=True):
    """The records of one part, from from_offset up to, but not including, next_offset.

    These offsets number the part's own records, for example the lines of a file. A record may also
    have coordinates of its own: a line that kcat wrote to a file names the topic, partition, and
    offset that it came from. `holes` are the ranges (first, next) of offsets without a record.
    `expired` are the holes whose records Kafka's retention deleted before we could read them.
    """

    part: PartKey
    from_offset: int
    next_offset: int
    records: list[RawRecord]
    holes: tuple[tuple[int, int], ...] = ()
    expired: tuple[tuple[int, int], ...] = ()


class JobSource(Protocol):
    """A source of history, such as a topic, files, or a table.

    `async with` opens and closes it. A job calls `list_parts` first, then looks up how far it has
    read each part, and passes these positions to `read`.
    """

    @property
    def positions_need_cursor(self) -> bool:
        """Return whether a position needs the last row's key, because offsets only count rows."""

    @property
    def cluster_id(self) -> str | None:
        """Return the Kafka cluster once the parts are known. None if it isn't a topic."""

    @property
    def truncation_reason(self) -> str | None:
        """Return why the source ended too early, or None if it didn't. Valid after reading."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    async def list_parts(self) -> list[SourcePart]:
        """Return the present parts with their ends. Raises the source's errors."""

    def read(self, positions: Mapping[PartKey, ReadPosition]) -> AsyncGenerator[SourcePage, None]:
        """Yield pages of each part that has a position, from that position on.

        The caller closes the iterator. Raises FatalError if reading can't continue, and
        RetryableError if it may work later.
        """

    def progress_ratio(self) -> float | None:
        """Return the share that has been read, from 0 to 1, or None if that isn't known."""
