"""Checks a record against the limits by looking only at its bytes, before anything is decoded.

Nearly every record is too short to exceed a limit, so for most records the check costs only one or
two comparisons. Source: docs/spec/wire-shapes.md#l2, #l3.
"""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

from normalizer.core.decode.wire_values import RecordRejectedError
from normalizer.core.raw_record import RawRecord
from normalizer.jsontext import (
    JSON_STRING_PATTERN,
    MAX_FIELD_DEPTH,
    NumberError,
    is_deeper,
    jsonb_number,
)

MAX_VALUE_BYTES: Final = 8 << 20
MAX_RECORD_BYTES: Final = 16 << 20
"""The most bytes of a record's value, key, and headers together."""
OVERSIZED_KEPT_BYTES: Final = 1 << 16
"""How many bytes to keep of a value, or a key, that's too large to store."""
MAX_RECORD_DEPTH: Final = 256
"""The most levels of nesting in a record, including a batch or a wrapper around its events."""
MAX_EVENTS_IN_RECORD: Final = 10_000
"""The most events in one batch."""
MAX_LARGE_EXPONENTS: Final = 10_000
"""The most numbers with an exponent beyond _SMALL_EXPONENT. Such a number grows in the database:
`1e300` has 5 bytes, and is stored with 301."""
_SMALL_EXPONENT: Final = 22
NUMBER_CHECK_MIN_BYTES: Final = 5 * MAX_LARGE_EXPONENTS
"""A text up to this size can't have too many such numbers, because `1e23,` takes 5 bytes."""
MAX_JSONB_TEXT_BYTES: Final = 16 << 20
"""The most bytes of a text with all of its numbers written out, as jsonb prints them."""
_MAX_SHARED_BYTES: Final = 64 << 20
"""The most bytes of the fields that a batch in one record shares among its events, counted once per
event, because they're copied into each. Without this limit, a record of a few megabytes could
become terabytes of rows."""

_SHORT: Final = 64
"""A number with at most this many digits and a small exponent is far below its limits."""

_LIGHT_BYTES: Final = 1 << 16
_LIGHT_VALUES: Final = 2_000
"""A record below both limits is normalized in less than about 50 milliseconds."""

_NO_LIST: Final = bytes(set(range(256)) - set(b"[{]},"))
"""All bytes except brackets and commas, which are enough to count the items of a list."""
_INNERMOST: Final = re.compile(rb"[\[{],*[\]}]")
"""Matches a list or an object that holds no other, when only these bytes are left of it."""
_DIGITS: Final = bytes.maketrans(b"123456789E", b"000000000e")
_EXPONENT: Final = b"0e0"
"""If its signs are removed and its digits replaced by 0, every number with an exponent contains
this. Other text may contain it too."""
_WITH_EXPONENT: Final = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?[eE][+-]?[0-9]+")


def check_record_size(record: RawRecord) -> None:
    """Raise RecordRejectedError if the value, or the whole record, is too large."""
    if (value_bytes := record.value_bytes) > MAX_VALUE_BYTES:
        raise RecordRejectedError(
            "too_large", f"expected at most {MAX_VALUE_BYTES} bytes, got {value_bytes}"
        )
    record_bytes = record_size(record) if record.cut is None else record.cut.record_bytes
    if record_bytes > MAX_RECORD_BYTES:
        raise RecordRejectedError(
            "too_large",
            f"expected at most {MAX_RECORD_BYTES} bytes with key and headers, got {record_bytes}",
        )


def record_size(record: RawRecord) -> int:
    """Return how many bytes of value, key, and headers are in memory."""
    size = len(record.value or b"") + len(record.key or b"")
    if record.headers:
        size += sum([len(name) + len(text or b"") for name, text in record.headers])
    return size


def check_depth(text: bytes, most: int) -> None:
    """Raise RecordRejectedError for JSON with more levels of nesting than `most`."""
    if is_deeper(text, most):
        raise too_deep_error()


def too_deep_error() -> RecordRejectedError:
    """Return the error for JSON with too many levels."""
    return RecordRejectedError(
        "too_deep", f"expected at most {MAX_FIELD_DEPTH} levels below a field, got more"
    )


def may_have_many_exponents(text: bytes) -> bool:
    """Return whether the JSON has enough large numbers that `check_numbers` must look at them.

    A number such as `1e400` is short, but has 400 digits when it's written out. `check_numbers`
    limits both the number of exponents and the size of all numbers written out. Counting the
    exponents is enough here, because JSON with at most MAX_LARGE_EXPONENTS of them can't reach the
    other limit either. MAX_JSONB_TEXT_BYTES leaves room for 8 MiB of text and 400 digits for each
    of 10,000 numbers.
    """
    return len(text) > NUMBER_CHECK_MIN_BYTES and _exponents_at_most(text) > MAX_LARGE_EXPONENTS


