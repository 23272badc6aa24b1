"""Turns rows of the table normalizer.events into canonical events, for archives and downloads."""

from collections.abc import Mapping
from typing import Any, Final

from normalizer.envelope import Envelope

JSON_COLUMNS: Final = frozenset({"context", "result", "meta", "extra", "coercions", "headers"})
"""The columns of type jsonb, which are text in a row and bytes in an envelope."""

ENVELOPE_SELECT_LIST: Final = ", ".join(
    f"{name}::text" if name in JSON_COLUMNS else name for name in Envelope.__struct_fields__
)
"""The select list for the rows that `to_envelope` takes."""


def to_envelope(row: Mapping[str, Any]) -> Envelope:
    """Return the canonical event of a row with ENVELOPE_SELECT_LIST."""
    columns: dict[str, Any] = {
        name: value.encode() if name in JSON_COLUMNS and value is not None else value
        for name, value in row.items()
    }
    return Envelope(**columns)
