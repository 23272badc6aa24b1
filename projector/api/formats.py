"""Encodes answers as JSON, or their rows as CSV if the request prefers that."""

import csv
import io
import re
from typing import Any, Final, Literal, get_args, get_origin

import msgspec

from projector.api.answers import ApiAnswer
from projector.api.responses import weights

Format = Literal["json", "csv"]

MEDIA_TYPES: Final[dict[Format, str]] = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8; header=present",
}
_FORMULA: Final = re.compile(
    r"^(?=[\t\r\n])|(?:^|(?<=[;\t\r\n]))(?=[=+\-@\uff1d\uff0b\uff0d\uff20])"
)
"""Where a formula begins, by a sign or one in full width, which some spreadsheets take too.

Where the decimal sign is a comma, they split lines at semicolons, and see no quotes within a cell.
"""


def preferred(accept: str) -> Format:
    """The format that an Accept header wants most, the first of equals; JSON if there is none."""
    wanted = weights(accept)
    for one in sorted(wanted, key=wanted.__getitem__, reverse=True):
        match one:
            case _ if not wanted[one]:
                break
            case "text/csv":
                return "csv"
            case "application/json" | "application/*" | "*/*":
                return "json"
            case _:
                continue
    return "json"


def row_type(answer: Any) -> type[msgspec.Struct]:
    """The type of the rows of an answer, given the type of the answer."""
    fields = {field.name: field.type for field in msgspec.structs.fields(answer)}
    (row,) = get_args(fields["rows"])
    assert get_origin(fields["rows"]) is list
    kind: type[msgspec.Struct] = row
    return kind


def as_csv(answer: ApiAnswer[Any], row: type[msgspec.Struct]) -> bytes:
    """The rows as CSV (RFC 4180) with a header line; lists and objects are cells of JSON.

    What a spreadsheet would take for a formula in a text gets an apostrophe before it.
    """
    names = [field.encode_name for field in msgspec.structs.fields(row)]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(names)
    for values in msgspec.to_builtins(answer.rows):
        writer.writerow([_cell(values.get(name)) for name in names])
    return text.getvalue().encode()


def _cell(value: Any) -> str | int | float:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float():
            return value
        case str():
            return _FORMULA.sub("'", value)
        case _:
            return _FORMULA.sub("'", msgspec.json.encode(value).decode())
