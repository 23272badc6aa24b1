"""Finds the time of an event, and how strong its evidence is.

Source: docs/spec/wire-shapes.md#t1, #t2, #t3, #t4, #a2.
"""

import re
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import Final, TypeAlias

from normalizer.core.decode.wire_event import WireEvent
from normalizer.core.decode.wire_values import RecordRejectedError, Value
from normalizer.core.evidence import TIME_FROM_ID, TIME_FROM_LOG, TIME_FROM_PRODUCER, EvidenceRank
from normalizer.jsontext import (
    MAX_NUMBER_DIGITS,
    MAX_NUMBER_EXPONENT,
    NumberError,
    parse_json_number,
)
from normalizer.snowflake import decode_id

TIME_FIELDS: Final = ("created_at", "timestamp", "event_time", "ingest_time")
"""The fields that may hold the time of an event, the strongest first (#a2)."""
_NO_OTHERS: Final = (None,) * (len(TIME_FIELDS) - 1)
"""What most events have for every source except the first."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)
"""The latest time that's accepted for an event without a record time."""
_ONE_DAY: Final = timedelta(days=1)
_MILLISECOND: Final = timedelta(milliseconds=1)
_MAX_RECORDED_MS: Final = 253_402_214_399_999
"""The end of 9999-12-30, so that adding one day doesn't overflow."""

RankedCreatedAt: TypeAlias = tuple[datetime | None, EvidenceRank]
"""When the event happened, in UTC, and the rank of its evidence."""


_TEXT: Final = re.compile(
    # A date, then maybe hours and minutes, seconds, a fraction, and an offset from UTC (#t2).
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(?:[Tt ](?!24)[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+|)|)"
    r"(?:[Zz]|[+-][0-9]{2}(?::?[0-5][0-9]|)|)|)"
)
"""`(?:x|)` matches what `(?:x)?` matches, in half the time. 24:00 is excluded, because Python 3.14
would read it as the next day."""
_NUMBER: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,4})?")

# The result is exact, because no accepted number has more digits than this.
_EXACT: Final = Context(prec=MAX_NUMBER_DIGITS + MAX_NUMBER_EXPONENT)
_UNITS: Final = (
    (Decimal(20_000_000_000_000_000), -3),
    (Decimal(20_000_000_000_000), 0),
    (Decimal(20_000_000_000), 3),
)
"""A number above the first counts nano-, micro-, or milliseconds. Multiplied by 10 to the power of
the second, it's microseconds."""
_SECONDS: Final = 6


def to_recorded_at(recorded_ms: int | None) -> datetime | None:
    """Return the time that the log recorded, or None if no datetime can hold it."""
    if recorded_ms is None or not 0 <= recorded_ms <= _MAX_RECORDED_MS:
        return None
    return _EPOCH + recorded_ms * _MILLISECOND


def to_recorded_ms(recorded: datetime | None) -> int | None:
    """Return the milliseconds of a time that the log recorded."""
    return None if recorded is None else (recorded - _EPOCH) // _MILLISECOND


def resolve_created_at(
    event: WireEvent, event_id: int | None, recorded: datetime | None, *, in_log: bool
) -> RankedCreatedAt:
    """Return the time of an event, and where it's from.

    The time that the producer sent is used if there's a valid one. Otherwise it's the time inside
    the producer's id, or else the time that the log recorded. Raises RecordRejectedError if an
    event in a log has none of them.
    """
    latest = _LATEST if recorded is None else recorded + _ONE_DAY
    declared = _declared(event, latest)
    if declared is not None:
        return declared, TIME_FROM_PRODUCER
    in_id = None if event_id is None else _time_in(event_id, recorded, latest)
    if in_id is not None:
        return in_id, TIME_FROM_ID
    if not in_log:
        return None, TIME_FROM_LOG
    if recorded is None:
        raise RecordRejectedError(
            "missing_time", "created_at: expected a time, got none, and the log has none"
        )
    return recorded, TIME_FROM_LOG


def parse_time(value: Value) -> datetime | None:
    """Parse a time as UTC, cut to microseconds, or return None if it's unreadable."""
    if type(value) is str and _TEXT.fullmatch(value):
        return _parse_text(value)
    if type(value) is int or (isinstance(value, str) and _NUMBER.fullmatch(value)):
        return _parse_number(str(value))
    return None


def _declared(event: WireEvent, latest: datetime) -> datetime | None:
    """Return the first readable time. A different one after it is stored in `extra`."""
    sent = event.sent
    values = (sent.created_at, sent.timestamp, sent.event_time, sent.ingest_time)
    candidates = values[:1] if values[1:] == _NO_OTHERS else values
    chosen: datetime | None = None
    chosen_value: Value = None
    for at, value in enumerate(candidates):
        if value is None or value in ("", chosen_value):
            continue
        name = TIME_FIELDS[at]
        time = parse_time(value)
        if chosen is not None:
            if time != chosen:
                event.keep_conflicting_alias(name)
        elif time is not None and _EARLIEST <= time <= latest:
            chosen, chosen_value = time, value
        else:
            event.record_coercion("created_at_unreadable", name, event.fields[name])
    return chosen


def _time_in(event_id: int, recorded: datetime | None, latest: datetime) -> datetime | None:
    decoded = decode_id(event_id, to_recorded_ms(recorded))
    if decoded is None or decoded.layout == "derived":
        return None
    time = _EPOCH + timedelta(milliseconds=decoded.time_ms)
    return time if time <= latest else None


def _parse_text(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text.upper())
        if time.tzinfo is UTC:
            return time
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):  # a 30th of February, or a year before the first
        return None


def _parse_number(text: str) -> datetime | None:
    try:
        number = Decimal(parse_json_number(text))
    except NumberError:
        return None
    shift = next((shift for above, shift in _UNITS if number > above), _SECONDS)
    microseconds = _EXACT.scaleb(number, shift)
    try:
        return _EPOCH + timedelta(microseconds=int(microseconds))
    except OverflowError:
        return None
