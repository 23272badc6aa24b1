"""The interface of every source: its parts, and pages of their records from any position on."""

from collections.abc import AsyncGenerator, Mapping
from types import TracebackType
from typing import Protocol, Self

import msgspec

from normalizer.core.raw_record import RawRecord

PartKey = tuple[str, int, int]
"""(topic, incarnation, partition): names a part of a source, and the position in it."""


class SourcePart(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a source: offsets from `start` up to `end`, None if the end is not known."""

    key: PartKey
    start: int
    end: int | None = None


class ReadPosition(msgspec.Struct, frozen=True, kw_only=True):
    """A position in a part: the next offset to read, and the key of the last row before it.

    `start` and `end` are where the part began and ended when the run did; `end` is None if it is
    read as far as it goes.
    """

    start: int = 0
    next_offset: int
    end: int | None = None
    cursor: str | None = None


class SourcePage(msgspec.Struct, frozen=True, kw_only=True):
    """Offsets from_offset up to next_offset of one part.

    `records` are in the part's order; their own coordinates are those they were recorded under and
    need not be the part's. `holes` are (first, next): offsets without a record. `expired`, in the
    same form, are the holes that retention deleted before they could be read.
    """

    part: PartKey
    from_offset: int
    next_offset: int
    records: list[RawRecord]
    holes: tuple[tuple[int, int], ...] = ()
    expired: tuple[tuple[int, int], ...] = ()


class HistorySource(Protocol):
    """Where history comes from. `async with` opens and closes the source."""

    @property
    def keyed(self) -> bool:
        """Whether a position needs the key of the last row: offsets only count the rows."""

    @property
    def cluster_id(self) -> str | None:
        """The Kafka cluster that is read, once the parts are known; None where it is no topic."""

    @property
    def truncated(self) -> str | None:
        """Why the source ended too early, known once it was read; None if it did not."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    async def parts(self) -> list[SourcePart]:
        """The parts there are now, with their ends. Propagates the source's errors."""

    def read(self, positions: Mapping[PartKey, ReadPosition]) -> AsyncGenerator[SourcePage, None]:
        """Yield pages from the positions on; a part without one is not read. The caller closes it.

        Raises FatalError where it cannot go on, RetryableError where it can later.
        """

    def share(self) -> float | None:
        """How much has been read, 0 to 1; None where that is unknown."""
