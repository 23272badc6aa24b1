"""How producers write a time, and what is left of it: microseconds in, (text, microseconds) out.

Source: docs/spec/wire-shapes.md#t2, #t3.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

FormattedTime = tuple[object, int]
"""The text on the wire, and the microseconds since 1970 that it means."""

DAY_US: Final = 86_400_000_000
_SECOND: Final = 1_000_000


@lru_cache(maxsize=8192)
def _day_and_clock(second: int) -> tuple[str, str]:
    at = datetime.fromtimestamp(second, UTC)
    return at.strftime("%Y-%m-%d"), at.strftime("%H:%M:%S")


def _text(at_us: int, between: str, zone: str) -> str:
    day, clock = _day_and_clock(at_us // _SECOND)
    return f"{day}{between}{clock}.{at_us % _SECOND:06d}{zone}"


def micros_z(at_us: int) -> FormattedTime:
    """`2026-05-31T03:14:15.000123Z`, the canonical form."""
    return _text(at_us, "T", "Z"), at_us


def nanos_z(at_us: int) -> FormattedTime:
    """Nine digits, like the Rust programs write. A reader cuts the last three."""
    return _text(at_us, "T", f"{at_us % 997:03d}Z"), at_us


def millis_z(at_us: int) -> FormattedTime:
    """Three digits: what the Rust server's rows keep."""
    return f"{_text(at_us, 'T', '')[:-3]}Z", at_us - at_us % 1000


def seconds_z(at_us: int) -> FormattedTime:
    """No digits at all."""
    return f"{_text(at_us, 'T', '')[:-7]}Z", at_us - at_us % _SECOND


def blank_offset(at_us: int) -> FormattedTime:
    """`2026-05-20 10:00:00.215431+00:00`: json.dumps with default=str."""
    return _text(at_us, " ", "+00:00"), at_us


def naive(at_us: int) -> FormattedTime:
    """No zone: UTC."""
    return _text(at_us, "T", ""), at_us


def naive_blank(at_us: int) -> FormattedTime:
    """No zone, and a blank."""
    return _text(at_us, " ", ""), at_us


def lower_case(at_us: int) -> FormattedTime:
    """`t` and `z`."""
    return _text(at_us, "t", "z"), at_us


def east(at_us: int) -> FormattedTime:
    """Local time with +05:30."""
    return _text(at_us + 19_800 * _SECOND, "T", "+05:30"), at_us


def west(at_us: int) -> FormattedTime:
    """Local time with -0800."""
    return _text(at_us - 28_800 * _SECOND, "T", "-0800"), at_us


def hour_offset(at_us: int) -> FormattedTime:
    """Local time with +02."""
    return _text(at_us + 7_200 * _SECOND, "T", "+02"), at_us


def epoch_seconds(at_us: int) -> FormattedTime:
    """Whole seconds as a number."""
    return at_us // _SECOND, at_us - at_us % _SECOND


def epoch_seconds_text(at_us: int) -> FormattedTime:
    """Seconds with a fraction as text, read by exact decimal."""
    return f"{at_us // _SECOND}.{at_us % _SECOND:06d}", at_us


def epoch_millis(at_us: int) -> FormattedTime:
    """Milliseconds as a number."""
    return at_us // 1000, at_us - at_us % 1000


def epoch_millis_text(at_us: int) -> FormattedTime:
    """Milliseconds as text."""
    return str(at_us // 1000), at_us - at_us % 1000


def epoch_micros(at_us: int) -> FormattedTime:
    """Microseconds as a number."""
    return at_us, at_us


def epoch_nanos(at_us: int) -> FormattedTime:
    """Nanoseconds as a number."""
    return at_us * 1000 + 7, at_us


TimeFormat = Callable[[int], FormattedTime]

PYTHON_FORMATS: Final[tuple[TimeFormat, ...]] = (
    micros_z,
    nanos_z,
    millis_z,
    seconds_z,
    blank_offset,
    naive,
    naive_blank,
    lower_case,
    east,
    west,
    hour_offset,
    epoch_seconds,
    epoch_seconds_text,
    epoch_millis,
    epoch_millis_text,
    epoch_micros,
    epoch_nanos,
)
"""Every format that a Python producer uses. Bare dates are too coarse for the simulator."""
