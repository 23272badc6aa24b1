"""The types of the API's parameters: ids, words from fixed lists, time windows, and pages.

Each endpoint has a struct of its parameters, for example a subclass of `WindowParams`. The server
uses the struct to parse the query string, and to describe the endpoint in the OpenAPI document.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from normalizer.envelope import CoercionRule
from normalizer.errors import RejectionReason
from projector.api.api_errors import NotFoundError

Grain = Literal["minute", "hour", "day"]
SECONDS_BY_GRAIN: Final[dict[Grain, int]] = {"minute": 60, "hour": 3_600, "day": 86_400}

_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST_TIME: Final = datetime(2200, 1, 1, tzinfo=UTC)
_GREATEST_ID: Final = 2**63 - 1
_SPAN_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}

# Python's $ alone also matches before a line break.
_END: Final = r"(?!\n)$"
# PostgreSQL cannot store U+0000.
NO_NUL_CHARACTER: Final = Meta(pattern=r"^[^\x00]*$", extra={"expected": "text without U+0000"})
Text = Annotated[str, Meta(max_length=1_024), NO_NUL_CHARACTER]
Id = Annotated[
    str,
    Meta(
        pattern=f"^[0-9]{{1,19}}{_END}",
        description="A 64-bit number, as a string.",
        extra={"expected": "an id such as 333895119667515392"},
    ),
]
PageLimit = Annotated[int, Meta(ge=1, le=500, description="Maximum number of rows in a page.")]
Cursor = Annotated[
    str,
    Meta(
        pattern=f"^[A-Za-z0-9_-]+{_END}",
        description="`next` of the previous page.",
        extra={"expected": "`next` of the page before"},
    ),
]
Attempts = Annotated[int, Meta(ge=0, le=2_147_483_647)]
_FEW: Final = Meta(
    min_length=1, max_length=50, description="Only these. May be given more than once."
)
TraceId = Annotated[
    str,
    Meta(
        pattern=f"^[0-9A-Za-z-]{{1,64}}{_END}",
        description="Only executions with an event of this trace, or their calls. The search stops "
        "after a thousand events of the trace.",
        extra={"expected": "a trace id of up to 64 letters and digits"},
    ),
]
Texts = Annotated[tuple[Text, ...], _FEW]
AttemptNumbers = Annotated[tuple[Attempts, ...], _FEW]
Ids = Annotated[tuple[Id, ...], _FEW]
CallStatus = Literal["PENDING", "CLAIMED", "RUNNING", "COMPLETED", "FAILED", "ERROR", "CANCELLED"]
CallStatuses = Annotated[tuple[CallStatus, ...], _FEW]
ExecutionStatuses = Annotated[
    tuple[Literal["RUNNING", "COMPLETED", "FAILED", "CANCELLED"], ...], _FEW
]
Reasons = Annotated[tuple[RejectionReason, ...], _FEW]
Shapes = Annotated[
    tuple[
        Literal[
            "python_emit",
            "python_request",
            "python_row",
            "python_legacy",
            "rust_request",
            "rust_row",
            "rust_projector",
            "worker",
            "executor",
            "unknown",
            "",
            "sql",
        ],
        ...,
    ],
    Meta(
        min_length=1,
        max_length=50,
        description="Only events that were sent in these formats (wire shapes). '' stands for an "
        "unknown format, and `sql` for rows inserted by hand. May be given more than once.",
    ),
]
Rules = Annotated[tuple[CoercionRule, ...], _FEW]
GroupBy: Final = Meta(min_length=1, max_length=6, description="What to group by.")
HourOrDay = Annotated[Literal["hour", "day"], Meta(description="How wide `at` is.")]
MinuteToDay = Annotated[
    Grain,
    Meta(
        description="The length of the intervals in `at`. Counts by minute exist only for the last "
        "48 hours. Older ones are by hour."
    ),
]
_MINUTES_KEPT: Final = timedelta(hours=48)
_SHORT: Final = timedelta(hours=2)


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of every endpoint. Each field is one, and a list may be repeated."""

    format: (
        Annotated[
            Literal["json", "csv"],
            Meta(
                description="The format of the answer. Default: the one that the Accept header "
                "prefers, or JSON."
            ),
        ]
        | None
    ) = None


