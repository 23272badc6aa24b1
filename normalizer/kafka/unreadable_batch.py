"""The error for a batch that no reader gets past, with what an operator does about it."""

from typing import Final, Self

from normalizer.errors import PositionError
from normalizer.kafka.connection import KafkaPartition

_IF_DAMAGED: Final = (
    "see whether the broker's log is sound; `normalizer position skip` goes past it"
)


_IF_TOO_LARGE: Final = (
    "its producer packed far more than a batch may hold; `normalizer position skip` with `--to {}` "
    "goes past it"
)


class UnreadableBatch(PositionError):  # noqa: N818 - a state, not a mistake
    """A record batch of the broker cannot be decoded.

    Most likely the broker's log is damaged, or the batch unpacks to more than is allowed: then
    `next_offset` is the first offset behind it.
    """

    next_offset: int | None = None

    @classmethod
    def at(
        cls, partition: KafkaPartition, offset: int, why: str, *, next_offset: int | None = None
    ) -> Self:
        """The error for the batch at this offset; says what to do."""
        remedy = _IF_DAMAGED if next_offset is None else _IF_TOO_LARGE.format(next_offset)
        error = cls(
            f"{partition}@{offset}: the batch there cannot be read ({why}): {remedy}",
            topic=partition.topic,
            partition=partition.partition,
        )
        error.next_offset = next_offset
        return error
