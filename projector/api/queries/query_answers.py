"""Runs a statement on a snapshot, and builds the answer from its rows.

There's one function for each kind of answer: all rows, counts in groups, and one page of a list. A
page ends with a cursor, an opaque text with which a client gets the next page. It contains the last
row's values in the columns by which the list is sorted. Unlike a row number, these values still
mark the same place after new rows have arrived.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar
from zlib import crc32

import asyncpg
import msgspec

from projector.api.answers import ApiAnswer, ApiRow, GroupedAnswer, PagedAnswer
from projector.api.api_errors import BadCursorError
from projector.api.parameters import (
    SECONDS_BY_GRAIN,
    Grain,
    GroupedParams,
    PagedParams,
    PagedWindowParams,
    parse_ids_within_int64,
)
from projector.api.queries.grouping import GrainStatements
from projector.api.snapshots import Snapshot, Statement

MOST_COUNTED_ROWS: Final = 1_000
"""The most rows of a list to count."""
_COUNT_WITHIN_S: Final = 0.3

_R = TypeVar("_R", bound=ApiRow)


async def run_query(
    snapshot: Snapshot, statement: Statement, values: Mapping[str, Any], kind: type[_R]
) -> ApiAnswer[_R]:
    """Return an answer with all rows of the statement."""
    return build_answer(snapshot, await snapshot.rows(statement, values, kind))


def build_answer(snapshot: Snapshot, rows: list[_R]) -> ApiAnswer[_R]:
    """Return an answer with these rows."""
    return ApiAnswer[_R](
        rows=rows,
        **snapshot.freshness_fields,
    )


async def run_grouped(
    snapshot: Snapshot,
    statement: Statement | GrainStatements,
    params: GroupedParams,
    kind: type[_R],
) -> GroupedAnswer[_R]:
    """Return an answer with at most `limit` groups: the newest first, then the greatest."""
    finest: Grain = "hour"
    if isinstance(statement, GrainStatements) and (
        not statement.slow_minutes or params.needs_minutes(snapshot.read_at)
    ):
        finest = "minute"
    every, since, until = params.grain_and_bounds(snapshot.read_at, finest)
    if isinstance(statement, GrainStatements):
        statement = statement.minutes if every == "minute" else statement.hours
    values = {
        **_values(params),
        "since": since,
        "until": until,
        "every_s": SECONDS_BY_GRAIN[every],
        "limit": params.limit + 1,
    }
    rows = await snapshot.rows(statement, values, kind)
    return GroupedAnswer[_R](
        rows=rows[: params.limit],
        truncated=len(rows) > params.limit,
        since=since,
        until=until,
        every=every,
        **snapshot.freshness_fields,
    )


async def run_paged(
    snapshot: Snapshot,
    statement: Statement,
    params: PagedParams | PagedWindowParams,
    kind: type[_R],
    **values: Any,
) -> PagedAnswer[_R]:
    """Return a page of a list. The last columns of the statement are its keyset."""
    since, until = None, None
    if isinstance(params, PagedWindowParams):
        since, until = params.rounded_bounds(snapshot.read_at)
    keyset = _decode_cursor(statement.text, params.cursor, statement.keyset)
    values = {**_values(params), **values, **keyset, "since": since, "until": until}
    try:
        records = await snapshot.untyped_rows(statement, values | {"limit": params.limit + 1})
    except asyncpg.DataError as error:
        if params.cursor is None:
            raise
        raise BadCursorError(_BAD_CURSOR_MESSAGE) from error
    visible = records[: params.limit]
    more = len(records) > params.limit
    total: int | None = None
    if params.cursor is None:
        total = len(records)
        if more:
            total = await snapshot.count_rows(
                statement, values | {"limit": MOST_COUNTED_ROWS + 1}, within_s=_COUNT_WITHIN_S
            )
    return PagedAnswer[_R](
        rows=[
            kind(**{name: value for name, value in record.items() if name not in keyset})
            for record in visible
        ],
        next=_encode_cursor(statement.text, [visible[-1][name] for name in keyset])
        if more
        else None,
        total=None if total is None else min(total, MOST_COUNTED_ROWS),
        at_least=total is not None and total > MOST_COUNTED_ROWS,
        since=since,
        until=until,
        **snapshot.freshness_fields,
    )


def _values(params: msgspec.Struct) -> dict[str, Any]:
    values = msgspec.structs.asdict(params)
    for name in ("execution", "parent"):
        if name in values:
            values[name] = parse_ids_within_int64(values[name])
    return values


_BAD_CURSOR_MESSAGE: Final = "cursor: this endpoint gave no such `next` for these parameters"


def _encode_cursor(list_: str, keyset: Sequence[Any]) -> str:
    """Return the cursor of the page after the row with this keyset. `list_` is the list's SQL."""
    return urlsafe_b64encode(msgspec.json.encode([_mark(list_), *keyset])).decode().rstrip("=")


def _decode_cursor(list_: str, cursor: str | None, kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Decode a cursor into the position after which the page begins.

    The position is the last row of the previous page, given by its values in the columns by which
    the list is sorted. Without a cursor, all of them are None. Raises BadCursorError if the cursor
    is damaged or belongs to another list. The values have the right types, but may be outside the
    range of their columns, because a client can edit a cursor.
    """
    if cursor is None:
        return dict.fromkeys(kinds)
    try:
        text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        mark, *keyset = msgspec.json.decode(text, type=tuple[(int, *kinds.values())])  # type: ignore[misc]
    except (ValueError, msgspec.MsgspecError) as error:
        raise BadCursorError(_BAD_CURSOR_MESSAGE) from error
    if mark != _mark(list_):
        raise BadCursorError(_BAD_CURSOR_MESSAGE)
    return dict(zip(kinds, keyset, strict=True))


def _mark(list_: str) -> int:
    """Return a number that differs between lists, because their keysets may have the same types."""
    return crc32(list_.encode())
