"""The form of every answer: rows, and fields that say how fresh they are.

There are three kinds: all rows (ApiAnswer), counts in groups (GroupedAnswer), and one page of a
list (PagedAnswer). The OpenAPI document takes its descriptions from the docstrings here.
"""

from datetime import datetime
from typing import Annotated, ClassVar, Generic, TypeVar

import msgspec
from msgspec import Meta

from projector.api.parameters import Grain

Timestamp = Annotated[datetime, Meta(tz=True)]
"""A time with its zone, which the format date-time in the OpenAPI document requires."""


class ApiRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One row of an answer. Ids are strings.

    A key that the request doesn't group by is left out.
    """


_R = TypeVar("_R", bound=ApiRow)


class ApiAnswer(msgspec.Struct, Generic[_R], frozen=True, kw_only=True):
    """Rows that were read in one snapshot of the database, and how fresh they are.

    The rows include everything that Kafka had received before the time `as_of`. So a client can
    tell whether an empty answer means that nothing happened, or that the service is behind. `as_of`
    is null until every known partition has been read once. `read_at` is when the query ran, by the
    database's clock, and `behind_s` is the number of seconds from `as_of` to `read_at`.
    """

    of_the_clock: ClassVar = frozenset({"as_of", "behind_s", "read_at", "until"})

    as_of: Timestamp | None
    behind_s: float | None
    read_at: Timestamp
    rows: list[_R]


class GroupedAnswer(ApiAnswer[_R], Generic[_R], frozen=True, kw_only=True):
    """Counts of a time window, one row per group.

    The database stores counts per minute, hour, or day (`every`), so the window is widened to whole
    intervals. For example, 09:10 to 10:20 by the hour becomes 09:00 to 11:00. `since` and `until`
    are the bounds of the wider window. If the request groups by time, each value of `at` is the
    start of such an interval. `truncated` is true if there are more groups than `limit`.
    """

    since: Timestamp
    until: Timestamp
    every: Grain
    truncated: bool


class PagedAnswer(ApiAnswer[_R], Generic[_R], frozen=True, kw_only=True, omit_defaults=True):
    """One page of a list. To get the next page, send `next` as the parameter `cursor`.

    On the last page `next` is null. Only the first page has `total`, the number of rows on all
    pages, and even there it's missing if the count would take too long. If `at_least` is true,
    counting stopped early, so there are more rows than `total`.
    """

    # The start of a window that ends now isn't a whole hour.
    of_the_clock: ClassVar = ApiAnswer.of_the_clock | {"since"}

    next: str | None
    total: int | None = None
    at_least: bool = False
    since: Timestamp | None = None
    until: Timestamp | None = None
