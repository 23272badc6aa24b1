"""What every answer holds beside its rows."""

from datetime import datetime
from typing import Generic, TypeVar

import msgspec

from projector.api.parameters import Grain


class ApiRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One row of an answer. What it was not grouped by is left out; ids are texts."""


R = TypeVar("R", bound=ApiRow)


class ApiAnswer(msgspec.Struct, Generic[R], frozen=True, kw_only=True):
    """Rows, and as of when: all of one snapshot.

    as_of: all that the log held then is in the rows, of the partition that is furthest behind; null
    where nothing was read yet. read_at: the database's clock; behind_s: from the one to the other.
    """

    as_of: datetime | None
    behind_s: float | None
    read_at: datetime
    rows: list[R]


class GroupedAnswer(ApiAnswer[R], Generic[R], frozen=True, kw_only=True):
    """Groups within [since, until); `truncated` says that `limit` left some out.

    every: what is counted by, and how wide `at` is. What was asked for is rounded outwards to it,
    so since and until are exact for the rows.
    """

    since: datetime
    until: datetime
    every: Grain
    truncated: bool


class PagedAnswer(ApiAnswer[R], Generic[R], frozen=True, kw_only=True, omit_defaults=True):
    """A page of a list; `next` is the cursor of the page after it, null on the last."""

    next: str | None
    since: datetime | None = None
    until: datetime | None = None
