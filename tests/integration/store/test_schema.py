"""The schema as a reader finds it: everything in it is described, and nothing can go stale."""

from collections.abc import AsyncIterator
from typing import Final

import pytest

from normalizer.store.migration_files import MIGRATIONS_FOLDER
from projector.views.catalog import VIEWS
from tests.support.stack import Database, Stack
from tests.support.table_rows import connected

OURS = "relnamespace::regnamespace::text in ('normalizer', 'projector', 'migrations')"
TABLES = f"{OURS} and relkind = 'r'"


@pytest.fixture(scope="module")
async def database(stack: Stack) -> AsyncIterator[Database]:
    """One for all: they only read."""
    async with (await stack.cluster("current")).database() as made:
        yield made


async def found(database: Database, query: str) -> list[str]:
    async with connected(database) as connection:
        return [row[0] for row in await connection.fetch(query)]


DESCRIBED: Final = {
    "every table and view says its purpose": f"""
        select oid::regclass::text, obj_description(oid, 'pg_class') is not null
        from   pg_class
        where  {OURS} and relkind in ('r', 'v')
    """,
    "every column says its meaning": f"""
        select pg_class.oid::regclass || '.' || attname,
               col_description(pg_class.oid, attnum) is not null
        from   pg_class
        join   pg_attribute on attrelid = pg_class.oid
        where  (
                   {TABLES}
                   or {OURS} and relkind = 'v'
                   and relname not in ('finished_calls', 'executions_with_as_of')
               )
        and    attnum > 0
        and    not attisdropped
    """,
    # A primary key is what its table is about.
    "every index names the query that needs it": f"""
        select pg_class.oid::regclass::text,
               obj_description(pg_class.oid, 'pg_class') like '%Query: %'
               or indisunique and obj_description(pg_class.oid, 'pg_class') is not null
        from   pg_class
        join   pg_index on indexrelid = pg_class.oid
        where  {OURS}
        and    not indisprimary
    """,
}
"""The name of each thing, and whether its comment says what it must."""


@pytest.mark.parametrize("claim", DESCRIBED)
async def test_the_schema_is_described(database: Database, claim: str) -> None:
    async with connected(database) as connection:
        rows = await connection.fetch(DESCRIBED[claim])

    assert len(rows) > 20
    assert [name for name, is_described in rows if not is_described] == []


async def test_a_table_or_view_is_of_the_contract_or_marked_private(database: Database) -> None:
    """The contract: the views that docs/views.json lists, and events, which docs/spec documents."""
    unmarked = await found(
        database,
        f"""
        select relname
        from   pg_class
        where  ({TABLES} or {OURS} and relkind = 'v')
        and    obj_description(oid, 'pg_class') not like 'Private: %'
        """,
    )

    assert sorted(unmarked) == sorted(["events", *(view.name for view in VIEWS)])


async def test_a_function_that_stored_values_rest_on_is_a_version_and_never_repeatable(
    database: Database,
) -> None:
    """A new meaning would leave an index, a constraint, or a stored column as it was."""
    rested_on = await found(
        database,
        """
        with recursive used (oid) as (
            select refobjid
            from   pg_depend
            where  refclassid = 'pg_proc'::regclass
            and    classid not in (
                       'pg_proc'::regclass, 'pg_rewrite'::regclass, 'pg_trigger'::regclass
                   )
            union
            select refobjid
            from   used
            join   pg_depend on classid = 'pg_proc'::regclass and objid = used.oid
                            and refclassid = 'pg_proc'::regclass
        )
        select proname::text
        from   pg_proc
        join   used using (oid)
        where  pronamespace in ('normalizer'::regnamespace, 'projector'::regnamespace)
        """,
    )

    assert {"gen_snowflake", "to_hour", "sent_event_id"} <= set(rested_on)
    repeatable = {path.stem for path in (MIGRATIONS_FOLDER / "functions").glob("*.sql")}
    assert repeatable
    assert repeatable.isdisjoint(rested_on)
