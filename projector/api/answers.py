"""The fields that every answer has in addition to its rows."""

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


R = TypeVar("R", bound=ApiRow)


class ApiAnswer(msgspec.Struct, Generic[R], frozen=True, kw_only=True):
    """Rows that were read in one snapshot of the database, and how fresh they are.

    The rows include every record that Kafka had received before `as_of`, in every partition.
    `as_of` is null if no partition is known yet, or if one was never read. `read_at` is when the
    query ran, by the database's clock, and `behind_s` is the number of seconds from `as_of` to
    `read_at`.
    """

    of_the_clock: ClassVar = frozenset({"as_of", "behind_s", "read_at", "until"})

    as_of: Timestamp | None
    behind_s: float | None
    read_at: Timestamp
    rows: list[R]


class GroupedAnswer(ApiAnswer[R], Generic[R], frozen=True, kw_only=True):
    """Counts of a time window, in groups.

    The counts are stored per minute, hour, or day (`every`), so the requested window is widened to
    whole intervals. `since` is the start of this wider window and `until` its end, which isn't
    included. If the request groups by time (`at`), `every` is also the length of each group's
    interval. `truncated` is true if there are more groups than `limit`.
    """

    since: Timestamp
    until: Timestamp
    every: Grain
    truncated: bool


class PagedAnswer(ApiAnswer[R], Generic[R], frozen=True, kw_only=True, omit_defaults=True):
    """One page of a list.

    `next` is the cursor to request the next page with, or null on the last page. `total` is the
    number of rows on all pages. Only the first page has it, and only if counting them is fast. If
    `at_least` is true, there are more rows than `total`.
    """

    # The start of a window that ends now isn't a whole hour.
    of_the_clock: ClassVar = ApiAnswer.of_the_clock | {"since"}

    next: str | None
    total: int | None = None
    at_least: bool = False
    since: Timestamp | None = None
    until: Timestamp | None = None
