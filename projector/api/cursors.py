"""Encodes the keyset of a row as an opaque cursor, and decodes it."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from projector.api.api_errors import NotFoundError


def encode(keyset: Sequence[Any]) -> str:
    """The cursor of the page after the row with this keyset."""
    return urlsafe_b64encode(msgspec.json.encode(keyset)).decode().rstrip("=")


def decode(cursor: str | None, kinds: Mapping[str, Any]) -> dict[str, Any]:
    """The keyset by name; only None without a cursor. Raises NotFoundError."""
    if cursor is None:
        return dict.fromkeys(kinds)
    try:
        text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        keyset = msgspec.json.decode(text, type=tuple[tuple(kinds.values())])  # type: ignore[misc]
    except (ValueError, msgspec.MsgspecError) as error:
        raise NotFoundError(
            "there is no such page: the cursor is not from this endpoint"
        ) from error
    return dict(zip(kinds, keyset, strict=True))
