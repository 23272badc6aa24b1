"""Inserts and updates rows of the table `events`, and stores where records were merged."""

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence
from typing import Final

import asyncpg

from normalizer.core.encoded_events import ENCODED_COLUMNS, EnvelopeOrEncoded, to_encoded_columns
from normalizer.core.identity.coordinates import Coordinates, required_event_id
from normalizer.envelope import Envelope
from normalizer.store.sqlstate import (
    STATEMENT_ERRORS,
    ErrorCause,
    classify_database_error,
    find_failed_copy_line,
)

_ROWS_PER_CHUNK: Final = 500
"""How many rows to encode and send before other tasks may run. That takes about two milliseconds.
"""
_CHUNK_BYTES: Final = 1 << 20
"""How many bytes of rows to send at once, even if that's fewer than _ROWS_PER_CHUNK rows."""
_HEAD: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
"""The header of binary COPY. Source: the PostgreSQL manual, COPY, Binary Format."""
_END: Final = b"\xff\xff"


class RowRejectedError(Exception):
    """The database rejected a row. `line` (from 1) is its line in COPY, or None if unknown."""

    def __init__(self, sqlstate: str | None = None, line: int | None = None) -> None:
        super().__init__(sqlstate, line)
        self.sqlstate = sqlstate
        self.line = line


_ADD_MERGED_RECORDS: Final = """
    insert into normalizer.merged_records (
        source_topic, source_incarnation, source_partition, offset_block, merge_id, source_offsets,
        source_indexes, event_ids
    )
    select   topic, incarnation, partition, "offset" >> 12, (select nextval('normalizer.batch_id')),
             array_agg("offset" order by number),
             array_agg(index order by number),
             array_agg(event_id order by number)
    from     unnest(
                 $1::text[], $2::integer[], $3::integer[], $4::bigint[], $5::integer[], $6::bigint[]
             ) with ordinality
                 as reported (topic, incarnation, partition, "offset", index, event_id, number)
    group by topic, incarnation, partition, "offset" >> 12
    order by topic, incarnation, partition, "offset" >> 12
"""


async def insert_merged_records(
    connection: asyncpg.Connection, merged_records: Sequence[tuple[Coordinates, int]]
) -> None:
    """Store which row each merged record was merged into."""
    if not merged_records:
        return
    columns = zip(
        *((*coordinates, event_id) for coordinates, event_id in merged_records), strict=True
    )
    await connection.execute(_ADD_MERGED_RECORDS, *map(list, columns))


COPIED_EVENT_COLUMNS: Final = ("batch_id", *ENCODED_COLUMNS)
"""The columns that COPY writes, in order. All other columns have defaults."""


async def copy_into_events(
    connection: asyncpg.Connection, rows: Sequence[EnvelopeOrEncoded], batch_id: int
) -> None:
    """Insert new rows with COPY.

    The rows must be sorted by event_id. If another transaction has inserted the same id and hasn't
    ended yet, COPY waits for it, so two writers that insert the same ids in different orders would
    deadlock. Raises RowRejectedError for a row that can't be encoded, or that the database rejects.
    """
    if not rows:
        return
    try:
        await connection.copy_to_table(
            "events",
            schema_name="normalizer",
            columns=COPIED_EVENT_COLUMNS,
            source=_encode_copy_data(rows, batch_id),
            format="binary",
        )
    except STATEMENT_ERRORS as error:
        if classify_database_error(error, copying=True) is ErrorCause.RECORD:
            raise RowRejectedError(
                getattr(error, "sqlstate", None), find_failed_copy_line(error)
            ) from error
        raise


async def _encode_copy_data(
    rows: Sequence[EnvelopeOrEncoded], batch_id: int
) -> AsyncIterator[bytes]:
    """Yield the rows in the binary format of COPY, in chunks.

    Other tasks can run between two chunks, so that a large batch doesn't block the event loop. Each
    row consists of its number of columns, its batch id, and its other columns. Raises
    RowRejectedError for a row that can't be encoded.
    """
    begin = struct.pack(">hiq", len(COPIED_EVENT_COLUMNS), 8, batch_id)
    gathered, size = [_HEAD], 0
    for line, row in enumerate(rows, start=1):
        try:
            columns = to_encoded_columns(row)
        except ValueError:
            raise RowRejectedError(line=line) from None
        gathered.append(columns)
        size += len(columns)
        if size >= _CHUNK_BYTES or line % _ROWS_PER_CHUNK == 0:
            yield begin.join(gathered)
            gathered, size = [b""], 0
            await asyncio.sleep(0)
    yield begin.join(gathered) + _END


# The columns that a merge of two reports can change, with their types. An update after a merge
# writes only these columns, because the others always stay the same.
_MERGED_COLUMNS: Final = (
    ("event_type", "text"),
    ("step", "text"),
    ("status", "text"),
    ("attempts", "integer"),
    ("max_attempts", "integer"),
    ("created_at", "timestamptz"),
    ("worker_id", "text"),
    ("command_id", "text"),
    ("iteration", "integer"),
    ("node_type", "text"),
    ("catalog_id", "bigint"),
    ("parent_event_id", "bigint"),
    ("parent_execution_id", "bigint"),
    ("duration", "double precision"),
    ("error", "text"),
    ("context", "jsonb"),
    ("result", "jsonb"),
    ("meta", "jsonb"),
    ("extra", "jsonb"),
    ("coercions", "jsonb"),
    ("evidence", "smallint"),
    ("shape", "text"),
    ("normalizer_version", "integer"),
    ("headers", "jsonb"),
    ("trace_id", "text"),
    ("recorded_at", "timestamptz"),
    ("merge_flags", "smallint"),
)

_SET_MERGED: Final = ", ".join(f"{name} = merged.{name}" for name, _ in _MERGED_COLUMNS)

_MERGED_ARRAYS: Final = ", ".join(
    f"${number}::{kind}[]" for number, (_, kind) in enumerate(_MERGED_COLUMNS, start=2)
)

_MERGED_NAMES: Final = ", ".join(name for name, _ in _MERGED_COLUMNS)

_UPDATE_EVENTS: Final = f"""
    update normalizer.events as event
    set    {_SET_MERGED}
    from   unnest($1::bigint[], {_MERGED_ARRAYS}) as merged (event_id, {_MERGED_NAMES})
    where  event.event_id = merged.event_id
"""  # noqa: S608 - column names of our own


async def update_rows(connection: asyncpg.Connection, rows: Sequence[Envelope]) -> None:
    """Update merged rows, sorted by event_id. The caller has read and locked them before."""
    if not rows:
        return
    ids = [required_event_id(row) for row in rows]
    columns = [[getattr(row, name) for row in rows] for name, _ in _MERGED_COLUMNS]
    await connection.execute(_UPDATE_EVENTS, ids, *columns)
