"""Things that a reader's or writer's login may not do, by the catalog and the server."""

import contextlib
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.integration.jobs.test_redrive import as_user
from tests.support.stack import Database
from tests.support.table_rows import connected

pytestmark = pytest.mark.every_postgres(oldest_in_soak=True)

OURS = "('normalizer', 'projector')"


async def queried_names(database: Database, query: str) -> list[str]:
    async with connected(database) as connection:
        return [row[0] for row in await connection.fetch(query)]


@contextlib.asynccontextmanager
async def session_as(database: Database, role: str) -> AsyncIterator[asyncpg.Connection]:
    """A login that has this role and no other."""
    async with as_user(database, role) as seen:
        connection = await asyncpg.connect(seen.url)
        try:
            yield connection
        finally:
            await connection.close()


async def test_security_definer_functions_search_temporary_schemas_last(
    database: Database,
) -> None:
    """Not named, they come first: a caller's own object would be used with the owner's rights."""
    paths = await queried_names(
        database,
        f"""
        select coalesce(array_to_string(proconfig, '; '), '') from pg_proc
        where  prosecdef and pronamespace::regnamespace::text in {OURS}
        """,
    )

    assert len(paths) >= 10
    assert [path for path in paths if "pg_temp" not in path] == []
    for path in paths:
        (names,) = [one for one in path.split("; ") if one.startswith("search_path=")]
        assert names.startswith("search_path=pg_catalog,")
        assert names.endswith(", pg_temp")


async def test_nobody_was_not_granted_what_writes(database: Database) -> None:
    open_to_all = await queried_names(
        database,
        f"""
        select oid::regprocedure::text from pg_proc
        where  pronamespace::regnamespace::text in {OURS} and provolatile = 'v'
        and    prokind in ('f', 'p')
        and    (proacl is null or exists (
                   select from aclexplode(proacl) where grantee = 0 and privilege_type = 'EXECUTE'
               ))
        """,
    )

    assert open_to_all == []


async def test_a_writer_acts_for_the_owner_only_to_mint_ids_and_sets_no_sequence(
    database: Database,
) -> None:
    may = await queried_names(
        database,
        f"""
        select oid::regprocedure::text from pg_proc
        where  pronamespace::regnamespace::text in {OURS} and (prosecdef or provolatile = 'v')
        and    has_function_privilege('normalizer_writer', oid, 'execute')
        union all
        select seqrelid::regclass::text from pg_sequence
        join   pg_class on pg_class.oid = seqrelid
        where  relnamespace::regnamespace::text in {OURS}
        and    has_sequence_privilege('normalizer_writer', seqrelid, 'update')
        """,
    )

    assert may == ["gen_snowflake()"]


async def test_a_reader_has_no_right_to_a_table_and_nobody_may_make_one(
    database: Database,
) -> None:
    rights = await queried_names(
        database,
        f"""
        select relation.oid::regclass || ' ' || wanted
        from   pg_class as relation
        cross join unnest(array[
                   'select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger'
               ]) as wanted
        cross join unnest(array['projector_reader', 'public']) as role
        where  relation.relnamespace::regnamespace::text in {OURS}
        and    (relation.relkind = 'r' or relation.relkind = 'v' and wanted <> 'select')
        and    has_table_privilege(role, relation.oid, wanted)
        union all
        select relation.oid::regclass || ' ' || wanted
        from   pg_class as relation
        cross join unnest(array['usage', 'select', 'update']) as wanted
        cross join unnest(array['projector_reader', 'public']) as role
        where  relation.relnamespace::regnamespace::text in {OURS}
        and    relation.relkind = 'S'
        and    has_sequence_privilege(role, relation.oid, wanted)
        union all
        select schema.nspname || ' create'
        from   pg_namespace as schema
        cross join unnest(array['projector_reader', 'normalizer_writer', 'public']) as role
        where  has_schema_privilege(role, schema.oid, 'create')
        """,
    )

    assert rights == []


async def test_a_writer_cannot_set_the_clock_of_ids(database: Database) -> None:
    async with session_as(database, "normalizer_writer") as writer:
        before = await writer.fetchval("select normalizer.gen_snowflake()")
        for attempt in (
            "select normalizer.snowflake_at(99999999999999)",
            "select setval('normalizer.snowflake_clock', 0)",
            "select nextval('normalizer.snowflake_clock')",
            "alter sequence normalizer.snowflake_clock restart",
            "begin; lock table normalizer.layout in share mode; commit",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await writer.execute(attempt)
            await writer.execute("rollback")
        after = await writer.fetchval("select normalizer.gen_snowflake()")

    assert 0 < after - before < 600_000 << 22


async def test_no_lock_that_a_reader_can_take_stops_a_writer(database: Database) -> None:
    """The reader holds advisory keys that writers once waited for, and whatever else it can."""
    async with (
        session_as(database, "projector_reader") as reader,
        session_as(database, "normalizer_writer") as writer,
        connected(database) as watching,
    ):
        held = reader.transaction()
        await held.start()
        await reader.execute(
            """
            select pg_advisory_xact_lock(key)
            from   unnest(array[5203947410812, 5203947410813]) as key;
            select pg_advisory_xact_lock(520394741, shard) from generate_series(0, 63) as shard;
            """
        )
        locked = await everything_lockable(reader)
        assert locked["view"] > 20
        assert locked["table"] == 0

        await writer.execute("set lock_timeout = '5s'; set statement_timeout = '10s'")
        writing = writer.transaction()
        await writing.start()
        await writer.execute(
            """
            insert into normalizer.events (execution_id, event_type, status, command_id)
            values (1, 'playbook.started', 'STARTED', null), (1, 'call.done', 'FAILED', '1:a:2');
            update normalizer.events set status = 'COMPLETED';
            """
        )
        advisory = await watching.fetchval(
            "select count(*) from pg_locks where locktype = 'advisory' and pid = $1",
            writer.get_server_pid(),
        )
        await writing.commit()
        await held.rollback()

    assert advisory == 0


async def everything_lockable(reader: asyncpg.Connection) -> dict[str, int]:
    """Lock all that the server allows, in the strongest mode. Returns the number of locks."""
    locked = {"view": 0, "table": 0}
    relations = await reader.fetch(
        f"""
        select oid::regclass::text as name, relkind from pg_class
        where  relnamespace::regnamespace::text in {OURS} and relkind in ('r', 'v')
        """
    )
    for relation in relations:
        for mode in ("access exclusive", "exclusive", "share", "row share", "access share"):
            try:
                async with reader.transaction():
                    await reader.execute(f"lock table {relation['name']} in {mode} mode")
            except asyncpg.InsufficientPrivilegeError:
                continue
            locked["view" if relation["relkind"] == b"v" else "table"] += 1
            break
    return locked
