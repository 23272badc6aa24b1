"""What is committed with an offset: how far a partition was read, and of which log.

Kafka keeps a text beside each committed offset. The relay keeps there what `source_positions` keeps
for the service: with it a recreated topic is noticed, and a partition that makes no progress.
"""

from typing import Final

import msgspec

from normalizer.core.batch import LastRecord
from normalizer.kafka import CommittedOffset, KafkaPartition
from normalizer.store.store import Claim


class RelayPosition(msgspec.Struct, frozen=True, kw_only=True):
    """The log that was read up to the offset, the last record of it, and the claim that did so.

    `shapes` is the fingerprint of the table of shapes by which it was read; '' without one.
    """

    cluster_id: str
    incarnation: int = 0
    epoch: int = 0
    shapes: str = ""
    last: LastRecord | None = None


NO_POSITION: Final = RelayPosition(cluster_id="")
"""Of an offset that somebody has set by hand."""


def committed_position(
    claim: Claim, shapes: str, next_offset: int, last: LastRecord | None
) -> CommittedOffset:
    """What to commit once everything before `next_offset` was written under this claim."""
    position = RelayPosition(
        cluster_id=claim.cluster_id,
        incarnation=claim.incarnation,
        epoch=claim.epoch,
        shapes=shapes,
        last=last,
    )
    return CommittedOffset(next_offset, msgspec.json.encode(position).decode())


def position_of(committed: CommittedOffset, otherwise: RelayPosition) -> RelayPosition:
    """Read what was committed; `otherwise` if somebody has set the offset by hand."""
    try:
        return _decoder.decode(committed.metadata)
    except msgspec.MsgspecError:
        return otherwise


def claim_of(
    partition: KafkaPartition, epoch: int, next_offset: int, position: RelayPosition
) -> Claim:
    """The claim of this epoch, which goes on at the position."""
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
        moved_epoch=epoch - _claims_since(position.epoch, epoch),
    )


def _claims_since(moved_epoch: int, epoch: int) -> int:
    """How many claims there were since the position moved.

    A claim that aborts a transaction raises the epoch twice. Kafka gives an id away that had no
    transaction for days; then the epochs of another producer are counted from its start.
    """
    if moved_epoch >> EPOCH_BITS != epoch >> EPOCH_BITS:
        moved_epoch = epoch >> EPOCH_BITS << EPOCH_BITS
    return (epoch - moved_epoch + 1) // 2


EPOCH_BITS: Final = 16
_decoder: Final[msgspec.json.Decoder[RelayPosition]] = msgspec.json.Decoder(RelayPosition)
