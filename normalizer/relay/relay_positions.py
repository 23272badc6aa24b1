"""The metadata that the relay commits with each offset of an input partition.

The service keeps its positions in the table `source_positions`. A relay has no database, so it
keeps the same information in the text that Kafka stores with a committed offset: which log was
read, the last record that was read, and which process owns the partition. A process that takes over
the partition reads this text to find out whether the topic was recreated, and whether the previous
owner was killed.
"""

from typing import Final

import msgspec

from normalizer.core.batch import LastRecord
from normalizer.core.previous_owner import PreviousOwner
from normalizer.kafka import CommittedOffset, KafkaPartition
from normalizer.store.claim import Claim


class RelayPosition(msgspec.Struct, frozen=True, kw_only=True):
    """Describes the log that was read up to an offset, and the owner that read it.

    `last` is the last record that was read. `last_try` says which process owns the partition, and
    how many records it may be working on. `shapes` is the fingerprint of the operator's table of
    shapes with which the records were read, or '' without a table.
    """

    cluster_id: str
    incarnation: int = 0
    shapes: str = ""
    last: LastRecord | None = None
    last_try: PreviousOwner = PreviousOwner()

    def with_records_at_risk(self, slice_records: int | None) -> "RelayPosition":
        """Return the position for a time in which its owner works on at most this many records.

        If the owner is killed, one of these may be to blame.
        """
        last_try = msgspec.structs.replace(self.last_try, slice_records=slice_records)
        return msgspec.structs.replace(self, last_try=last_try)

    def to_offset_and_metadata(self, next_offset: int) -> CommittedOffset:
        """Return the offset and metadata to commit after everything before `next_offset`."""
        return CommittedOffset(next_offset, msgspec.json.encode(self).decode())


UNKNOWN_POSITION: Final = RelayPosition(cluster_id="")
"""The position for an offset that somebody has set with another program."""


def parse_relay_position(committed: CommittedOffset, otherwise: RelayPosition) -> RelayPosition:
    """Read the committed metadata. Returns `otherwise` if another program set the offset."""
    try:
        return msgspec.json.decode(committed.metadata, type=RelayPosition)
    except msgspec.MsgspecError:
        return otherwise


def make_claim(
    partition: KafkaPartition,
    epoch: int,
    next_offset: int,
    position: RelayPosition,
    slice_records: int | None = None,
) -> Claim:
    """Return a claim with this epoch, which continues from the position."""
    last = position.last
    return Claim(
        topic=partition.topic,
        partition=partition.partition,
        incarnation=position.incarnation,
        epoch=epoch,
        next_offset=next_offset,
        cluster_id=position.cluster_id,
        last_offset=last.offset if last else None,
        last_recorded_ms=last.recorded_ms if last else None,
        last_crc=last.crc if last else None,
        slice_records=slice_records,
        found_slice=position.last_try.slice_records,
    )
