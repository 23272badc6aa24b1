"""Reads ranges of a topic's partitions, with the same coordinates as the service.

Each record gets the coordinates that it has when the service reads it, including the topic's newest
incarnation. That's why it's stored only once, no matter whether the backfill or the service reads
it first. Source: docs/spec/wire-shapes.md#m1, #g6.
"""

from collections.abc import AsyncGenerator, Collection, Mapping
from types import MappingProxyType
from typing import Self

import msgspec

from normalizer.config.settings import Settings
from normalizer.core.batch import holes_between
from normalizer.errors import (
    AnotherClusterError,
    BrokerUnavailableError,
    ConfigurationError,
    FatalError,
)
from normalizer.jobs.sources.job_source import PartKey, ReadPosition, SourcePage, SourcePart
from normalizer.kafka import (
    FetchedChunk,
    GrouplessClient,
    KafkaPartition,
    OffsetBounds,
    find_log_mismatch,
)
from normalizer.kafka.range_reader import ExpiredRange, OffsetRange, OffsetRangeReader
from normalizer.store.claim import Claim


class TopicRange(msgspec.Struct, frozen=True, kw_only=True):
    """Which records of a topic to read: all of them, unless a field says otherwise.

    Offsets apply to each partition, and times are in milliseconds since 1970. In each partition the
    range begins with the first record at or after `from_ms`, and ends before the first record at or
    after `to_ms`.
    """

    partitions: tuple[int, ...] = ()
    from_offset: int | None = None
    to_offset: int | None = None
    from_ms: int | None = None
    to_ms: int | None = None


