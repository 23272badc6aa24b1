"""Rewrites a page of stored rows in memory, for renormalize, redact, and their dry runs.

The caller reads the page. A job then stores the changed rows, and a dry run only counts them.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from normalizer.envelope import Envelope
from normalizer.jobs.dry_run.diff import find_changed_fields
from normalizer.jobs.renormalize_row import RewriteFailure
from normalizer.store.stored_rows import ENVELOPE_COLUMNS_SQL

_ROWS_A_SLICE: Final = 50
"""How many rows to renormalize before other tasks may run. That takes a few milliseconds."""

# Selects the rows that an older version of the rules produced. Rows of version 0 are left out. They
# were inserted with SQL, so no version of the rules produced them.
READ_OUTDATED_ROWS_SQL: Final = f"""
    select   {ENVELOPE_COLUMNS_SQL}
    from     normalizer.events
    where    event_id between $1::bigint and $2::bigint
    and      normalizer_version between 1 and $3::integer - 1
    and      ($4::text is null or shape = $4::text)
    and      ($5::jsonb is null or coercions @> $5::jsonb)
    and      ($6::timestamptz is null or created_at >= $6::timestamptz)
    and      ($7::timestamptz is null or created_at < $7::timestamptz)
    order by event_id
"""  # noqa: S608 - column names of this project

LOCK_OUTDATED_ROWS_SQL: Final = f"{READ_OUTDATED_ROWS_SQL} for update"


class RewritePlan(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows to read, and how to rewrite each of them.

    `find` is a statement that selects the rows in a range of ids, and normally locks them too. If
    only a few rows will change, pass a `find` that doesn't lock, and as `may_change` a cheap test
    of a row. Only rows that pass the test are then locked and rewritten.
    """

    find: str
    parameters: tuple[object, ...]
    rewrite: Callable[[Envelope], Envelope | RewriteFailure]
    may_change: Callable[[Envelope], bool] | None = None


class RewrittenPage(msgspec.Struct):
    """The result of rewriting one page."""

    rows: int = 0
    changed: list[Envelope] = []
    unreadable: list[tuple[int, RewriteFailure]] = []

    @property
    def unchanged_count(self) -> int:
        """Return the number of rows that stay as they are."""
        return self.rows - len(self.changed) - len(self.unreadable)


async def compute_rewritten_page(
    rows: Sequence[Envelope],
    rewrite: Callable[[Envelope], Envelope | RewriteFailure],
    rejected: dict[int, str | None],
) -> RewrittenPage:
    """Rewrite each row.

    A row in `rejected`, i.e. that the database rejected, becomes RewriteFailure.
    """
    found = RewrittenPage(rows=len(rows))
    for number, row in enumerate(rows):
        if number % _ROWS_A_SLICE == 0:
            await asyncio.sleep(0)
        assert row.event_id is not None
        today = rewrite(row)
        if row.event_id in rejected:
            code = rejected[row.event_id] or "it can't be encoded"
            today = RewriteFailure(
                reason="rejected_by_database", detail=f"the database rejected it: {code}"
            )
        if isinstance(today, RewriteFailure):
            found.unreadable.append((row.event_id, today))
        elif find_changed_fields(row, today):
            found.changed.append(today)
    return found
