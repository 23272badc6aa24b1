"""A unit of projections in, its shadow out: tables and feeding functions in a schema of its own.

The functions name their tables without a schema, so a copy with another search_path feeds other
tables. A copy is gated as well: what changes a row that is not folded yet, it leaves to the fold;
and it reads no event that is not.
"""

import contextlib
import re
from typing import Final

import asyncpg

from projector.units import Unit

GATE: Final = 5_203_947_410_822
"""Advisory lock: every writer that feeds the shadow holds it shared, the fold alone, in turns."""

SWAP_MS: Final = 600
"""Well under deadlock_timeout."""

# A scalar subquery is looked up by key, and only where it comes to it: one with "in" is hashed
# whole for each statement, or gone through for each row, however many were fed early.
_FOLDED: Final = """(
            batch_id > (select batch_id from projector_next.cut)
            or event_id <= (select frontier from projector_next.cut)
            or (select true from projector_next.fed_early where fed_id = event_id)
        )"""

_ENTRANCE: Final = f"""
    perform pg_advisory_xact_lock_shared({GATE});
    if tg_op = 'INSERT' and tg_relid = 'normalizer.events'::regclass then
        -- Of a batch that took its number before the cut and wrote after it.
        insert into projector_next.fed_early (fed_id)
        select event_id
        from   after
        where  batch_id <= (select batch_id from projector_next.cut)
        on conflict do nothing;
    end if;
"""  # noqa: S608 - a number of our own


async def create(connection: asyncpg.Connection, unit: Unit) -> None:
    """Empty tables with their indexes, and the functions; nobody feeds them yet."""
    await connection.execute("drop schema if exists projector_next cascade")
    await connection.execute("create schema projector_next")
    for table in unit.tables:
        await _copy_table(connection, table)
    await connection.execute(_STATE_TABLES)
    await connection.execute(
        f"create view projector_next.events as select * from normalizer.events where {_FOLDED}"  # noqa: S608 - our own
    )
    for view in unit.views:
        text = await connection.fetchval(_VIEW, f"projector.{view}")
        await connection.execute(f"create view projector_next.{view} as {in_shadow(text, unit)}")
    feeding = {function for _, function in unit.triggers}
    for function in unit.functions:
        text = await connection.fetchval(_FUNCTION, f"projector.{function}")
        await connection.execute(shadowed(text, function, gated=function in feeding))


async def attach(connection: asyncpg.Connection, unit: Unit) -> None:
    """Feed the shadow from now on, after the live projections; locks events for a moment."""
    for name, function in unit.triggers:
        for event, what, tables in _FIRED_BY:
            await connection.execute(
                f"create trigger next_{name}_{what} after {event} on normalizer.events "
                f"referencing {tables} "
                f"for each statement execute function projector_next.{function}()"
            )


async def create_feed(connection: asyncpg.Connection, unit: Unit) -> None:
    """A table of this session whose rows go nowhere but into the shadow."""
    await connection.execute(
        "create temporary table feed (like normalizer.events) on commit delete rows"
    )
    for name, function in unit.triggers:
        await connection.execute(
            f"create trigger next_{name}_fed after insert on feed referencing new table as after "
            f"for each statement execute function projector_next.{function}()"
        )


async def analyze(connection: asyncpg.Connection, unit: Unit) -> None:
    """Fresh statistics, so fresh plans in every session; nobody waits for it.

    Where autovacuum does the same just now, or the machine is too busy, it is left for next time.
    """
    for table in (*unit.tables, "cut", "fed_early"):
        with contextlib.suppress(asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError):
            await connection.execute(f"analyze (skip_locked) projector_next.{table}")


async def drop(connection: asyncpg.Connection, unit: Unit) -> None:
    """Whatever there is of it; locks events for a moment."""
    for name, _ in unit.triggers:
        for _, what, _ in _FIRED_BY:
            await connection.execute(
                f"drop trigger if exists next_{name}_{what} on normalizer.events"
            )
    await connection.execute("drop schema if exists projector_next cascade")
    await connection.execute("delete from projector.rebuild")


async def swap(connection: asyncpg.Connection, unit: Unit) -> None:
    """Live tables and shadow tables change places, under every view; twice is as before.

    Views are locked before tables, as readers do. Who reads several in one transaction may still
    stand against it: so it is one statement, which gives up long before that reader is told of a
    deadlock, and raises QueryCanceledError.
    """
    await connection.execute("set local search_path = pg_catalog")
    views = await connection.fetch(_VIEWS_OF, ["projector", "projector_next"], list(unit.tables))
    ways = [
        ("projector", "projector_swap"),
        ("projector_next", "projector"),
        ("projector_swap", "projector_next"),
    ]
    moves = [
        f"alter table {schema}.{table} set schema {into};"
        for table in unit.tables
        for schema, into in ways
    ]
    # That changes nothing, but locks a view alone: "lock table" would lock its tables with it.
    locks = [f"alter view {view['name']} owner to {view['owner']};" for view in views]
    # A view knows its tables by number: said again, it finds them by name.
    said_again = [f"create or replace view {view['name']} as {view['text']}" for view in views]
    steps = [
        "create schema projector_swap;",
        *locks,
        *moves,
        "drop schema projector_swap;",
        *said_again,
    ]
    await connection.execute(f"set local statement_timeout = {SWAP_MS}")
    await connection.execute("do $swap$ begin " + "\n".join(steps) + " end $swap$")


