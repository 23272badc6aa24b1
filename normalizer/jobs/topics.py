"""A topic in, stretches of its partitions out, under the coordinates that the service gives them.

Its records belong to the live generation, so what the service has stored, or will store, and what
a job stores are the same records. Source: design, promise 2; wire-shapes, section 6.
"""

from collections.abc import AsyncGenerator, Collection, Mapping
from types import TracebackType
from typing import Self

import msgspec

from normalizer.errors import BrokerUnavailable, ConfigurationError, FatalError
from normalizer.jobs.source import At, Page, Part, PartKey
from normalizer.kafka import Bounds, Chunk, LogReader, Partition, why_reset
from normalizer.kafka.stretches import Lost, Stretch, StretchReader
from normalizer.settings import Settings
from normalizer.store.store import Claim


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """Which records of a topic; None everywhere: all of them.

    Offsets are of each partition, times in milliseconds since 1970: from the first record of that
    time or later, up to (not including) the first of `to_ms` or later.
    """

    partitions: tuple[int, ...] = ()
    from_offset: int | None = None
    to_offset: int | None = None
    from_ms: int | None = None
    to_ms: int | None = None


class TopicSource:
    """The asked range of a topic, every partition at once, up to where it ends now.

    `live` are the positions of the service; a topic that it reads is compared with them first.
    """

    keyed = False

    def __init__(
        self,
        settings: Settings,
        topic: str,
        asked: Range,
        *,
        live: Collection[Claim] = (),
    ) -> None:
        self._settings = settings
        self._topic = topic
        self._asked = asked
        self._live = {claim.partition: claim for claim in live if claim.topic == topic}
        self._reader = StretchReader(settings)
        self._stretches: dict[PartKey, Stretch] = {}
        self._read: dict[PartKey, int] = {}
        self._lost: list[Lost] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._reader.close()

    @property
    def truncated(self) -> str | None:
        """Which offsets retention took before they were read; None if none."""
        if not self._lost:
            return None
        stretches = ", ".join(
            f"{lost.partition} {lost.first} to {lost.after}" for lost in self._lost
        )
        return f"retention took offsets before they were read: {stretches}"

    async def parts(self) -> list[Part]:
        """One part a partition. Raises FatalError, ConfigurationError and BrokerUnavailable."""
        async with LogReader(self._settings) as log:
            partitions = self._wanted(await log.partitions(self._topic))
            bounds = await self._reader.bounds(partitions)
            await self._check_generation(log, bounds)
        firsts = await self._firsts(bounds)
        afters = await self._afters(bounds)
        return [
            Part(key=self._key(one), start=firsts[one], end=max(firsts[one], afters[one]))
            for one in partitions
        ]

    async def read(self, positions: Mapping[PartKey, At]) -> AsyncGenerator[Page, None]:
        """Every partition from its position to its end."""
        for key, at in positions.items():
            _, generation, _ = key
            assert at.end is not None
            self._stretches[key] = Stretch(generation, at.next_offset, at.end)
        wanted = {Partition(key[0], key[2]): stretch for key, stretch in self._stretches.items()}
        try:
            async for found in self._reader.read(wanted):
                page = self._lost_page(found) if isinstance(found, Lost) else self._page(found)
                self._read[page.part] = page.next_offset
                yield page
        except BrokerUnavailable:
            await self._reader.close()
            raise

    def share(self) -> float | None:
        """By offsets, of what was left when this reading began."""
        total = sum(stretch.after - stretch.first for stretch in self._stretches.values())
        read = sum(
            next_offset - self._stretches[key].first for key, next_offset in self._read.items()
        )
        return read / total if total else None

    def _wanted(self, known: Collection[Partition]) -> list[Partition]:
        if not known:
            raise FatalError(f"{self._topic}: there is no such topic")
        wanted = sorted(known)
        if self._asked.partitions:
            wanted = [Partition(self._topic, number) for number in self._asked.partitions]
        if missing := [str(one) for one in wanted if one not in known]:
            raise ConfigurationError(f"there is no partition {', '.join(missing)}")
        return wanted

    async def _check_generation(self, log: LogReader, bounds: Mapping[Partition, Bounds]) -> None:
        """Refuse a topic that is not the one that the service's positions speak of."""
        if not self._live:
            return
        cluster_id = await log.cluster_id()
        for one in bounds:
            claim = self._live.get(one.partition)
            if claim is None:
                continue
            why = await why_reset(
                log,
                one,
                (claim.cluster_id, cluster_id),
                next_offset=claim.next_offset,
                last=claim.last,
            )
            if why:
                raise FatalError(
                    f"{one}: {why}: the topic was made anew; let the service begin a new "
                    "generation first (--accept-reset)"
                )

    async def _firsts(self, bounds: Mapping[Partition, Bounds]) -> dict[Partition, int]:
        if self._asked.from_ms is not None:
            at = await self._reader.offsets_at(list(bounds), self._asked.from_ms)
            return {one: _or(at[one], bound.end) for one, bound in bounds.items()}
        # An offset that was asked for and is gone is found missing when it is read.
        return {
            one: min(_or(self._asked.from_offset, bound.start), bound.end)
            for one, bound in bounds.items()
        }

    async def _afters(self, bounds: Mapping[Partition, Bounds]) -> dict[Partition, int]:
        if self._asked.to_ms is not None:
            at = await self._reader.offsets_at(list(bounds), self._asked.to_ms)
            return {one: min(_or(at[one], bound.end), bound.end) for one, bound in bounds.items()}
        return {
            one: min(_or(self._asked.to_offset, bound.end), bound.end)
            for one, bound in bounds.items()
        }

    def _key(self, one: Partition) -> PartKey:
        claim = self._live.get(one.partition)
        return (one.topic, claim.generation if claim else 0, one.partition)

    def _page(self, chunk: Chunk) -> Page:
        holes = []
        expected = chunk.from_offset
        for record in chunk.records:
            if record.offset > expected:
                holes.append((expected, record.offset))
            expected = record.offset + 1
        if chunk.next_offset > expected:
            holes.append((expected, chunk.next_offset))
        return Page(
            part=self._key(chunk.partition),
            from_offset=chunk.from_offset,
            next_offset=chunk.next_offset,
            records=chunk.records,
            holes=tuple(holes),
        )

    def _lost_page(self, lost: Lost) -> Page:
        self._lost.append(lost)
        return Page(
            part=self._key(lost.partition),
            from_offset=lost.first,
            next_offset=lost.after,
            records=[],
            holes=((lost.first, lost.after),),
            expired=((lost.first, lost.after),),
        )


def _or(offset: int | None, otherwise: int) -> int:
    return otherwise if offset is None else offset
