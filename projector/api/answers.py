"""The fields that every answer has in addition to its rows."""

from datetime import datetime
from typing import Annotated, ClassVar, Generic, TypeVar

import msgspec
from msgspec import Meta

from projector.api.parameters import Grain

Timestamp = Annotated[datetime, Meta(tz=True)]
"""A time with its zone, which the format date-time in the OpenAPI document requires."""


class ApiRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One row of an answer. Keys that it isn't grouped by are left out. Ids are strings."""


R = TypeVar("R", bound=ApiRow)


class ApiAnswer(msgspec.Struct, Generic[R], frozen=True, kw_only=True):
    """Rows that were read in one snapshot, with how current they are.

    The rows include every record that Kafka had received before `as_of`, in every partition.
    `as_of` is null if no partition is known, or if one was never read. `read_at` is the time of the
    query by the database's clock, and `behind_s` the seconds from `as_of` to `read_at`.
    """

    of_the_clock: ClassVar = frozenset({"as_of", "behind_s", "read_at", "until"})

    as_of: Timestamp | None
    behind_s: float | None
    read_at: Timestamp
    rows: list[R]


class GroupedAnswer(ApiAnswer[R], Generic[R], frozen=True, kw_only=True):
    """The groups of a view in the window from `since` up to, but not including, `until`.

    `truncated` is true if there are more groups than `limit`. `every` is the length of the
    intervals that were counted, for example an hour, and of the intervals in `at`. The requested
    window is widened to whole intervals, and `since` and `until` are the widened bounds.
    """

    since: Timestamp
    until: Timestamp
    every: Grain
    truncated: bool


class PagedAnswer(ApiAnswer[R], Generic[R], frozen=True, kw_only=True, omit_defaults=True):
    """One page of a list.

    `next` is the cursor of the following page, or null on the last page. `total` is the number of
    rows of the whole list, and only the first page has it. `at_least` replaces it if counting would
    take too long: the list has more rows than that.
    """

    # The start of a window that ends now isn't a whole hour.
    of_the_clock: ClassVar = ApiAnswer.of_the_clock | {"since"}

    next: str | None
    total: int | None = None
    at_least: bool = False
    since: Timestamp | None = None
    until: Timestamp | None = None
