"""A record as a log holds it, before anything is known about its contents."""

import msgspec


class RawRecord(msgspec.Struct, frozen=True, gc=False):
    """One record of a log: Kafka, a file line, a table row, a quarantine entry.

    Made by place where there are many: by name takes twice as long.

    (topic, incarnation, partition, offset) are its coordinates and never change; together with an
    event's index in the record they name that event for ever. `topic` is None for a record that
    has no place in a log (the filter): such an event gets no derived id.
    `recorded_ms` is the log's own time in milliseconds since 1970, None where the log has none.
    `shape` and `index` are set only for a record rebuilt from a stored row: the provenance is
    known, and its one event had that index in the record it came in.
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

    @property
    def coordinates(self) -> str:
        """`topic[partition]@offset`, as errors and logs name a record."""
        if self.topic is None:
            return f"line {self.offset}"
        return f"{self.topic}[{self.partition}]@{self.offset}"