class WindowParams(Parameters, frozen=True, kw_only=True):
    """The parameters for a time window: `last`, `since`, and `until`.

    The window ends at `until`, which is now by default. It begins at `since`, or, without `since`,
    the span `last` before its end. If the start isn't before the end, the window is empty, and so
    is the answer.
    """

    last: (
        Annotated[
            str,
            Meta(
                pattern=f"^[1-9][0-9]{{0,3}}[mhd]{_END}",
                description="The length of the window up to `until`, such as 15m, 24h, or 7d. "
                "Default: 24h. The window begins at a full minute, or at a full hour if it's "
                "longer than two hours. Ignored if `since` is given.",
                extra={"expected": "a span such as 15m, 24h, or 7d"},
            ),
        ]
        | None
    ) = None
    since: Annotated[datetime, Meta(tz=True, description="Start of the window.")] | None = None
    until: (
        Annotated[
            datetime,
            Meta(
                tz=True,
                description="The end of the window, which isn't included. Default: the end of the "
                "current minute, or of the current hour if the window is longer than two hours.",
            ),
        ]
        | None
    ) = None

    def rounded_bounds(self, now: datetime) -> tuple[datetime, datetime]:
        """Return the window of a list: its start, which is included, and its end, which isn't.

        A bound that the request doesn't name is rounded outwards to a minute or an hour, exactly as
        in an answer with counts. So if the page shows a count of 12 calls, the list for the same
        window has these 12 calls.
        """
        since, until = self.requested_bounds(now)
        grain: Grain = "minute" if until - since <= _SHORT else "hour"
        return (
            round_to_grain(since, grain) if self.since is None else since,
            round_to_grain(until, grain, up=True) if self.until is None else until,
        )

    def requested_bounds(self, now: datetime) -> tuple[datetime, datetime]:
        """Return the bounds as requested, without rounding.

        If the window is empty, both bounds are the same midnight. That way the window stays empty
        when the caller widens it to whole minutes, hours, or days.
        """
        until = now if self.until is None else _within(self.until)
        since = until - _span(self.last or "24h") if self.since is None else _within(self.since)
        window = max(since, _EARLIEST), until
        return window if since < until else (round_to_grain(since, "day", up=True),) * 2


class CountsParams(WindowParams, frozen=True, kw_only=True):
    """Parameters of an endpoint that returns counts of a window."""

    def needs_minutes(self, now: datetime) -> bool:
        """Return whether to count by minute, which is slower.

        That's needed for a short window, or if `at` is a minute.
        """
        since, until = self.requested_bounds(now)
        by_minute = getattr(self, "every", "") == "minute" and "at" in getattr(self, "by", ())
        return by_minute or until - since <= _SHORT

    def grain_and_bounds(self, now: datetime, finest: Grain) -> tuple[Grain, datetime, datetime]:
        """Return the interval to count by, and the start and end of the window in whole intervals.

        Counts by minute are kept for two days only, so a window that begins earlier is counted by
        the hour. If the request groups by time and asks for a longer interval (`every`), that
        interval is used.
        """
        since, until = self.requested_bounds(now)
        counted: Grain = finest
        if finest == "minute" and since < start_of_kept_minutes(now):
            counted = "hour"
        by_time = "at" in getattr(self, "by", ())
        params: Grain = getattr(self, "every", counted) if by_time else counted
        grain = max(counted, params, key=SECONDS_BY_GRAIN.__getitem__)
        since, until = round_to_grain(since, grain), round_to_grain(until, grain, up=True)
        if getattr(self, "window", "this") == "before":
            since, until = since - (until - since), since
        return grain, since, until


class GroupedParams(CountsParams, frozen=True, kw_only=True):
    """Parameters of an endpoint that returns counts in groups."""

    limit: Annotated[int, Meta(ge=1, le=5_000, description="Maximum number of groups.")] = 1_000
    window: Annotated[
        Literal["this", "before"],
        Meta(
            description="With `before`, the answer is about the window of the same length that "
            "ends where the given one begins."
        ),
    ] = "this"


class PagedParams(Parameters, frozen=True, kw_only=True):
    """Parameters of an endpoint that returns a list in pages."""

    limit: PageLimit = 50
    cursor: Cursor | None = None


class PagedWindowParams(WindowParams, frozen=True, kw_only=True):
    """Parameters of a list in pages within a time window."""

    limit: PageLimit = 50
    cursor: Cursor | None = None


def parse_path_id(text: str) -> int:
    """Parse an id in a path. Raises NotFoundError if it can't be an id."""
    number = parse_non_negative_int64_or_none(text)
    if number is None:
        raise NotFoundError("there is no such id")
    return number


def parse_non_negative_int64_or_none(text: str) -> int | None:
    """Parse a number from 0 that fits into 64 bits, or return None."""
    if re.fullmatch("[0-9]{1,19}", text, re.ASCII) is None or int(text) > _GREATEST_ID:
        return None
    return int(text)


def parse_ids_within_int64(texts: list[str] | None) -> list[int] | None:
    """Return ids to filter by. A number above 64 bits matches nothing and is left out."""
    if texts is None:
        return None
    return [
        number for text in texts if (number := parse_non_negative_int64_or_none(text)) is not None
    ]


def _within(moment: datetime) -> datetime:
    """Return the moment in UTC, limited to the years 1970 to 2200."""
    try:
        return min(max(moment.astimezone(UTC), _EARLIEST), LATEST_TIME)
    except OverflowError:
        return _EARLIEST if moment.year < _EARLIEST.year else LATEST_TIME


def _span(text: str) -> timedelta:
    return timedelta(**{_SPAN_UNITS[text[-1]]: int(text[:-1])})


def start_of_kept_minutes(now: datetime) -> datetime:
    """Return the start of the time for which the views have counts by minute."""
    return round_to_grain(now, "hour") - _MINUTES_KEPT


def round_to_grain(moment: datetime, grain: Grain, *, up: bool = False) -> datetime:
    """Round the moment down to the grain, or up if `up`."""
    beyond = (moment - _EARLIEST) % timedelta(seconds=SECONDS_BY_GRAIN[grain])
    if up and beyond:
        return moment - beyond + timedelta(seconds=SECONDS_BY_GRAIN[grain])
    return moment - beyond
