"""A window of the API covers all that was requested, and the answer says what it covers."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, strategies as st

from projector.api.parameters import SECONDS_BY_GRAIN, Grain, start_of_kept_minutes
from projector.api.queries.call_times import DurationsParams
from projector.api.queries.event_rates import EventRateParams
from projector.api.query_strings import parse_query_string

NOW = datetime(2026, 7, 10, 9, 31, 20, tzinfo=UTC)


def parameters(query: str, kind: Any = EventRateParams) -> Any:
    return parse_query_string(query.encode(), kind)


@pytest.mark.parametrize(
    ("query", "finest", "grain", "since", "until"),
    [
        ("last=15m&by=event_type", "minute", "minute", "09:16", "09:32"),
        ("last=15m&by=event_type", "hour", "hour", "09:00", "10:00"),
        ("last=1h", "minute", "minute", "08:31", "09:32"),
        (
            "since=2026-07-10T08:00:00Z&until=2026-07-10T09:31:00Z",
            "minute",
            "minute",
            "08:00",
            "09:31",
        ),
        ("last=1h&every=hour", "minute", "hour", "08:00", "10:00"),
    ],
)
def test_bounds_are_rounded_outwards_to_what_is_counted(
    query: str, finest: Grain, grain: Grain, since: str, until: str
) -> None:
    buckets = parameters(query).grain_and_bounds(NOW, finest)

    assert (buckets[0], f"{buckets[1]:%H:%M}", f"{buckets[2]:%H:%M}") == (grain, since, until)


@pytest.mark.parametrize(
    ("query", "minutes"),
    [
        ("last=2h", True),
        ("last=3h", False),
        ("last=3h&by=at&every=minute", True),
        ("last=3h&by=step&every=minute", False),
    ],
)
def test_minutes_that_are_dear_are_read_for_short_windows(query: str, minutes: bool) -> None:
    assert parameters(query, DurationsParams).needs_minutes(NOW) is minutes


@pytest.mark.parametrize(
    ("query", "since", "until"),
    [
        ("last=15m", "09:16:00", "09:32:00"),
        ("last=6h", "03:00:00", "10:00:00"),
        ("since=2026-07-10T09:30:10Z", "09:30:10", "09:32:00"),
        ("last=6h&until=2026-07-10T09:31:00Z", "03:00:00", "09:31:00"),
        ("since=2026-07-10T08:00:05Z&until=2026-07-10T09:31:07Z", "08:00:05", "09:31:07"),
    ],
)
def test_a_list_begins_and_ends_where_counts_do_unless_bounds_are_given(
    query: str, since: str, until: str
) -> None:
    bounds = parameters(query).rounded_bounds(NOW)

    assert (f"{bounds[0]:%H:%M:%S}", f"{bounds[1]:%H:%M:%S}") == (since, until)


@given(
    since=st.timedeltas(timedelta(0), timedelta(days=9)),
    length=st.timedeltas(timedelta(microseconds=1), timedelta(days=9)),
    every=st.sampled_from(["minute", "hour", "day"]),
    finest=st.sampled_from(["minute", "hour"]),
)
def test_every_window_is_rounded_out_to_whole_buckets(
    since: timedelta, length: timedelta, every: str, finest: Grain
) -> None:
    begin = NOW - since
    window = EventRateParams(since=begin, until=begin + length, every=every)  # type: ignore[arg-type]

    grain, low, high = window.grain_and_bounds(NOW, finest)

    assert low <= begin <= begin + length <= high
    assert (high - low) % timedelta(seconds=SECONDS_BY_GRAIN[grain]) == timedelta(0)
    assert begin - low < timedelta(seconds=SECONDS_BY_GRAIN[grain])
    assert high - (begin + length) < timedelta(seconds=SECONDS_BY_GRAIN[grain])
    assert grain != "minute" or low >= start_of_kept_minutes(NOW)


@pytest.mark.parametrize("since", ["2016-12-31T23:59:60Z", "2017-01-01T00:59:60%2B01:00"])
def test_a_leap_second_is_the_second_after_it(since: str) -> None:
    at = parameters(f"since={since}&until=2017-01-01T01:00:00Z").rounded_bounds(NOW)[0]

    assert at == datetime(2017, 1, 1, tzinfo=UTC)
