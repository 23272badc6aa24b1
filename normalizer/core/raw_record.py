"""A record as it is in a log, not decoded yet."""

import msgspec


class CutValue(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Facts about a record that's too large for memory. RawRecord has only its beginning."""

    value_bytes: int
    record_bytes: int
    sha256: bytes
    """Of the whole value."""
    crc: int
    """CRC-32 of the whole key and value, as `record_crc` computes it."""


class RawRecord(msgspec.Struct, frozen=True, gc=False):
    """One record of a log: from Kafka, a file line, a table row, or a quarantine entry.

    Code that makes many of them passes positional arguments, because keywords take twice as long.

    (topic, incarnation, partition, offset) are its coordinates and never change. With an event's
    index in the record they identify that event. `topic` is None for a record that isn't from a log
    (in the filter), and its events get no derived ids. `recorded_ms` is the time that the log
    recorded, in milliseconds since 1970, or None. `shape` and `index` are set only in a record that
    `denormalize` made from a stored row. They're the shape of the original event, and its index in
    the original record. `cut` is set for a record that's too large for memory. It's rejected
    whatever it holds.
    """

    value: bytes | None
    topic: str | None = None
    incarnation: int = 0
    partition: int = 0
    offset: int = 0
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    recorded_ms: int | None = None
    shape: str | None = None
    index: int = 0
    cut: CutValue | None = None

    @property
    def value_bytes(self) -> int:
        """Return the bytes of the whole value, even if only its beginning is in memory."""
        return len(self.value or b"") if self.cut is None else self.cut.value_bytes

    @property
    def coordinates(self) -> str:
        """Return `topic[partition]@offset`, which names a record in errors and logs."""
        if self.topic is None:
            return f"line {self.offset}"
        return f"{self.topic}[{self.partition}]@{self.offset}"