def check_numbers(text: bytes) -> None:
    """Raise RecordRejectedError for numbers that are too large or would take too much space.

    PostgreSQL stores numbers written out, so a short number such as `1e400` takes 400 digits there.
    The checks run in this order: each number by itself, how many exponents there are, and the size
    of the text with all numbers written out. `text` must be valid JSON.
    """
    beyond = 0
    written = len(text)
    try:
        for number, times in _numbers_with_exponent(text).items():
            digits, exponent = _written_out(number)
            beyond += times * (abs(exponent) > _SMALL_EXPONENT)
            written += times * (digits - len(number))
    except NumberError as error:
        raise RecordRejectedError("invalid_json", str(error)) from None
    if beyond > MAX_LARGE_EXPONENTS:
        raise RecordRejectedError(
            "too_large",
            f"expected at most {MAX_LARGE_EXPONENTS} numbers with an exponent beyond "
            f"{_SMALL_EXPONENT}, got {beyond}",
        )
    if written > MAX_JSONB_TEXT_BYTES:
        raise RecordRejectedError(
            "too_large",
            f"expected at most {MAX_JSONB_TEXT_BYTES} bytes with its numbers written out, "
            f"got {written}",
        )


def check_event_count(events: bytes) -> None:
    """Raise RecordRejectedError for a JSON list with more items than a batch may have."""
    if events.count(b",") < MAX_EVENTS_IN_RECORD:
        return
    inside = JSON_STRING_PATTERN.sub(b"", events).translate(None, _NO_LIST)[1:-1]
    while b"[" in inside or b"{" in inside:
        inside = _INNERMOST.sub(b"", inside)
    if (items := inside.count(b",") + 1) > MAX_EVENTS_IN_RECORD:
        raise RecordRejectedError(
            "too_large", f"expected at most {MAX_EVENTS_IN_RECORD} events, got {items}"
        )


def check_shared_size(shared: Iterable[tuple[str, bytes]], items: int) -> None:
    """Raise RecordRejectedError if a batch's own fields, copied into each event, are too large."""
    total = items * sum(len(key) + _written_bytes(value) for key, value in shared)
    if total > _MAX_SHARED_BYTES:
        raise RecordRejectedError(
            "too_large",
            f"expected a batch of at most {_MAX_SHARED_BYTES} bytes with its outer fields in each "
            f"item, got {total}",
        )


def is_slow_to_normalize(record: RawRecord) -> bool:
    """Return whether normalizing the record may take longer than a few tens of milliseconds.

    The time depends on the record's size and on its number of values. Counting commas gives a quick
    estimate of that number. Commas that are written as escapes count too, because a JSON string may
    contain a whole event in which every comma is escaped. A record above the size limit isn't
    heavy, because it's rejected without being decoded.
    """
    value, headers = record.value or b"", record.headers
    size = len(value)
    if size <= 2 * _LIGHT_VALUES and not headers:
        return False
    if headers and _is_much(sum([len(one or b"") for _, one in headers]), len(headers)):
        return True
    if size <= 2 * _LIGHT_VALUES or size > MAX_VALUE_BYTES:
        return False
    return _is_much(size, value.count(b",") + value.count(b"\\u002"))


def _is_much(size: int, values: int) -> bool:
    return size > _LIGHT_BYTES or values > _LIGHT_VALUES


def _exponents_at_most(text: bytes) -> int:
    return text.translate(_DIGITS, b"+-").count(_EXPONENT)


def _numbers_with_exponent(text: bytes) -> Counter[bytes]:
    return Counter(_WITH_EXPONENT.findall(JSON_STRING_PATTERN.sub(b"", text)))


def _written_bytes(value: bytes) -> int:
    """Return the bytes of a valid value with all of its numbers written out."""
    if not _exponents_at_most(value):
        return len(value)
    return len(value) + sum(
        times * (_written_out(number)[0] - len(number))
        for number, times in _numbers_with_exponent(value).items()
    )


def _written_out(number: bytes) -> tuple[int, int]:
    """Return the length of a number as jsonb prints it, and its exponent.

    Raises NumberError if the number is beyond the limits.
    """
    mantissa, _, sent = number.lower().partition(b"e")
    if len(mantissa) > _SHORT or len(sent) > _SHORT or abs(exponent := int(sent)) > _SMALL_EXPONENT:
        written = jsonb_number(number.decode())
        return len(written), int(sent)
    whole, _, fraction = mantissa.lstrip(b"-").partition(b".")
    digits = (whole + fraction).lstrip(b"0")
    shift = exponent - len(fraction)
    sign = len(digits) > 0 and number.startswith(b"-")
    if shift < 0:
        return sign + max(1, len(digits) + shift) + 1 - shift, exponent
    return sign + (len(digits) + shift if digits else 1), exponent
