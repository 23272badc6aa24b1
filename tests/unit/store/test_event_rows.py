"""The data for COPY comes in chunks that are small in bytes, too."""

import struct
from collections.abc import Sequence

import pytest

from normalizer.core.encoded_events import EncodedEvent, EnvelopeOrEncoded, to_encoded_columns
from normalizer.store.event_rows import (
    _CHUNK_BYTES,
    _ROWS_PER_CHUNK,
    COPIED_EVENT_COLUMNS,
    RowRejectedError,
    _encode_copy_data,
)
from tests.support.factories import encoded, envelope

BATCH_ID = 7


async def test_copy_data_holds_each_row_with_its_batch() -> None:
    rows = [envelope(0), encoded(envelope(1)), envelope(2)]

    copied = b"".join(await _chunks(rows))

    begin = struct.pack(">hiq", len(COPIED_EVENT_COLUMNS), 8, BATCH_ID)
    assert copied[:19] == b"PGCOPY\n\xff\r\n\0" + bytes(8)
    assert copied[19:] == b"".join(begin + to_encoded_columns(row) for row in rows) + b"\xff\xff"


async def test_chunk_of_copy_data_ends_at_its_bytes() -> None:
    large = EncodedEvent(1, 1, "worker", None, bytes(_CHUNK_BYTES // 4))

    chunks = await _chunks([large] * 10)

    assert [len(chunk) // (_CHUNK_BYTES // 4) for chunk in chunks] == [4, 4, 2]


async def test_chunk_of_copy_data_ends_at_its_rows() -> None:
    chunks = await _chunks([encoded(envelope())] * (2 * _ROWS_PER_CHUNK + 1))

    assert len(chunks) == 3


async def test_row_that_cannot_be_encoded_is_rejected_by_its_line() -> None:
    rows = [envelope(at) for at in range(_ROWS_PER_CHUNK)] + [
        envelope(attempts=1 << 40),
        envelope(),
    ]

    with pytest.raises(RowRejectedError) as rejection:
        await _chunks(rows)

    assert (rejection.value.sqlstate, rejection.value.line) == (None, _ROWS_PER_CHUNK + 1)


async def _chunks(rows: Sequence[EnvelopeOrEncoded]) -> list[bytes]:
    return [chunk async for chunk in _encode_copy_data(rows, BATCH_ID)]
