"""Encodes where a page of a list ends, as an opaque text with which a client gets the next page.

The text contains the last row's values in the columns by which the list is sorted. Unlike a row
number, these values still mark the same place after new rows have arrived.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Any, Final
from zlib import crc32

import msgspec

from projector.api.api_errors import BadCursorError

BAD_CURSOR_MESSAGE: Final = "cursor: this endpoint gave no such `next` for these parameters"


def encode_cursor(list_: str, keyset: Sequence[Any]) -> str:
    """Return the cursor of the page after the row with this keyset. `list_` is the list's SQL."""
    return urlsafe_b64encode(msgspec.json.encode([_mark(list_), *keyset])).decode().rstrip("=")


def decode_cursor(list_: str, cursor: str | None, kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Decode a cursor into the position after which the page begins.

    The position is the last row of the previous page, given by its values in the columns by which
    the list is sorted. Without a cursor, all of them are None. Raises BadCursorError if the cursor
    is damaged or belongs to another list. The values have the right types, but may be outside the
    range of their columns, because a client can edit a cursor.
    """
    if cursor is None:
        return dict.fromkeys(kinds)
    try:
        text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        mark, *keyset = msgspec.json.decode(text, type=tuple[(int, *kinds.values())])  # type: ignore[misc]
    except (ValueError, msgspec.MsgspecError) as error:
        raise BadCursorError(BAD_CURSOR_MESSAGE) from error
    if mark != _mark(list_):
        raise BadCursorError(BAD_CURSOR_MESSAGE)
    return dict(zip(kinds, keyset, strict=True))


def _mark(list_: str) -> int:
    """Return a number that differs between lists, because their keysets may have the same types."""
    return crc32(list_.encode())
