"""How a question is asked: of a snapshot, for counts in groups, or for a page of a list."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from projector.api.answers import Answer, Counts, Page, Row
from projector.api.cursors import decode, encode
from projector.api.database import Snapshot, Statement
from projector.api.parameters import SECONDS, Counted, Grain, Listed, ListedWindow, ids
from projector.api.queries.grouping import Grains

R = TypeVar("R", bound=Row)


async def now(
    snapshot: Snapshot, statement: Statement, values: Mapping[str, Any], kind: type[R]
) -> Answer[R]:
    """All rows of a question about now."""
    return Answer[R](
        rows=await snapshot.rows(statement, values, kind),
        as_of=snapshot.as_of,
        behind_s=snapshot.behind_s,
        read_at=snapshot.read_at,
    )


async def counts(
    snapshot: Snapshot,
    statement: Statement | Grains,
    asked: Counted,
    kind: type[R],
) -> Counts[R]:
    """Groups of a question: the newest first, then the greatest, `limit` of them."""
    finest: Grain = "hour"
    if isinstance(statement, Grains) and (
        not statement.dear or asked.asks_minutes(snapshot.read_at)
    ):
        finest = "minute"
    every, since, until = asked.buckets(snapshot.read_at, finest)
    if isinstance(statement, Grains):
        statement = statement.minutes if every == "minute" else statement.hours
    values = {
        **_values(asked),
        "since": since,
        "until": until,
        "every_s": SECONDS[every],
        "limit": asked.limit + 1,
    }
    rows = await snapshot.rows(statement, values, kind)
    return Counts[R](
        rows=rows[: asked.limit],
        truncated=len(rows) > asked.limit,
        since=since,
        until=until,
        every=every,
        as_of=snapshot.as_of,
        behind_s=snapshot.behind_s,
        read_at=snapshot.read_at,
    )


async def page(
    snapshot: Snapshot,
    statement: Statement,
    asked: Listed | ListedWindow,
    kind: type[R],
    *,
    after: Mapping[str, type],
    **values: Any,
) -> Page[R]:
    """A page of a list. The statement's last columns, named as in `after`, are its keyset."""
    since, until = None, None
    if isinstance(asked, ListedWindow):
        since, until = asked.bounds(snapshot.read_at)
    place = decode(asked.cursor, after)
    records = await snapshot.records(
        statement,
        {
            **_values(asked),
            **values,
            **place,
            "since": since,
            "until": until,
            "limit": asked.limit + 1,
        },
    )
    shown = records[: asked.limit]
    more = len(records) > asked.limit
    return Page[R](
        rows=[
            kind(**{name: value for name, value in record.items() if name not in after})
            for record in shown
        ],
        next=encode([shown[-1][name] for name in after]) if more else None,
        since=since,
        until=until,
        as_of=snapshot.as_of,
        behind_s=snapshot.behind_s,
        read_at=snapshot.read_at,
    )


def _values(asked: msgspec.Struct) -> dict[str, Any]:
    values = msgspec.structs.asdict(asked)
    for name in ("execution", "parent"):
        if name in values:
            values[name] = ids(values[name])
    return values
