"""Checks that a partition is read with the same table of shapes as before.

An operator can describe shapes of events in a file (NORMALIZER_SHAPES). The position of a partition
stores the fingerprint of the table that its records were read with.
"""

from typing import Final, NamedTuple

from normalizer.errors import ShapesChangedError


class ShapesFingerprint(NamedTuple):
    """The fingerprint of this process's table of shapes (NORMALIZER_SHAPES), or '' without one.

    A position whose earlier records were read with another table can't be claimed, unless
    `accepted` is True. It's True if an operator has started the process with --accept-shapes.
    """

    fingerprint: str = ""
    accepted: bool = False


NO_SHAPES: Final = ShapesFingerprint()


def check_same_shapes(topic: str, partition: int, stored: str, fingerprint: str) -> None:
    """Raise ShapesChangedError if the partition was read with another table of shapes."""
    if stored != fingerprint:
        raise ShapesChangedError(
            f"{topic}[{partition}]: its records are read with {_table(stored)}, but this process "
            f"has {_table(fingerprint)}, so it can't read the partition. To continue with the "
            "table of this process, start it once with --accept-shapes",
            topic=topic,
            partition=partition,
        )


def _table(fingerprint: str) -> str:
    return f"the table of shapes {fingerprint}" if fingerprint else "no table of shapes"
