"""Applies the migrations, which bring a database to the newest version of the schema.

The files are applied in order, each in its own transaction. A lock makes sure that only one process
migrates at a time. While a file waits for the lock of a table, every writer that comes after it has
to wait too. So if it doesn't get the lock within MIGRATION_LOCK_TIMEOUT_S, it's rolled back and
retried after a pause.

The table `migrations.applied` lists the applied files with their checksums. It's an error if a
version was edited after it was applied, or if it has no checksum, because then somebody ran the
file by hand and we don't know which build it came from. A function or a view is applied again when
its text changes, unless a newer release has applied it. A DBA who uses psql runs the script from
psql_script.py instead, which applies the same files and stores the same checksums.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import cache, partial
from pathlib import Path
from typing import Final

import asyncpg

from normalizer.errors import (
    ConfigurationError,
    FatalError,
    StoreUnavailableError,
    pick_error_by_kind_order,
)
from normalizer.postgres.database import closing, connect
from normalizer.store.connect_error import translate_connect_error
from normalizer.store.migration_files import (
    APPLIED_MIGRATIONS_SQL,
    MIGRATIONS_FOLDER,
    AppliedMigration,
    Migration,
    MigrationFileStatus,
    index_applied_by_version,
    join_migration_names_in_state,
    migration_status,
    migration_statuses,
    read_migrations,
)
from normalizer.store.psql_script import (
    MIGRATION_LOCK_KEY,
    MIGRATION_LOCK_TIMEOUT_S,
    sql_to_apply,
    statement_to_record_as_applied,
)
from normalizer.store.session import LOCK_HOLDERS_SQL
from normalizer.store.sqlstate import STATEMENT_ERRORS, translate_error

USE_OTHER_BUILD_REMEDY: Final = (
    "Another build migrated this database. Run that build, the version of your last deployment. "
    "You may drop only a throw-away database (`make clean` drops the one of `make run`)"
)

_PAUSE_BETWEEN_TRIES_S: Final = 5.0
"""The pause between two tries of a file, in which the waiting writers can write."""
_LOOK_EVERY_S: Final = 1.0

_OWNER: Final = "DATABASE_URL must name the owner of the database"
_NO_RIGHT: Final = (asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError)
"""Errors of a user that lacks a right, or whose sessions are read-only."""
USE_PRIMARY_REMEDY: Final = (
    "name the primary in DATABASE_URL, or add ?target_session_attrs=primary if it names several "
    "hosts"
)
APPLIED_BY_HAND_REMEDY: Final = (
    "They may be another build's files, so run the build that they came with. Fill a new database "
    "with `normalizer migrate`, or have a DBA run the script from `normalizer migrate --print`"
)
# Query pg_tables, because to_regclass could miss the table. A session may look for the table before
# it exists, and then wait for the migration lock while another session creates it. After such a
# wait, to_regclass would still not find the table.
_IS_RECORDED: Final = """
    select exists (
        select from pg_tables where schemaname = 'migrations' and tablename = 'applied'
    )
"""
# A role's statement_timeout is meant for queries. A migration takes as long as it needs.
_SESSION: Final = {"statement_timeout": "0"}


class MigrationFailedError(FatalError):
    """A file couldn't be applied, or differs from the applied one. Nothing was changed."""


class SchemaMismatchError(MigrationFailedError):
    """Another build, with other files, has migrated the database."""


async def migrate(
    database_url: str, *, folder: Path = MIGRATIONS_FOLDER, report: Callable[[str], None] = print
) -> tuple[str, ...]:
    """Apply the pending files, and return their names in order.

    If another process is migrating, this waits for it to finish. It also waits for each table lock
    that a file needs. The result is empty if no file was pending. Raises MigrationFailedError and
    StoreUnavailableError.
    """
    files = read_migrations(folder)
    applied = []
    report_once = cache(report)
    async with _connected(database_url) as connection:
        if await connection.fetchval("select pg_is_in_recovery()"):
            raise MigrationFailedError(
                "this server is a standby, so it is read-only", remedy=USE_PRIMARY_REMEDY
            )
        connection.add_log_listener(lambda _, notice: report(f"  {notice.message}"))
        watch = partial(_report_holders, database_url, report=report_once)
        # Read the list again after each file, because dropping a view makes other files pending.
        while pending := _pending(files, await _read_applied(connection)):
            file = pending[0]
            if await _apply_unlocked(connection, files, file, watch, report_once):
                applied.append(file.name)
                report(f"applied {file.name}")
    return tuple(applied)


async def read_migration_statuses(
    database_url: str, *, folder: Path = MIGRATIONS_FOLDER
) -> tuple[MigrationFileStatus, ...]:
    """Return the state of every migration in the folder or in the database, in order."""
    files = {file.version: file for file in read_migrations(folder)}
    async with _connected(database_url) as connection:
        applied = await _read_applied(connection)
    return tuple(
        migration_status(version, files.get(version), applied.get(version))
        for version in sorted(files.keys() | applied.keys())
    )


async def check_applied_migrations(connection: asyncpg.Connection) -> None:
    """Raise SchemaMismatchError unless these files are the ones that were applied here."""
    _reject_other_files(_files(), await _read_applied(connection))


@cache
def _files() -> tuple[Migration, ...]:
    return read_migrations()


