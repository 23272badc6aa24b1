"""Reads the comments and columns of the views from a database, and prints them as text or JSON.

docs/views.json is the JSON that it prints, and a test compares that file with the database.
"""

from collections.abc import Iterable
from typing import Final

import asyncpg
import msgspec

from projector.views.catalog import VIEWS, View


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


async def read_described_views(connection: asyncpg.Connection) -> list[DescribedView]:
    """Return every view, in the order of catalog.py."""
    rows = await connection.fetch(_COLUMNS)
    columns: dict[str, list[Column]] = {}
    comments: dict[str, str] = {}
    for row in rows:
        comments[row["view"]] = row["comment"] or ""
        column = Column(row["name"], row["type"], row["meaning"] or "")
        columns.setdefault(row["view"], []).append(column)
    return [DescribedView(view, comments[view.name], tuple(columns[view.name])) for view in VIEWS]


def views_as_json(described: Iterable[DescribedView]) -> str:
    """Return the views as JSON, one column on each line. It ends with a newline."""
    views = [
        f' {{\n  "name": {_json(one.view.name)},\n  "comment": {_json(one.comment)},\n'
        '  "columns": [\n'
        + ",\n".join(f"   {_json(column)}" for column in one.columns)
        + "\n  ]\n }"
        for one in described
    ]
    return "[\n" + ",\n".join(views) + "\n]\n"


def views_as_text(described: Iterable[DescribedView]) -> str:
    """Return two lines per view: its name, and the question that it answers."""
    return "\n".join(
        f"projector.{one.view.name}\n    {one.comment.partition('?')[0]}?" for one in described
    )


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


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
