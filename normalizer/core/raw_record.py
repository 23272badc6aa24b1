"""A record as a log holds it, not decoded yet."""

import msgspec


class CutValue(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What is known of a record that is too large to be held: RawRecord has only its beginning."""

    value_bytes: int
    record_bytes: int
    sha256: bytes
    """Of the whole value."""
    crc: int
    """CRC-32 of the whole key and value, as `record_crc` computes it."""


class RawRecord(msgspec.Struct, frozen=True, gc=False):
    """One record of a log: Kafka, a file line, a table row, a quarantine entry.

    Code that makes many passes positional arguments: keyword arguments take twice as long.

    (topic, incarnation, partition, offset) are its coordinates and never change. With an event's
    index in the record they identify that event. `topic` is None for a record that is in no log
    (the filter): such an event gets no derived id.
    `recorded_ms` is the time the log recorded, in milliseconds since 1970; None without one.
    `shape` and `index` are set only for a record that `denormalize` made from a stored row: the
    shape of the original event, and its index in the original record.
    `cut` is set for a record that was too large to be held: it is rejected, whatever is in it.
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
        """The bytes of the whole value, also where only its beginning is held."""
        return len(self.value or b"") if self.cut is None else self.cut.value_bytes

    @property
    def coordinates(self) -> str:
        """`topic[partition]@offset`, as errors and logs name a record."""
        if self.topic is None:
            return f"line {self.offset}"
        return f"{self.topic}[{self.partition}]@{self.offset}"
