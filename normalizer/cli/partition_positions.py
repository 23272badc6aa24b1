"""Shows the stored positions of partitions, and changes them for an operator.

An operator can skip records, set a position back, or retire a partition. A skipped record isn't
lost, because it's read from Kafka first and goes to quarantine. Only an offset that can't be read
becomes part of a gap.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from normalizer.config.settings import Settings
from normalizer.core.batch import OutcomeTotals, PartitionBatch, holes_between
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Rejected
from normalizer.errors import BrokerUnavailableError, ConfigurationError, RetryableError
from normalizer.kafka import GrouplessClient, KafkaPartition, UnreadableBatchError
from normalizer.store.position_changes import PositionChange, change_position, position_moved_error
from normalizer.store.read_only import read_only_connection

_MOST_OFFSETS: Final = 10_000
"""The most offsets to skip at once. They're one transaction, and its records are kept in memory."""
_EMPTY_ANSWERS: Final = 3  # a quota delays records, so a single empty response proves nothing

_POSITIONS: Final = """
    select   topic, incarnation, partition, next_offset, start_offset, owner, epoch, records, holes,
             rewound, outcomes, stored, duplicate, merged, quarantined, ignored, cluster_id,
             committed_at::text as committed_at
    from     normalizer.source_positions
    where    ($1::text is null or topic = $1::text)
    and      ($2::integer is null or partition = $2::integer)
    order by topic, partition, incarnation desc
"""


class PartitionPosition(OutcomeTotals, frozen=True, kw_only=True):
    """The position of a partition, and its running totals.

    `log_end` is None if no broker of its cluster reported it.
    """

    topic: str
    incarnation: int
    partition: int
    next_offset: int
    log_end: int | None = None
    start_offset: int
    owner: str
    epoch: int
    rewound: int
    cluster_id: str
    committed_at: str | None

    @property
    def kafka_partition(self) -> KafkaPartition:
        """Return the topic and partition."""
        return KafkaPartition(self.topic, self.partition)


