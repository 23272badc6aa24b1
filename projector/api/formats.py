"""Encodes answers as JSON, or their rows as CSV if the request asks for that.

A request gets CSV if it has the parameter `format=csv`, or an Accept header that ranks text/csv
first.
"""

import csv
import io
import re
from collections.abc import Iterable
from typing import Any, Final, Literal, get_args, get_origin

import msgspec

from projector.api.answers import ApiAnswer
from projector.api.responses import parse_quality_values

Format = Literal["json", "csv"]

MEDIA_TYPES: Final[dict[Format, str]] = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8; header=present",
}
_FORMULA: Final = re.compile(
    r"^(?=[\t\r\n])|(?:^|(?<=[;\t\r\n]))(?=[=+\-@\uff1d\uff0b\uff0d\uff20])"
)
"""Finds the start of a formula: a sign, or its full-width form, which some spreadsheets accept.

If the decimal sign is a comma, they split lines at semicolons and ignore quotes within a cell.
"""


def preferred_format(accept: str) -> Format:
    """Return the format that an Accept header prefers, the first of equals, or JSON."""
    wanted = parse_quality_values(accept)
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


def answer_row_type(answer: Any) -> type[msgspec.Struct]:
    """Return the type of an answer's rows, from the type of the answer."""
    fields = {field.name: field.type for field in msgspec.structs.fields(answer)}
    (row,) = get_args(fields["rows"])
    assert get_origin(fields["rows"]) is list
    kind: type[msgspec.Struct] = row
    return kind


def answer_as_csv(answer: ApiAnswer[Any], row: type[msgspec.Struct]) -> bytes:
    """Return the rows as CSV (RFC 4180) with a header line. Lists and objects are JSON in a cell.

    A text that a spreadsheet would run as a formula, such as `=1+1`, gets an apostrophe in front,
    so that it's shown as text.
    """
    names = [field.encode_name for field in msgspec.structs.fields(row)]
    return rows_as_csv(names, msgspec.to_builtins(answer.rows))


def rows_as_csv(names: list[str], rows: Iterable[dict[str, Any]]) -> bytes:
    """Return rows, given as values by column name, as CSV like `answer_as_csv`."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(names)
    for values in rows:
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