def in_shadow(text: str, unit: Unit) -> str:
    """SQL that speaks of the unit's tables, speaking of those of its shadow."""
    for table in unit.tables + unit.views:
        text = re.sub(
            rf"(?<![\w.])(?:projector\.)?{table}\b(?!\.)", f"projector_next.{table}", text
        )
    return text


def shadowed(text: str, function: str, *, gated: bool) -> str:
    """The text that makes the function, for the shadow."""
    text = text.replace(
        f"FUNCTION projector.{function}(", f"FUNCTION projector_next.{function}(", 1
    )
    text, count = re.subn(
        r"SET search_path TO 'pg_catalog', 'projector', 'pg_temp'",
        "SET search_path TO 'pg_catalog', 'projector_next', 'projector', 'pg_temp'",
        text,
    )
    if count != 1:
        message = f"{function} has no search_path of ours"
        raise ValueError(message)
    text = text.replace("normalizer.events", "projector_next.events")
    if not gated:
        return text
    text = re.sub(
        r"\bfrom(\s+)before\b",
        rf"from\1(select * from before where {_FOLDED}) as before",  # noqa: S608 - text of our own
        text,
    )
    text = re.sub(
        r"\bfrom(\s+)after\b",
        rf"from\1(select * from after where tg_op = 'INSERT' or {_FOLDED}) as after",  # noqa: S608 - the same
        text,
    )
    return re.sub(r"^begin$", lambda found: found[0] + _ENTRANCE, text, count=1, flags=re.MULTILINE)


async def _copy_table(connection: asyncpg.Connection, table: str) -> None:
    """The same columns, constraints and indexes, by the same names."""
    await connection.execute(
        f"create table projector_next.{table} "
        f"(like projector.{table} including all excluding indexes excluding constraints)"
    )
    options = await connection.fetchval(_OPTIONS, f"projector.{table}")
    if options:
        await connection.execute(f"alter table projector_next.{table} set ({options})")
    for row in await connection.fetch(_CONSTRAINTS, f"projector.{table}"):
        await connection.execute(
            f"alter table projector_next.{table} add constraint {row['name']} {row['text']}"
        )
    for row in await connection.fetch(_INDEXES, f"projector.{table}"):
        text = row["text"].replace(f" ON projector.{table} ", f" ON projector_next.{table} ", 1)
        await connection.execute(text)


_FIRED_BY: Final = (
    ("insert", "inserted", "new table as after"),
    ("update", "updated", "old table as before new table as after"),
    ("delete", "deleted", "old table as before"),
)

_STATE_TABLES: Final = """
    create table projector_next.cut (batch_id bigint not null, frontier bigint not null);

    create table projector_next.fed_early (
        fed_id bigint not null,
        constraint fed_early_pkey primary key (fed_id)
    );
"""

_FUNCTION: Final = "select pg_get_functiondef($1::text::regproc)"

_VIEW: Final = "select pg_get_viewdef($1::text::regclass)"

_OPTIONS: Final = """
    select array_to_string(reloptions, ', ') from pg_class where oid = $1::text::regclass
"""

_CONSTRAINTS: Final = """
    select   quote_ident(conname) as name, pg_get_constraintdef(oid) as text
    from     pg_constraint
    where    conrelid = $1::text::regclass
    and      contype in ('p', 'c', 'u')
    order by contype desc, conname
"""

_INDEXES: Final = """
    select   pg_get_indexdef(indexrelid) as text
    from     pg_index
    where    indrelid = $1::text::regclass
    and      not exists (select from pg_constraint where conindid = indexrelid)
    order by indexrelid
"""

_VIEWS_OF: Final = """
    select   distinct format('%I.%I', schema.nspname, view.relname) as name,
             pg_get_viewdef(view.oid) as text,
             quote_ident(pg_get_userbyid(view.relowner)) as owner
    from     pg_class     as known
    join     pg_namespace as home    on home.oid = known.relnamespace
    join     pg_depend    as needed  on needed.refobjid = known.oid
                                    and needed.classid = 'pg_rewrite'::regclass
    join     pg_rewrite   as rule    on rule.oid = needed.objid
    join     pg_class     as view    on view.oid = rule.ev_class and view.relkind = 'v'
    join     pg_namespace as schema  on schema.oid = view.relnamespace
    where    home.nspname = any($1::text[])
    and      known.relname = any($2::text[])
    order by name
"""
