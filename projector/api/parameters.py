"""A query string in, typed parameters out, or one sentence about what is wrong."""

import re
from datetime import UTC, datetime, timedelta
from types import UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from projector.api.api_errors import InvalidParameterError, NotFoundError

Grain = Literal["minute", "hour", "day"]
SECONDS: Final[dict[Grain, int]] = {"minute": 60, "hour": 3_600, "day": 86_400}

_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)
_GREATEST_ID: Final = 2**63 - 1
_SPAN_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}

# PostgreSQL knows no U+0000.
Text = Annotated[str, Meta(max_length=1_024, pattern=r"^[^\x00]*$")]
Id = Annotated[str, Meta(pattern="^[0-9]{1,19}$", description="A 64-bit number, as text.")]
PageLimit = Annotated[int, Meta(ge=1, le=500, description="Rows of a page at most.")]
Cursor = Annotated[
    str,
    Meta(max_length=8_192, pattern="^[A-Za-z0-9_-]+$", description="`next` of the page before."),
]
Attempts = Annotated[int, Meta(ge=0, le=2_147_483_647)]
_FEW: Final = Meta(min_length=1, max_length=50, description="Any of these.")
Texts = Annotated[tuple[Text, ...], _FEW]
Numbers = Annotated[tuple[Attempts, ...], _FEW]
Ids = Annotated[tuple[Id, ...], _FEW]
By: Final = Meta(min_length=1, max_length=6, description="What to group by.")
HourOrDay = Annotated[Literal["hour", "day"], Meta(description="How wide `at` is.")]
MinuteToDay = Annotated[
    Grain,
    Meta(description="How wide `at` is; minutes of the last 48 hours only, hours before them."),
]
_MINUTES_KEPT: Final = timedelta(hours=48)
_SHORT: Final = timedelta(hours=2)


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a question can be asked with; each field is a parameter, a list may be repeated."""


class WindowParams(Parameters, frozen=True, kw_only=True):
    """A range of time: the last so much, or from one moment to another.

    Where since is not before until it is empty, and so is the answer, which says both.
    """

    last: (
        Annotated[
            str,
            Meta(
                pattern="^[1-9][0-9]{0,3}[mhd]$",
                description="A span up to `until`: 15m, 24h, 7d. 24h, if left out; `since` goes "
                "before it.",
            ),
        ]
        | None
    ) = None
    since: Annotated[datetime, Meta(tz=True, description="The first moment.")] | None = None
    until: (
        Annotated[
            datetime, Meta(tz=True, description="The moment after the last; now, if left out.")
        ]
        | None
    ) = None

    def bounds(self, now: datetime) -> tuple[datetime, datetime]:
        """The first moment, and the moment after the last."""
        until = now if self.until is None else _within(self.until)
        since = until - _span(self.last or "24h") if self.since is None else _within(self.since)
        return max(since, _EARLIEST), until


class GroupedParams(WindowParams, frozen=True, kw_only=True):
    """Of a question answered by counts in groups."""

    limit: Annotated[int, Meta(ge=1, le=5_000, description="Groups in the answer at most.")] = 1_000

    def needs_minutes(self, now: datetime) -> bool:
        """Whether minutes are worth their price: of a short window, or because `at` is one."""
        since, until = self.bounds(now)
        by_minute = getattr(self, "every", "") == "minute" and "at" in getattr(self, "by", ())
        return by_minute or until - since <= _SHORT

    def buckets(self, now: datetime, finest: Grain) -> tuple[Grain, datetime, datetime]:
        """A grain, and the bounds rounded outwards to it: what is counted lies in whole buckets.

        It is the finest that there are counts of, or that of `at` where that is wider.
        """
        since, until = self.bounds(now)
        counted: Grain = finest
        if finest == "minute" and since < minutes_from(now):
            counted = "hour"
        by_time = "at" in getattr(self, "by", ())
        params: Grain = getattr(self, "every", counted) if by_time else counted
        grain = max(counted, params, key=SECONDS.__getitem__)
        return grain, floor(since, grain), floor(until, grain, up=True)


class PagedParams(Parameters, frozen=True, kw_only=True):
    """Of a question answered by a list that is read page by page."""

    limit: PageLimit = 50
    cursor: Cursor | None = None


class PagedWindowParams(WindowParams, frozen=True, kw_only=True):
    """Of a list within a range of time."""

    limit: PageLimit = 50
    cursor: Cursor | None = None


_Asked = TypeVar("_Asked", bound=Parameters)


def parse(query: bytes, kind: type[_Asked]) -> _Asked:
    """The parameters of one request. Raises InvalidParameterError."""
    given: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=500
        )
    except ValueError as error:
        raise InvalidParameterError(
            "the query is no UTF-8 in percent-encoding, or too long"
        ) from error
    for name, text in pairs:
        given.setdefault(name, []).append(text)
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    unknown = sorted(set(given) - set(fields))
    if unknown:
        raise InvalidParameterError(
            f"{unknown[0][:60]!r} is no parameter here: {', '.join(fields)}"
        )
    return kind(**{name: _converted(fields[name], texts) for name, texts in given.items()})


def parse_id(text: str) -> int:
    """An id of a path; what cannot be one is not there. Raises NotFoundError."""
    if re.fullmatch("[0-9]{1,19}", text, re.ASCII) is None or int(text) > _GREATEST_ID:
        raise NotFoundError("there is no such id")
    return int(text)


def ids(texts: list[str] | None) -> list[int] | None:
    """Ids to filter by; what cannot be one matches nothing."""
    if texts is None:
        return None
    return [number for number in map(int, texts) if number <= _GREATEST_ID]


def is_list(field: msgspec.structs.FieldInfo) -> bool:
    """Whether a parameter may be repeated."""
    return get_origin(bare(field)) is tuple


def bare(field: msgspec.structs.FieldInfo) -> Any:
    """The type of a parameter without Annotated and None."""
    kind = field.type
    while get_origin(kind) in (Annotated, Union, UnionType):
        kind = get_args(kind)[0]
    return kind


def _converted(field: msgspec.structs.FieldInfo, texts: list[str]) -> Any:
    if is_list(field):
        return _convert(field, [_number(text) if _is_number(field) else text for text in texts])
    if len(texts) > 1:
        raise InvalidParameterError(f"{field.name}: given more than once")
    return _convert(field, _number(texts[0]) if _is_number(field) else texts[0])


def _convert(field: msgspec.structs.FieldInfo, value: object) -> Any:
    try:
        return msgspec.convert(value, field.type)
    except msgspec.ValidationError as error:
        item = _item(field)
        if get_origin(item) is Literal:
            sentence = f"expected one of {', '.join(get_args(item))}"
        else:
            sentence = str(error).replace("`", "").partition(" - at ")[0]
        raise InvalidParameterError(f"{field.name}: {sentence[0].lower()}{sentence[1:]}") from error


def _is_number(field: msgspec.structs.FieldInfo) -> bool:
    return _item(field) is int


def _item(field: msgspec.structs.FieldInfo) -> Any:
    """What one value of the parameter is."""
    kind = bare(field)
    item = get_args(kind)[0] if get_origin(kind) is tuple else kind
    return get_args(item)[0] if get_origin(item) is Annotated else item


def _number(text: str) -> int | str:
    """The number; other text stays, so that it is refused with the right sentence."""
    return int(text) if re.fullmatch("-?(0|[1-9][0-9]{0,10})", text, re.ASCII) else text


def _within(moment: datetime) -> datetime:
    """The moment in UTC; what lies beyond all events is moved to the end of time as we count it."""
    try:
        return min(max(moment.astimezone(UTC), _EARLIEST), _LATEST)
    except OverflowError:
        return _EARLIEST if moment.year < _EARLIEST.year else _LATEST


def _span(text: str) -> timedelta:
    return timedelta(**{_SPAN_UNITS[text[-1]]: int(text[:-1])})


def minutes_from(now: datetime) -> datetime:
    """From when on the views count by the minute."""
    return floor(now, "hour") - _MINUTES_KEPT


def floor(moment: datetime, grain: Grain, *, up: bool = False) -> datetime:
    """The begin of its bucket; the end of it, or the moment itself if one ends there, if `up`."""
    beyond = (moment - _EARLIEST) % timedelta(seconds=SECONDS[grain])
    if up and beyond:
        return moment - beyond + timedelta(seconds=SECONDS[grain])
    return moment - beyond
