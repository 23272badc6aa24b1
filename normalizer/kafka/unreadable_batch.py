"""The error for a record batch that can't be decoded, which says where it is and how to skip it."""

from typing import Final

from normalizer.errors import PositionError
from normalizer.kafka.client_setup import KafkaPartition

_IF_DAMAGED: Final = "check the broker's log for damage; `normalizer position skip` skips the batch"


_IF_TOO_LARGE: Final = (
    "its producer packed far more than a batch may hold; `normalizer position skip` with `--to "
    "{}` skips it"
)


class UnreadableBatchError(PositionError):
    """A record batch from the broker can't be decoded, so the partition can't be read any further.

    Most likely the broker's log is damaged, or the batch decompresses to more bytes than the limit.
    In the latter case, `next_offset` is the first offset after the batch, where reading can
    continue.
    """

    def __init__(
        self, partition: KafkaPartition, offset: int, why: str, *, next_offset: int | None = None
    ) -> None:
        remedy = _IF_DAMAGED if next_offset is None else _IF_TOO_LARGE.format(next_offset)
        super().__init__(
            f"{partition}@{offset}: the batch there cannot be read ({why}): {remedy}",
            topic=partition.topic,
            partition=partition.partition,
        )
        self.next_offset = next_offset
