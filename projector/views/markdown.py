"""Renders the views of a database as docs/views.md: comments, columns and example queries."""

from collections.abc import Iterable, Iterator
from textwrap import dedent
from typing import Final

import asyncpg
import msgspec

from projector.views.catalog import VIEWS, View
from projector.views.operator_questions import OPERATOR_QUESTIONS

_HEAD: Final = """\
# Views

The views of schema `projector`, in the order in which an operator needs them. They are a contract:
columns may be added, but are never removed or changed in meaning. The tables behind them are not.

- **They are not behind the stored events**: a projection is updated in the transaction of its
  events. The one exception, an event whose projection failed, is shown by `agreement` until
  `projector repair` has run. `freshness` says how far each partition of the log was read.
- **`attempts` counts retries**: 0 is the first attempt.
- **Filter by time on `hour`, `minute` or `bucket_start`**, in UTC: these columns use an index.
  Minutes are kept for two days, hours for ever, or as `projector maintain --keep-hours` says.
- **Rates come with numerator and denominator.** For several hours, add up both, then divide.
- **Percentiles** come from histograms whose buckets are 9 % wide, by
  `projector.percentile(fraction, bucket, calls)`, in seconds: at most 4.5 % off.
- **Rows of `event_counts`, `call_outcomes_by_attempt`, `call_time_histogram` and
  `execution_outcomes` are partial sums**: several rows can have the same keys, and some are
  negative. Always use `sum`.
- **`attempts_in_order`** is slow for a whole day, because it numbers the attempts of every
  execution. Filter by `execution_id`.
- **Calls of the step `__orchestrate__`**, which the engine makes between two steps, are left out of
  views of calls. Each view that leaves them out says so. Views of events count their events.
- A reader needs the role `projector_reader`, which sees these views and nothing else.

`projector views --markdown` generates this page from the comments in the database.
"""


class Column(msgspec.Struct, frozen=True):
    """One column of a view, as the database describes it."""

    name: str
    type: str
    meaning: str


class DescribedView(msgspec.Struct, frozen=True):
    """A view with its comment and columns in the database."""

    view: View
    comment: str
    columns: tuple[Column, ...]


async def describe(connection: asyncpg.Connection) -> list[DescribedView]:
    """Every view, in the order of catalog.py."""
    rows = await connection.fetch(_COLUMNS)
    columns: dict[str, list[Column]] = {}
    comments: dict[str, str] = {}
    for row in rows:
        comments[row["view"]] = row["comment"] or ""
        column = Column(row["name"], row["type"], row["meaning"] or "")
        columns.setdefault(row["view"], []).append(column)
    return [DescribedView(view, comments[view.name], tuple(columns[view.name])) for view in VIEWS]


def as_markdown(described: Iterable[DescribedView]) -> str:
    """The page as Markdown; it ends with a newline."""
    sections = (line for one in described for line in _section(one))
    return "\n".join([_HEAD, *sections, *_questions()])


def as_text(described: Iterable[DescribedView]) -> str:
    """Two lines for each view: its name, and the question that it answers."""
    return "\n".join(
        f"projector.{one.view.name}\n    {one.comment.partition('?')[0]}?" for one in described
    )


def _questions() -> Iterator[str]:
    yield "# Questions of operators\n"
    for number, question in enumerate(OPERATOR_QUESTIONS, 1):
        yield f"{number}. {question.question}\n"
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
