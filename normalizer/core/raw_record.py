"""A record as it is in a log, not decoded yet."""

import msgspec


class OversizedRecordFacts(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Facts about a record that's too large for memory. Its RawRecord has only the first bytes."""

    value_bytes: int
    record_bytes: int
    sha256: bytes
    """The hash of the whole value."""
    crc: int
    """The CRC-32 of the whole key and value, as `record_crc` computes it."""


class RawRecord(msgspec.Struct, frozen=True, gc=False):
    """One record of a log, which may be Kafka, a file, a table, or the quarantine.

    - topic, incarnation, partition, and offset are its coordinates, which never change. Together
      with an event's index in the record they identify that event. `topic` is None if the record
      isn't from a log, as in `normalizer normalize`. Events without a log get no derived ids.
    - `recorded_ms` is the time that the log recorded, in milliseconds since 1970, or None.
    - `shape` and `index` are set only in a record that `rebuild_record` made from a stored row.
      They're the shape of the original event, and its index in the original record.
    - `cut` is set if the record is too large for memory. Such a record is always rejected.

    Code that creates many records passes the arguments by position, because keywords take twice as
    long.
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
    cut: OversizedRecordFacts | None = None

    @property
    def value_bytes(self) -> int:
        """Return the size of the whole value, even if only its first bytes are in memory."""
        return len(self.value or b"") if self.cut is None else self.cut.value_bytes

    @property
    def coordinates_text(self) -> str:
        """Return `topic[partition]@offset`, which names a record in errors and logs."""
        if self.topic is None:
            return f"line {self.offset}"
        return f"{self.topic}[{self.partition}]@{self.offset}"
