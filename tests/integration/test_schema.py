"""The schema as a reader finds it: schema.sql is up to date, and everything in it is described."""

import re
from collections.abc import AsyncIterator

import pytest

from projector.views.catalog import VIEWS
from tests.support.schema_dump import SCHEMA_FILE, dump_schema
from tests.support.stack import Cluster, Database, Stack
from tests.support.table_rows import connected

MIGRATIONS = sorted(SCHEMA_FILE.parent.glob("[0-9]*_*.sql"))
MAX_FUNCTION_LINES = 120
STEPPED_FUNCTION_LINES = 60

OURS = "relnamespace::regnamespace::text in ('normalizer', 'projector', 'migrations')"
TABLES = f"{OURS} and relkind = 'r'"
LINES = r"cardinality(string_to_array(btrim(prosrc, E'\n'), E'\n'))"


@pytest.fixture(scope="module")
async def database(stack: Stack) -> AsyncIterator[Database]:
    """One for all: they only read."""
    async with (await stack.cluster("current")).database() as made:
        yield made


async def found(database: Database, query: str) -> list[str]:
    async with connected(database) as connection:
        return [row[0] for row in await connection.fetch(query)]


async def silent(database: Database, query: str) -> list[str]:
    """Of many, the names of those that do not say what the second column wants."""
    async with connected(database) as connection:
        rows = await connection.fetch(query)
    assert len(rows) > 20
    return [name for name, is_said in rows if not is_said]


async def test_the_schema_file_shows_what_the_migrations_make(
    database: Database, cluster: Cluster
) -> None:
    """If not: `python -m tests.support.schema_dump` writes it."""
    assert dump_schema(database.url, cluster.server.bin_dir) == SCHEMA_FILE.read_text()


async def test_every_table_and_view_says_its_purpose(database: Database) -> None:
    query = f"""
        select oid::regclass::text, obj_description(oid, 'pg_class') is not null
        from   pg_class
        where  {OURS} and relkind in ('r', 'v')
    """

    assert await silent(database, query) == []


async def test_every_column_says_its_meaning(database: Database) -> None:
    query = f"""
        select pg_class.oid::regclass || '.' || attname,
               col_description(pg_class.oid, attnum) is not null
        from   pg_class
        join   pg_attribute on attrelid = pg_class.oid
        where  (
                   {TABLES}
                   or {OURS} and relkind = 'v'
                   and relname not in ('counted_calls', 'timed_executions')
               )
        and    attnum > 0
        and    not attisdropped
    """

    assert await silent(database, query) == []


async def test_every_index_names_the_query_that_needs_it(database: Database) -> None:
    """A primary key is what its table is about."""
    query = f"""
        select pg_class.oid::regclass::text,
               obj_description(pg_class.oid, 'pg_class') like '%Query: %'
               or indisunique and obj_description(pg_class.oid, 'pg_class') is not null
        from   pg_class
        join   pg_index on indexrelid = pg_class.oid
        where  {OURS}
        and    not indisprimary
    """

    assert await silent(database, query) == []


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


async def test_no_function_is_too_long_to_follow(database: Database) -> None:
    long = await found(
        database,
        f"""
        select proname
        from   pg_proc
        where  pronamespace in ('normalizer'::regnamespace, 'projector'::regnamespace)
        and    {LINES} > {MAX_FUNCTION_LINES}
        """,
    )

    assert long == []


async def test_a_long_function_has_numbered_steps_and_lists_them(database: Database) -> None:
    """The steps in its body are those in the comment above it."""
    long = await found(
        database,
        f"""
        select nspname || '.' || proname
        from   pg_proc
        join   pg_namespace on pg_namespace.oid = pronamespace
        where  nspname in ('normalizer', 'projector')
        and    {LINES} > {STEPPED_FUNCTION_LINES}
        """,
    )

    for name in long:
        listed, steps = _steps(name)
        assert steps, f"{name} has no numbered steps"
        assert listed == steps, name


def _steps(name: str) -> tuple[list[str], list[str]]:
    """The numbers of the steps in the comment above a function, and in its body."""
    text = "\n".join(path.read_text() for path in MIGRATIONS)
    above, body = text.split(f"create function {name}(")
    header: list[str] = []
    for line in reversed(above.splitlines()):
        if not line.startswith("--"):
            break
        header.append(line)
    number = re.compile(r"^ *-- +(\d)\. ", re.MULTILINE)
    return number.findall("\n".join(reversed(header))), number.findall(body.partition("\n$$;")[0])