def _reject_other_files(
    files: tuple[Migration, ...], applied: Mapping[str, AppliedMigration]
) -> None:
    states = migration_statuses(files, applied)
    if edited := join_migration_names_in_state(states, "edited"):
        raise SchemaMismatchError(
            f"these migrations were edited after they were applied: {edited}. "
            f"{USE_OTHER_BUILD_REMEDY}"
        )
    if by_hand := join_migration_names_in_state(states, "by hand"):
        raise SchemaMismatchError(
            f"these migrations were applied by hand, without a checksum: {by_hand}. "
            f"{APPLIED_BY_HAND_REMEDY}"
        )


def _pending(
    files: tuple[Migration, ...], applied: Mapping[str, AppliedMigration]
) -> list[Migration]:
    """Return the files to apply.

    Raises SchemaMismatchError if another build migrated the database.
    """
    _reject_other_files(files, applied)
    return [
        file
        for file, status in zip(files, migration_statuses(files, applied), strict=True)
        if status.state == "pending"
    ]


@asynccontextmanager
async def _connected(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    try:
        connection = await connect(
            database_url, application_name="normalizer migrate", session=_SESSION
        )
    except (OSError, asyncpg.PostgresError) as error:
        raise translate_connect_error(error, database_url) from error
    except (asyncpg.InterfaceError, ValueError) as error:
        raise ConfigurationError(f"the connection to the database failed: {error}") from error
    try:
        async with closing(connection):
            yield connection
    except _NO_RIGHT as error:
        raise MigrationFailedError(
            "the user of DATABASE_URL may not migrate the database", remedy=_OWNER
        ) from error
    except BrokenPipeError:
        raise  # nobody reads our output any more
    except STATEMENT_ERRORS as error:
        raise translate_error(error) from error


async def _lock(connection: asyncpg.Connection, report: Callable[[str], None]) -> None:
    """Take the lock for this transaction, so that only one process checks and applies a file."""
    if not await connection.fetchval("select pg_try_advisory_xact_lock($1)", MIGRATION_LOCK_KEY):
        report("another migration is running on this database, waiting for it")
        await connection.execute(f"select pg_advisory_xact_lock({MIGRATION_LOCK_KEY})")


async def _apply_unlocked(
    connection: asyncpg.Connection,
    files: tuple[Migration, ...],
    file: Migration,
    watch: Callable[[int], Coroutine[None, None, None]],
    report: Callable[[str], None],
) -> bool:
    """Apply the file, and retry while another session holds a lock that it needs.

    `watch` runs beside each try, and reports who holds the lock that this server process waits for.
    Returns False if another process applied it first.
    """
    while True:
        try:
            async with asyncio.TaskGroup() as tasks, connection.transaction():
                await _lock(connection, report)
                await connection.execute(f"set local lock_timeout = '{MIGRATION_LOCK_TIMEOUT_S}s'")
                watching = tasks.create_task(
                    watch(connection.get_server_pid()), name="lock holders"
                )
                is_new = await _apply(connection, files, file)
                watching.cancel()
        except BaseExceptionGroup as errors:
            error = pick_error_by_kind_order(errors)
            if not isinstance(error, asyncpg.LockNotAvailableError):
                raise error from errors
            report(f"{file.name} gave way to the writers behind it, and will retry in some seconds")
            await asyncio.sleep(_PAUSE_BETWEEN_TRIES_S)
        else:
            return is_new


async def _report_holders(database_url: str, pid: int, *, report: Callable[[str], None]) -> None:
    """Report every second who holds the lock that this server process waits for.

    It runs until it's cancelled.
    """
    while True:
        await asyncio.sleep(_LOOK_EVERY_S)
        with contextlib.suppress(StoreUnavailableError):
            async with _connected(database_url) as connection:
                for row in await connection.fetch(LOCK_HOLDERS_SQL, [pid]):
                    report(f"waiting for a lock held by {row['holders']}")


async def _apply(
    connection: asyncpg.Connection, files: tuple[Migration, ...], file: Migration
) -> bool:
    """Apply the file and record it. Returns False if another process has done so."""
    if file not in _pending(files, await _read_applied(connection)):
        return False
    try:
        await connection.execute(sql_to_apply(file))
    except asyncpg.LockNotAvailableError:
        raise
    except asyncpg.PostgresError as error:
        raise MigrationFailedError(
            f"a migration failed and was rolled back: {file.name}, {_place(file, error)}"
        ) from error
    await connection.execute(statement_to_record_as_applied(file))
    return True


async def _read_applied(connection: asyncpg.Connection) -> dict[str, AppliedMigration]:
    """Return the applied files by version, or {} if none was ever applied."""
    if not await connection.fetchval(_IS_RECORDED):
        return {}
    try:
        return index_applied_by_version(await connection.fetch(APPLIED_MIGRATIONS_SQL))
    except asyncpg.UndefinedColumnError as error:
        raise SchemaMismatchError(
            f"the table migrations.applied lacks a column. {USE_OTHER_BUILD_REMEDY}"
        ) from error


def _place(file: Migration, error: asyncpg.PostgresError) -> str:
    """Return the server's message, with the line of the failed statement if the server names it."""
    said = f"SQLSTATE {error.sqlstate}: {error.args[0] if error.args else ''}"
    if isinstance(error, _NO_RIGHT):
        said = f"{said}; {error.hint or _OWNER}"
    elif isinstance(error, asyncpg.DependentObjectsStillExistError):
        said = f"{said}: {'; '.join(error.detail.splitlines())}. {error.hint}"
    position = error.position
    if error.internal_query == file.text:
        position = error.internal_position
    if position is None:
        return said
    line = file.text.count("\n", 0, int(position) - 1) + 1
    return f"line {line}, {said}"
