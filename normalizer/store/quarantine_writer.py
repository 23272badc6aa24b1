"""Stores rejected records in quarantine, in their batch's transaction."""

import base64
import hashlib
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import asyncpg
import msgspec

from normalizer.core.decode.bounds import HEAD_BYTES
from normalizer.core.identity.coordinates import Coordinates
from normalizer.core.raw_record import RawRecord
from normalizer.core.rules.timestamps import recorded_at
from normalizer.envelope import RULES_VERSION, Rejected
from normalizer.store import store_statements

_WHOLE_BYTES: Final = 1 << 20
_DETAIL_LETTERS: Final = 500


class RejectedRecord(NamedTuple):
    """A record, and why it or one event in it was rejected."""

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
        """The execution that the record names in its value, else in its key."""
        named = self.rejected.execution_id
        if named is None and re.fullmatch(rb"[0-9]{1,19}", self.record.key or b""):
            named = int(self.record.key or b"")
        return named if named is not None and -(1 << 63) <= named < 1 << 63 else None


async def write_quarantine(
    connection: asyncpg.Connection, refusals: Sequence[RejectedRecord], batch_id: int
) -> list[bool]:
    """Store the rejections. Returns for each whether it's new or already stored.

    The bytes go to a separate table for redrive, which only the owner can read.
    """
    if not refusals:
        return []
    added = await connection.fetch(
        store_statements.ADD_QUARANTINE,
        *map(list, zip(*(_row(rejected_record) for rejected_record in refusals), strict=True)),
        batch_id,
    )
    await _keep_raw(
        connection,
        {rejected_record.coordinates[:4]: rejected_record.record for rejected_record in refusals},
    )
    new = {tuple(row) for row in added}
    kept = []
    for rejected_record in refusals:
        kept.append(rejected_record.coordinates in new)
        new.discard(rejected_record.coordinates)  # a file may hold a record twice
    return kept


async def _keep_raw(
    connection: asyncpg.Connection, records: dict[tuple[str | None, int, int, int], RawRecord]
) -> None:
    """Store the bytes of each record once, with COPY, because servers never log COPY data."""
    kept = await connection.fetch(store_statements.FIND_RAW, *map(list, zip(*records, strict=True)))
    for row in kept:
        del records[tuple(row)]
    await connection.copy_records_to_table(
        "quarantine_raw",
        schema_name="normalizer",
        columns=store_statements.RAW_COLUMNS,
        records=map(_raw, records.values()),
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
        recorded_at(record.recorded_ms),
        rejected.sample,
        rejected_record.execution_id,
    )


def _raw(record: RawRecord) -> tuple[object, ...]:
    """Return the record's bytes up to 1 MiB, or else its first 64 KiB and its hash."""
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
        record.key if whole or record.key is None else key[:HEAD_BYTES],
        record.value if whole or record.value is None else value[:HEAD_BYTES],
        headers if whole else None,
        hashlib.sha256(value).digest() if record.cut is None else record.cut.sha256,
        whole,
    )
