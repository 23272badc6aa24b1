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
    """Rows of one snapshot, and how fresh they are.

    as_of: the rows include every record that the log had at this time, in every partition. It's
    null while a partition was never read, or none is known. read_at: the time of the query by the
    database's clock. behind_s: the seconds between them.
    """

    of_the_clock: ClassVar = frozenset({"as_of", "behind_s", "read_at", "until"})

    as_of: Timestamp | None
    behind_s: float | None
    read_at: Timestamp
    rows: list[R]


class GroupedAnswer(ApiAnswer[R], Generic[R], frozen=True, kw_only=True):
    """Groups within [since, until). `truncated` is true if `limit` left some out.

    every: the width of the counted intervals, and of `at`. The requested window is rounded outwards
    to it. since and until are the rounded bounds, and exact for the rows.
    """

    since: Timestamp
    until: Timestamp
    every: Grain
    truncated: bool


class PagedAnswer(ApiAnswer[R], Generic[R], frozen=True, kw_only=True, omit_defaults=True):
    """A page of a list. `next` is the cursor of the following page, or null on the last page.

    total: how many rows the list has, only on its first page. at_least: it has more than that.
    total is left out if counting takes too long.
    """

    # The start of a window that ends now isn't a whole hour.
    of_the_clock: ClassVar = ApiAnswer.of_the_clock | {"since"}

    next: str | None
    total: int | None = None
    at_least: bool = False
    since: Timestamp | None = None
    until: Timestamp | None = None