class TopicSource:
    """A range of a topic. All partitions are read in parallel, each up to its present end.

    `live` has the service's positions. If they show that the topic was recreated since the service
    last read it, `list_parts` raises FatalError. `clusters` maps each topic that was read before to
    the id of its Kafka cluster, so that a wrong address is noticed.
    """

    positions_need_cursor = False
    cluster_id: str | None = None

    def __init__(
        self,
        settings: Settings,
        topic: str,
        wanted: TopicRange,
        *,
        live: Collection[Claim] = (),
        clusters: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._settings = settings
        self._topic = topic
        self._range = wanted
        self._live = {claim.partition: claim for claim in live if claim.topic == topic}
        self._cluster_of_topic = clusters.get(topic)
        self._reader = OffsetRangeReader(settings)
        self._present: set[PartKey] = set()
        self._recreated: dict[PartKey, ReadPosition] = {}
        self._offset_ranges: dict[PartKey, OffsetRange] = {}
        self._sizes: dict[PartKey, int] = {}
        self._read: dict[PartKey, int] = {}
        """How many offsets of each part were read."""
        self._expired: list[ExpiredRange] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._reader.close()

    @property
    def truncation_reason(self) -> str | None:
        """Return which offsets were gone before they were read, or None."""
        expired = [f"{one.partition} {one.first} to {one.after}" for one in self._expired]
        lost = [
            f"{KafkaPartition(topic, partition)} {at.next_offset} to {at.end}"
            for (topic, _, partition), at in self._recreated.items()
        ]
        reasons = {
            "retention deleted offsets before they were read": expired,
            "the topic was recreated before these offsets were read": lost,
        }
        return (
            "; ".join(f"{why}: {', '.join(gone)}" for why, gone in reasons.items() if gone) or None
        )

    async def list_parts(self) -> list[SourcePart]:
        """Return one part per partition.

        Raises FatalError, ConfigurationError, and BrokerUnavailableError.
        """
        async with GrouplessClient(self._settings) as log:
            partitions = self._partitions_to_read(await log.partitions(self._topic))
            bounds = await log.offset_bounds(partitions)
            await self._check_incarnation(log, bounds)
        wanted = self._range
        # A start that has expired is reported when it's read.
        starts = await self._offsets(
            bounds,
            wanted.from_ms,
            wanted.from_offset,
            {one: bound.start for one, bound in bounds.items()},
        )
        ends = await self._offsets(bounds, wanted.to_ms, wanted.to_offset, {})
        self._present = {self._key(one) for one in partitions}
        return [
            SourcePart(key=self._key(one), start=starts[one], end=max(starts[one], ends[one]))
            for one in partitions
        ]

    async def read(
        self, positions: Mapping[PartKey, ReadPosition]
    ) -> AsyncGenerator[SourcePage, None]:
        """Yield every partition from its position to its end.

        Before a run is resumed, retention may delete some of its offsets, or somebody may recreate
        the topic. Offsets that no longer exist are yielded as expired.
        """
        for key, at in positions.items():
            _, incarnation, _ = key
            assert at.end is not None
            if key in self._present:
                self._offset_ranges[key] = OffsetRange(incarnation, at.next_offset, at.end)
                self._sizes[key] = at.end - at.start
                self._read[key] = at.next_offset - at.start
            elif at.next_offset < at.end:
                self._recreated[key] = at
                yield _expired(key, at.next_offset, at.end)
        wanted = {
            KafkaPartition(key[0], key[2]): offset_range
            for key, offset_range in self._offset_ranges.items()
        }
        try:
            async for found in self._reader.read_ranges(wanted):
                page = (
                    self._expired_page(found)
                    if isinstance(found, ExpiredRange)
                    else self._page(found)
                )
                self._read[page.part] = page.next_offset - positions[page.part].start
                yield page
        except BrokerUnavailableError:
            await self._reader.close()
            raise

    def progress_ratio(self) -> float | None:
        """Return the share of the run's offsets that was read, also by earlier processes."""
        total = sum(self._sizes.values())
        return sum(self._read.values()) / total if total else None

    def _partitions_to_read(self, known: Collection[KafkaPartition]) -> list[KafkaPartition]:
        if not known:
            raise ConfigurationError(f"the brokers have no topic {self._topic}. Check its spelling")
        wanted = sorted(known)
        if self._range.partitions:
            wanted = [KafkaPartition(self._topic, number) for number in self._range.partitions]
        if missing := [str(one) for one in wanted if one not in known]:
            raise ConfigurationError(f"the brokers have no such partition: {', '.join(missing)}")
        return wanted

    async def _check_incarnation(
        self, log: GrouplessClient, bounds: Mapping[KafkaPartition, OffsetBounds]
    ) -> None:
        """Raise FatalError if the topic isn't the one that the service's positions belong to."""
        self.cluster_id = cluster_id = await log.cluster_id()
        known = self._cluster_of_topic
        if known not in {None, cluster_id}:
            first = min(bounds)
            raise FatalError(
                str(
                    AnotherClusterError(
                        known, cluster_id, topic=first.topic, partition=first.partition
                    )
                )
            )
        for one in bounds:
            claim = self._live.get(one.partition)
            if claim is None:
                continue
            other_log = await find_log_mismatch(
                log,
                one,
                (claim.cluster_id, cluster_id),
                next_offset=claim.next_offset,
                last=claim.last_record,
            )
            if other_log:
                raise FatalError(f"{one}: {other_log}")

    async def _offsets(
        self,
        bounds: Mapping[KafkaPartition, OffsetBounds],
        time_ms: int | None,
        offset: int | None,
        otherwise: Mapping[KafkaPartition, int],
    ) -> dict[KafkaPartition, int]:
        """Return each partition's first offset at this time, or `offset`, or the one `otherwise`.

        It's the partition's end if there's none, and never beyond that end.
        """
        found: Mapping[KafkaPartition, int | None] = otherwise
        if time_ms is not None:
            found = await self._reader.offsets_at_time(list(bounds), time_ms)
        elif offset is not None:
            found = dict.fromkeys(bounds, offset)
        ends = ((one, bound.end) for one, bound in bounds.items())
        return {one: end if (at := found.get(one)) is None else min(at, end) for one, end in ends}

    def _key(self, one: KafkaPartition) -> PartKey:
        claim = self._live.get(one.partition)
        return (one.topic, claim.incarnation if claim else 0, one.partition)

    def _page(self, chunk: FetchedChunk) -> SourcePage:
        return SourcePage(
            part=self._key(chunk.partition),
            from_offset=chunk.from_offset,
            next_offset=chunk.next_offset,
            records=chunk.records,
            holes=holes_between(
                [record.offset for record in chunk.records], chunk.from_offset, chunk.next_offset
            ),
        )

    def _expired_page(self, expired_range: ExpiredRange) -> SourcePage:
        self._expired.append(expired_range)
        return _expired(
            self._key(expired_range.partition), expired_range.first, expired_range.after
        )


def _expired(part: PartKey, first: int, after: int) -> SourcePage:
    span = ((first, after),)
    return SourcePage(
        part=part, from_offset=first, next_offset=after, records=[], holes=span, expired=span
    )
