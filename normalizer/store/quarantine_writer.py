"""Stores rejected records in quarantine, in the transaction of their batch."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import asyncpg
import msgspec

from normalizer.core.decode.record_limits import OVERSIZED_KEPT_BYTES
from normalizer.core.identity.coordinates import Coordinates
from normalizer.core.raw_record import RawRecord
from normalizer.core.rules.timestamps import to_recorded_at
from normalizer.envelope import RULES_VERSION, Rejected

_WHOLE_BYTES: Final = 1 << 20
"""Store a record in full if its key, value, and headers have at most this many bytes."""
_DETAIL_LETTERS: Final = 500


class RejectedRecord(NamedTuple):
    """A record, and why it, or one event in it, was rejected."""

    record: RawRecord
    rejected: Rejected

    @property
    def coordinates(self) -> Coordinates:
        """Return the coordinates of the rejected record or event."""
        record = self.record
        return (
            record.topic or "",
            record.incarnation,
            record.partition,
            record.offset,
            self.rejected.index,
        )

    @property
    def execution_id(self) -> int | None:
        """Return the execution id in the record's value, otherwise the one in its key, or None."""
        named = self.rejected.execution_id
        if named is None and re.fullmatch(rb"[0-9]{1,19}", self.record.key or b""):
            named = int(self.record.key or b"")
        return named if named is not None and -(1 << 63) <= named < 1 << 63 else None

    @property
    def is_execution_in_key(self) -> bool:
        """Return whether execution_id is the one in the record's key."""
        return self.execution_id is not None and self.rejected.execution_id is None


_ADD_QUARANTINE: Final = """
    insert into normalizer.quarantine (
        reason, detail, sqlstate, shape, normalizer_version, source_topic, source_incarnation,
        source_partition, source_offset, source_index, value_bytes, recorded_at, sample,
        execution_id, execution_in_key, batch_id
    )
    select rejected.*, $16::bigint
    from   unnest(
               $1::text[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::text[],
               $7::integer[], $8::integer[], $9::bigint[], $10::integer[], $11::bigint[],
               $12::timestamptz[], $13::text[], $14::bigint[], $15::boolean[]
           ) as rejected
    on conflict on constraint quarantine_by_source do nothing
    returning source_topic, source_incarnation, source_partition, source_offset, source_index
"""


async def write_quarantine(
    connection: asyncpg.Connection, rejections: Sequence[RejectedRecord], batch_id: int
) -> set[Coordinates]:
    """Store the rejections that aren't in quarantine yet, and return their coordinates.

    The bytes of the rejected records may contain secrets, so they go to a separate table. Only
    redrive and the owner of the database can read that table.
    """
    if not rejections:
        return set()
    added_rows = await connection.fetch(
        _ADD_QUARANTINE,
        *map(list, zip(*(_row(rejected_record) for rejected_record in rejections), strict=True)),
        batch_id,
    )
    await _store_bytes(
        connection,
        {rejected_record.coordinates[:4]: rejected_record.record for rejected_record in rejections},
    )
    return {tuple(row) for row in added_rows}


_FIND_RAW: Final = """
    select stored.source_topic, stored.source_incarnation, stored.source_partition,
           stored.source_offset
    from   normalizer.quarantine_raw as stored
    join   unnest($1::text[], $2::integer[], $3::integer[], $4::bigint[])
               as rejected (source_topic, source_incarnation, source_partition, source_offset)
           using (source_topic, source_incarnation, source_partition, source_offset)
"""

_RAW_COLUMNS: Final = (
    "source_topic",
    "source_incarnation",
    "source_partition",
    "source_offset",
    "key",
    "value",
    "headers",
    "value_sha256",
    "whole",
)


async def _store_bytes(
    connection: asyncpg.Connection, records: Mapping[tuple[str | None, int, int, int], RawRecord]
) -> None:
    """Store the bytes of the records, except for those that have a row already.

    It uses COPY, because servers never log the data of COPY.
    """
    rows = await connection.fetch(_FIND_RAW, *map(list, zip(*records, strict=True)))
    stored = {tuple(row) for row in rows}
    await connection.copy_records_to_table(
        "quarantine_raw",
        schema_name="normalizer",
        columns=_RAW_COLUMNS,
        records=(_raw(record) for key, record in records.items() if key not in stored),
    )


def _row(rejected_record: RejectedRecord) -> tuple[object, ...]:
    record, rejected = rejected_record
    return (
        rejected.reason,
        rejected.detail.replace("\0", "\ufffd")[:_DETAIL_LETTERS],
        rejected.sqlstate,
        rejected.shape,
        RULES_VERSION,
        *rejected_record.coordinates,
        record.value_bytes,
        to_recorded_at(record.recorded_ms),
        rejected.sample,
        rejected_record.execution_id,
        rejected_record.is_execution_in_key,
    )


def _raw(record: RawRecord) -> tuple[object, ...]:
    """Return the row that stores a record's bytes.

    A record larger than _WHOLE_BYTES isn't stored in full. Its row has only the first
    OVERSIZED_KEPT_BYTES of its key and its value, and a hash of the whole value. `cut` is set if
    the value was too large even to be kept in memory.
    """
    value, key = record.value or b"", record.key or b""
    headers = msgspec.json.encode(
        [
            (
                name.replace("\0", "\ufffd"),
                None if text is None else base64.b64encode(text).decode(),
            )
            for name, text in record.headers
        ]
    )
    whole = len(value) + len(key) + len(headers) <= _WHOLE_BYTES and record.cut is None
    return (
        record.topic or "",
        record.incarnation,
        record.partition,
        record.offset,
        record.key if whole or record.key is None else key[:OVERSIZED_KEPT_BYTES],
        record.value if whole or record.value is None else value[:OVERSIZED_KEPT_BYTES],
        headers if whole else None,
        hashlib.sha256(value).digest() if record.cut is None else record.cut.sha256,
        whole,
    )