class PositionChangeResult(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a position that was made, or in a dry run would be made."""

    change: PositionChange
    part: PartitionBatch
    epoch: int | None

    def __str__(self) -> str:
        part = self.part
        gaps = sum(after - first for first, after in part.holes)
        done = "nothing was changed. It would be: " if self.epoch is None else ""
        passed = {
            "skip": f"{len(part.items)} records to quarantine as skipped, {gaps} offsets to gaps",
            "rewind": f"{part.from_offset - part.next_offset} offsets will be read again",
            "retire": "retired until a process claims it",
        }[self.change.action]
        after = "" if self.epoch is None else f"; epoch {self.epoch}"
        return (
            f"{done}{part.topic}[{part.partition}]: from {part.from_offset} "
            f"to {part.next_offset}: {passed}{after}"
        )


async def read_positions(
    settings: Settings, log: GrouplessClient | None, topic: str | None, partition: int | None
) -> list[PartitionPosition]:
    """Return every matching position. The newest incarnation of each partition comes first.

    The ends of the logs are read from Kafka. If the brokers are unreachable, the positions are
    returned without them. Raises StoreUnavailableError, FatalError, and ConfigurationError for a
    partition that was never read.
    """
    async with read_only_connection(settings.required_database_url) as connection:
        rows = await connection.fetch(_POSITIONS, topic, partition)
    if topic is not None and not rows:
        at = topic if partition is None else KafkaPartition(topic, partition)
        raise ConfigurationError(
            f"{at} was never read into this database. Run `normalizer position show` to list the "
            "partitions that have been read"
        )
    positions = [PartitionPosition(**row) for row in rows]
    if log is None:
        return positions
    try:
        cluster_id = await log.cluster_id()
        newest = {one.kafka_partition: one for one in reversed(positions)}
        newest = {at: one for at, one in newest.items() if one.cluster_id == cluster_id}
        there = [
            one for name in {one.topic for one in newest} for one in await log.partitions(name)
        ]
        bounds = await log.reachable_offset_bounds(set(there) & newest.keys())
    except RetryableError:
        return positions
    ends = {newest[at]: bound.end for at, bound in bounds.items()}
    return [msgspec.structs.replace(one, log_end=ends.get(one)) for one in positions]


async def skip_records(
    settings: Settings,
    log: GrouplessClient | None,
    at: KafkaPartition,
    offset: int,
    *,
    to: int | None,
    change: PositionChange,
    dry_run: bool,
) -> PositionChangeResult:
    """Skip the record at the position, or all records before `to`.

    Raises the errors of `change_position`.
    """
    position = (await read_positions(settings, log, *at))[0]
    if to is not None and not offset < to <= offset + _MOST_OFFSETS:
        raise ConfigurationError(
            f"--to: expected an offset above --offset, from {offset + 1} to "
            f"{offset + _MOST_OFFSETS}, but got {to}"
        )
    if position.next_offset != offset:
        raise position_moved_error(*at, position.next_offset)
    records, next_offset = await _passed(log, position, offset, to)
    sentence = f"{at}@{{}}: skipped by {change.who}: {change.why}"
    part = _part(
        position,
        offset,
        next_offset,
        records=records,
        details=[sentence.format(record.offset) for record in records],
    )
    return await _done(settings, change, part, dry_run=dry_run)


async def rewind_position(
    settings: Settings,
    log: GrouplessClient | None,
    at: KafkaPartition,
    offset: int,
    *,
    change: PositionChange,
    dry_run: bool,
) -> PositionChangeResult:
    """Set the position back. Stored records that are read again are duplicates.

    Raises as `skip_records` does.
    """
    position = (await read_positions(settings, log, *at))[0]
    if not position.start_offset <= offset < position.next_offset:
        raise ConfigurationError(
            f"--offset: expected an offset that was read before, from {position.start_offset} to "
            f"{position.next_offset - 1}, but got {offset}"
        )
    start = (
        (await log.offset_bounds([at]))[at].start
        if log and position.log_end is not None
        else offset
    )
    if offset < start:
        raise ConfigurationError(
            f"--offset: Kafka's log now begins at offset {start}, so offset {offset} can't be read "
            "from it. Load earlier records from a copy of the topic with `normalizer backfill`"
        )
    part = _part(position, position.next_offset, offset)
    return await _done(settings, change, part, dry_run=dry_run)


async def retire_partition(
    settings: Settings,
    log: GrouplessClient | None,
    at: KafkaPartition,
    *,
    change: PositionChange,
    dry_run: bool,
) -> PositionChangeResult:
    """Exclude the partition from the view freshness. Raises the errors of `change_position`."""
    position = (await read_positions(settings, log, *at))[0]
    part = _part(position, position.next_offset, position.next_offset)
    return await _done(settings, change, part, dry_run=dry_run)


async def _done(
    settings: Settings, change: PositionChange, part: PartitionBatch, *, dry_run: bool
) -> PositionChangeResult:
    epoch = None if dry_run else await change_position(settings.required_database_url, change, part)
    return PositionChangeResult(change=change, part=part, epoch=epoch)


async def _passed(
    log: GrouplessClient | None,
    position: PartitionPosition,
    offset: int,
    to: int | None,
) -> tuple[list[RawRecord], int]:
    """Return the records that can be read in the range to skip, and the next offset to read."""
    at = position.kafka_partition
    if log is None:
        raise ConfigurationError(
            f"{at}: KAFKA_BOOTSTRAP_SERVERS is not set, so nothing was skipped. Set it, "
            "so that the command can read the records from Kafka and store them in quarantine"
        )
    if (cluster := await log.cluster_id()) != position.cluster_id:
        raise ConfigurationError(
            f"{at}: KAFKA_BOOTSTRAP_SERVERS leads to cluster {cluster}, but the position "
            f"belongs to cluster {position.cluster_id}, so nothing was skipped. Set "
            "KAFKA_BOOTSTRAP_SERVERS to the brokers of the position's cluster"
        )
    if at not in await log.partitions(position.topic):
        raise ConfigurationError(
            f"{at}: the brokers have no such partition, so there is nothing to skip. If "
            "the partition was deleted for good, use `normalizer position retire` instead"
        )
    bounds = (await log.offset_bounds([at]))[at]
    if (to or offset + 1) > bounds.end:
        raise ConfigurationError(
            f"{at}: the log ends at offset {bounds.end}, so the position can't move to "
            f"offset {to or offset + 1}. Choose an offset of at most {bounds.end}"
        )
    if offset < bounds.start and to is None:
        return [], bounds.start
    return await _read(log, position, max(offset, bounds.start), to, bounds.end)


async def _read(
    log: GrouplessClient, position: PartitionPosition, offset: int, to: int | None, end: int
) -> tuple[list[RawRecord], int]:
    """Return the records before `to`, with `to`.

    Without `to`, return the record at `offset`, or if there's none the offset of the next record.
    """
    at = position.kafka_partition
    records: list[RawRecord] = []
    first, last, empty_answers = offset, to or min(end, offset + _MOST_OFFSETS), 0
    while offset < last and empty_answers < _EMPTY_ANSWERS:
        try:
            chunk = await log.fetch_chunk(at, offset, incarnation=position.incarnation)
        except UnreadableBatchError as error:
            offset = error.next_offset or offset + 1
            continue
        if chunk is None:
            raise BrokerUnavailableError(
                f"{at}: Kafka's retention deleted offset {offset} a moment ago, so "
                "there's nothing to skip. Run the command again to skip the record that's first now"
            )
        found = [one for one in chunk.records if to is None or one.offset < to]
        if to is None and found:
            at_once = found[0].offset == first
            return (found[:1], first + 1) if at_once else ([], found[0].offset)
        records += found
        empty_answers = empty_answers + 1 if chunk.next_offset == offset else 0
        offset = chunk.next_offset
    if to is None and offset < last:
        raise BrokerUnavailableError(
            f"{at}: the brokers return no record at or after offset {offset}, so the "
            "next offset can't be determined. If the log is damaged there, say with --to at which "
            "offset to continue"
        )
    return records, to or min(offset, end)


def _part(
    position: PartitionPosition,
    from_offset: int,
    next_offset: int,
    *,
    records: Sequence[RawRecord] = (),
    details: Sequence[str] = (),
) -> PartitionBatch:
    """Return the skipped range as a part of a batch. Its offsets without a record are holes."""
    return PartitionBatch(
        topic=position.topic,
        incarnation=position.incarnation,
        partition=position.partition,
        epoch=position.epoch,
        from_offset=from_offset,
        next_offset=next_offset,
        items=[
            (record, (Rejected(reason="skipped", detail=detail),))
            for record, detail in zip(records, details, strict=True)
        ],
        holes=holes_between([record.offset for record in records], from_offset, next_offset),
    )


def format_positions(positions: Sequence[PartitionPosition]) -> str:
    """Format positions as a table for people, one line per partition."""
    names = (
        *("topic", "partition", "incarnation", "next_offset", "log_end", "epoch", "owner"),
        *("records", "holes", "rewound", "stored", "duplicate", "merged", "quarantined", "ignored"),
    )
    rows = [
        names,
        *(
            tuple("-" if (said := getattr(one, name)) is None else str(said) for name in names)
            for one in positions
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
