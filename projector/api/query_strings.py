"""Parses a query string into the typed parameters of an endpoint.

An unknown or invalid parameter raises an error that names it and says what was expected. If we
ignored it, a request with a misspelled filter would silently return all rows.
"""

import re
from datetime import datetime, timedelta
from types import UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from projector.api.api_errors import InvalidParameterError
from projector.api.parameters import LATEST_TIME, Parameters

PARAMETER_ALIASES: Final = {
    "execution_id": "execution",
    "parent_execution_id": "parent",
    "command_id": "command",
    "worker_id": "worker",
    "trace_id": "trace",
}
"""A field of an answer, and the filter that it is of: both names are taken."""

_Params = TypeVar("_Params", bound=Parameters)


def parse_query_string(query: bytes, kind: type[_Params]) -> _Params:
    """Parse the parameters of one request. Raises InvalidParameterError."""
    given: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=500
        )
    except ValueError as error:
        raise InvalidParameterError(
            "the query must be percent-encoded UTF-8 with at most 500 parameters"
        ) from error
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for name, text in pairs:
        alias = PARAMETER_ALIASES.get(name)
        given.setdefault(alias if alias in fields else name, []).append(text)
    unknown = sorted(set(given) - set(fields))
    if unknown:
        raise InvalidParameterError(
            f"this path has no parameter {unknown[0][:60]!r}. Its parameters are "
            f"{', '.join(fields)}"
        )
    for name, field in fields.items():
        if field.required and name not in given:
            raise InvalidParameterError(f"{name}: required")
    return kind(**{name: _converted(fields[name], texts) for name, texts in given.items()})


def is_list_parameter(field: msgspec.structs.FieldInfo) -> bool:
    """Return whether a parameter may be repeated."""
    return get_origin(_bare_type(field)) is tuple


def _bare_type(field: msgspec.structs.FieldInfo) -> Any:
    """Return the type of a parameter without Annotated and None."""
    kind = field.type
    while get_origin(kind) in (Annotated, Union, UnionType):
        kind = get_args(kind)[0]
    return kind


def _converted(field: msgspec.structs.FieldInfo, texts: list[str]) -> Any:
    if is_list_parameter(field):
        return _convert(field, [_number(text) if _is_number(field) else text for text in texts])
    if len(texts) > 1:
        raise InvalidParameterError(f"{field.name}: given more than once")
    if _bare_type(field) is datetime:
        return _moment(field, texts[0])
    return _convert(field, _number(texts[0]) if _is_number(field) else texts[0])


def _moment(field: msgspec.structs.FieldInfo, text: str) -> datetime:
    """Parse a time. The leap second 23:59:60 counts as 00:00:00, as on computer clocks."""
    leap = re.fullmatch(r"(.{10}[Tt][0-9]{2}:[0-9]{2}:)60(.*)", text)
    if leap is None:
        moment: datetime = _convert(field, text)
        return moment
    before: datetime = _convert(field, f"{leap[1]}59{leap[2]}")
    return min(before, LATEST_TIME) + timedelta(seconds=1)


def _convert(field: msgspec.structs.FieldInfo, value: object) -> Any:
    try:
        return msgspec.convert(value, field.type)
    except msgspec.ValidationError as error:
        item = _item(field)
        if get_origin(item) is Literal:
            sentence = f"expected one of {', '.join(get_args(item))}"
        elif "matching regex" in str(error):
            sentence = f"expected {_form(field.type)}"
        else:
            sentence = str(error).replace("`", "").partition(" - at ")[0]
        raise InvalidParameterError(f"{field.name}: {sentence[0].lower()}{sentence[1:]}") from error


def _form(kind: Any) -> str | None:
    """Return the expectation of a type's pattern in words, from `extra` of its Meta."""
    if isinstance(kind, Meta):
        return kind.extra["expected"] if kind.pattern is not None and kind.extra else None
    parts = (*get_args(kind), *getattr(kind, "__metadata__", ()))
    return next(filter(None, map(_form, parts)), None)


def _is_number(field: msgspec.structs.FieldInfo) -> bool:
    return _item(field) is int


def _item(field: msgspec.structs.FieldInfo) -> Any:
    """Return the type of one value of the parameter."""
    kind = _bare_type(field)
    item = get_args(kind)[0] if get_origin(kind) is tuple else kind
    return get_args(item)[0] if get_origin(item) is Annotated else item


def _number(text: str) -> int | str:
    """Parse a number. Other text is returned as is, and rejected later with a good message."""
    return int(text) if re.fullmatch("-?(0|[1-9][0-9]{0,10})", text, re.ASCII) else text
