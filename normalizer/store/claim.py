"""A claim: the right of one process to write one partition, from one position on."""

from typing import NamedTuple

import msgspec

from normalizer.core.batch import (
    LastRecord,
    PartitionBatch,
    RecordWithOutcomes,
    holes_between,
    last_record_or_none,
)


class PartitionOwner(NamedTuple):
    """Identifies this process as the owner of a partition.

    `name` is for operators. `holder` is a random name, which tells this process from an earlier one
    with the same name. `group_id` is the consumer group, or empty if the process claims partitions
    outside of a group.
    """

    name: str
    holder: str
    group_id: str = ""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A partition that this process owns, with its epoch and the position to read from.

    - `incarnation` tells how often the topic was recreated. Offsets begin again with each one.
    - `epoch` is the number of the claim. Each claim of the partition raises it, and a batch is
      written only if its epoch is still the highest. So a claim ends when another process claims
      the partition, or an operator moves its position.
    - `next_offset` is where reading begins, and `cluster_id` the Kafka cluster of these offsets.
    - `last_offset`, `last_recorded_ms`, and `last_crc` identify the last record that was read. With
      them the process checks that the topic still has the records before the position.
    - `slice_records` is the value that this claim has stored in the position, and `found_slice` the
      one that it has replaced. They're None if no record is suspected of killing its owner (see
      `PreviousOwner`).
    """

    topic: str
    incarnation: int
    partition: int
    epoch: int
    next_offset: int
    cluster_id: str
    last_offset: int | None
    last_recorded_ms: int | None
    last_crc: int | None
    slice_records: int | None = None
    found_slice: int | None = None

    def make_part(
        self, from_offset: int, next_offset: int, items: list[RecordWithOutcomes]
    ) -> PartitionBatch:
        """Return a batch's part with these offsets and records, read under this claim.

        Offsets without a record are holes.
        """
        return PartitionBatch(
            topic=self.topic,
            incarnation=self.incarnation,
            partition=self.partition,
            epoch=self.epoch,
            from_offset=from_offset,
            next_offset=next_offset,
            items=items,
            holes=holes_between([record.offset for record, _ in items], from_offset, next_offset),
        )

    @property
    def last_record(self) -> LastRecord | None:
        """Return the last record that was read, or None if none was."""
        return last_record_or_none(self.last_offset, self.last_recorded_ms, self.last_crc)
