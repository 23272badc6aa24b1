"""The views of a database in, docs/views.md out: their comments, columns and example queries."""

from collections.abc import Iterable, Iterator
from textwrap import dedent
from typing import Final

import asyncpg
import msgspec

from projector.views.catalog import VIEWS, View
from projector.views.operator_questions import OPERATOR_QUESTIONS

_HEAD: Final = """\
# Views

Every view of schema `projector`, in the order an operator asks. They are a contract: columns are
added, never taken away or changed in meaning. The tables behind them are not.

- **They are never behind the log.** A projection moves in the transaction of the events it tells
  of. How far the log itself was read is in `freshness`.
- **`attempts` counts retries**: 0 is the first try.
- **Put your time range on `hour`, `minute` or `bucket_start`**, in UTC: it reaches an index.
  Minutes are kept for two days; hours for ever.
- **Rates come with numerator and denominator.** To add hours up, add those, then divide.
- **Percentiles** come from histograms whose buckets are 9 % wide, by
  `projector.percentile(fraction, bucket, calls)`, in seconds: at most 4.5 % off.
- **Rows of `event_counts`, `call_outcomes_by_attempt`, `call_time_histogram` and
  `execution_outcomes` are parts**: several have the same keys, some take back others. Always sum.
- **`attempts_in_order`** is dear for a whole day: it numbers the tries of each execution. Name one.
- A reader needs the role `projector_reader`, which sees these views and nothing else.

This page is made by `projector views --markdown` from the comments in the database.
"""


class Column(msgspec.Struct, frozen=True):
    """One column of a view, as the database describes it."""

    name: str
    type: str
    meaning: str


class DescribedView(msgspec.Struct, frozen=True):
    """A view with what the database says of it."""

    view: View
    comment: str
    columns: tuple[Column, ...]


async def describe(connection: asyncpg.Connection) -> list[DescribedView]:
    """Every view, in the order of questions.py."""
    rows = await connection.fetch(_COLUMNS)
    columns: dict[str, list[Column]] = {}
    comments: dict[str, str] = {}
    for row in rows:
        comments[row["view"]] = row["comment"] or ""
        column = Column(row["name"], row["type"], row["meaning"] or "")
        columns.setdefault(row["view"], []).append(column)
    return [DescribedView(view, comments[view.name], tuple(columns[view.name])) for view in VIEWS]


def as_markdown(described: Iterable[DescribedView]) -> str:
    """The page, ending in a newline."""
    sections = (line for one in described for line in _section(one))
    return "\n".join([_HEAD, *sections, *_questions()])


def as_text(described: Iterable[DescribedView]) -> str:
    """Each view on a line, and the question it answers below."""
    return "\n".join(
        f"projector.{one.view.name}\n    {one.comment.partition('?')[0]}?" for one in described
    )


def _questions() -> Iterator[str]:
    yield "# An operator's questions\n"
    for number, question in enumerate(OPERATOR_QUESTIONS, 1):
        yield f"{number}. {question.asks}\n"
        yield "```sql"
        yield dedent(question.query).strip() + ";"
        yield "```\n"


def _section(one: DescribedView) -> Iterator[str]:
    yield f"## {one.view.name}\n"
    yield f"{one.comment}\n"
    yield "| column | type | meaning |"
    yield "|---|---|---|"
    for column in one.columns:
        yield f"| {column.name} | {column.type} | {column.meaning} |"
    yield "\n```sql"
    yield dedent(one.view.example).strip() + ";"
    yield "```\n"


_COLUMNS: Final = """
    select   view.relname as view, obj_description(view.oid, 'pg_class') as comment,
             attribute.attname as name, format_type(attribute.atttypid, null) as type,
             col_description(view.oid, attribute.attnum) as meaning
    from     pg_class     as view
    join     pg_attribute as attribute on attribute.attrelid = view.oid
    where    view.relnamespace = 'projector'::regnamespace
    and      view.relkind = 'v'
    and      attribute.attnum > 0
    order by view.relname, attribute.attnum
"""
