"""Refused records in, quarantine rows out, in the transaction of their batch."""

import base64
import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple

import asyncpg
import msgspec

from normalizer.core.record import RawRecord
from normalizer.core.rules.times import recorded_at
from normalizer.core.settle import Place
from normalizer.envelope import RULES_VERSION, Rejected
from normalizer.store import statements

_WHOLE_BYTES: Final = 1 << 20
_HEAD_BYTES: Final = 1 << 16
_DETAIL_LETTERS: Final = 500


class Refusal(NamedTuple):
    """A record and why it, or one event in it, was refused."""

    record: RawRecord
    rejected: Rejected

    @property
    def place(self) -> Place:
        """The coordinates of what was refused."""
        record = self.record
        return (
            record.topic or "",
            record.generation,
            record.partition,
            record.offset,
            self.rejected.index,
        )


async def quarantine(
    connection: asyncpg.Connection, refusals: Sequence[Refusal], batch_id: int
) -> list[bool]:
    """Store the refusals; for each, whether it is new (False: its coordinates are there already).

    The bytes are kept apart, for the owner and for redrive.
    """
    if not refusals:
        return []
    added = await connection.fetch(
        statements.ADD_QUARANTINE,
        *map(list, zip(*(_row(refusal) for refusal in refusals), strict=True)),
        batch_id,
    )
    await _keep_raw(connection, {refusal.place[:4]: refusal.record for refusal in refusals})
    new = {tuple(row) for row in added}
    kept = []
    for refusal in refusals:
        kept.append(refusal.place in new)
        new.discard(refusal.place)  # a file may hold one record twice
    return kept


async def _keep_raw(
    connection: asyncpg.Connection, records: dict[tuple[str | None, int, int, int], RawRecord]
) -> None:
    """Keep the bytes of each record once, by COPY: a server logs parameters, but no COPY data."""
    kept = await connection.fetch(statements.FIND_RAW, *map(list, zip(*records, strict=True)))
    for row in kept:
        del records[tuple(row)]
    await connection.copy_records_to_table(
        "quarantine_raw",
        schema_name="normalizer",
        columns=statements.RAW_COLUMNS,
        records=map(_raw, records.values()),
    )


def _row(refusal: Refusal) -> tuple[object, ...]:
    record, rejected = refusal
    return (
        rejected.reason,
        rejected.detail.replace("\0", "\ufffd")[:_DETAIL_LETTERS],
        rejected.sqlstate,
        rejected.shape,
        RULES_VERSION,
        *refusal.place,
        len(record.value or b""),
        recorded_at(record.recorded_ms),
        rejected.sample,
    )


def _raw(record: RawRecord) -> tuple[object, ...]:
    """The record's bytes: whole up to 1 MiB, beyond that the first 64 KiB and the hash."""
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
    whole = len(value) + len(key) + len(headers) <= _WHOLE_BYTES
    return (
        record.topic or "",
        record.generation,
        record.partition,
        record.offset,
        record.key if whole or record.key is None else key[:_HEAD_BYTES],
        record.value if whole or record.value is None else value[:_HEAD_BYTES],
        headers if whole else None,
        hashlib.sha256(value).digest(),
        whole,
    )
