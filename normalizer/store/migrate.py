"""Applies the migrations: brings a database to the newest version.

dbmate applies the files in order, each in a transaction, under an advisory lock. Every file records
itself in `migrations.applied`, so a file that a DBA ran by hand (`psql -1 -f`) counts as applied.
Their checksums are stored too: a file that was edited after it was applied is an error.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Final, Literal

import asyncpg
import msgspec

from normalizer.database import connect
from normalizer.errors import ConfigurationError, StoreUnavailable
from normalizer.store.dbmate import MigrationFailed, dbmate_url, run_dbmate
from normalizer.store.sqlstate import FOREIGN_ERRORS, translated

FOLDER: Final = Path(__file__).parents[1] / "migrations"
"""A link to the top level's migrations/ in a checkout, a folder of files in an installed wheel."""

REMEDY: Final = (
    "This database has the schema of a version that was never released: drop and recreate it "
    "(`make clean` does that for the one of `make run`), then `normalizer migrate`"
)

_LOCK_KEY: Final = 5_203_947_410_801
_LOCK_POLL_S: Final = 0.2


class SchemaMismatch(MigrationFailed):
    """Other files than these made the database: a version that was never released."""


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """One file of migrations/."""

    version: str
    name: str
    checksum: str


class MigrationStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A migration and its state. `unknown`: applied, but newer than this program."""

    version: str
    name: str
    state: Literal["applied", "pending", "edited", "unknown"]
    applied_at: datetime | None = None
    applied_by: str | None = None


class _Applied(msgspec.Struct, frozen=True, kw_only=True):
    version: str
    name: str | None
    checksum: str | None
    applied_at: datetime
    applied_by: str


async def migrate(
    database_url: str, *, folder: Path = FOLDER, report: Callable[[str], None] = print
) -> tuple[str, ...]:
    """Apply the pending files; their names in order, none if the database was up to date.

    Waits for another migration to end. Raises MigrationFailed, StoreUnavailable.
    """
    files = read_migrations(folder)
    async with _connected(database_url) as connection, _locked(connection, report):
        await _reconcile(connection)
        applied = await _read_applied(connection)
        _refuse_edited(files, applied)
        pending = tuple(file.name for file in files if file.version not in applied)
        if pending:
            url = await dbmate_url(connection, database_url)
            try:
                output = await run_dbmate(url, folder)
            except OSError as error:
                raise MigrationFailed(f"dbmate could not be run: {error}") from error
            for line in output:
                report(line)
            await _reconcile(connection)
        await _note_checksums(connection, files)
    return pending


async def read_status(database_url: str, *, folder: Path = FOLDER) -> tuple[MigrationStatus, ...]:
    """The state of every migration in the folder or the database, in order. Writes nothing."""
    files = {file.version: file for file in read_migrations(folder)}
    async with _connected(database_url) as connection:
        applied = await _read_applied(connection)
    return tuple(
        _status(version, files.get(version), applied.get(version))
        for version in sorted(files.keys() | applied.keys())
    )


def read_migrations(folder: Path = FOLDER) -> tuple[Migration, ...]:
    """The files in order of their version, the digits before the first underscore."""
    paths = sorted(folder.glob("[0-9]*_*.sql"))
    if not paths:
        raise ConfigurationError(f"no migrations in {folder}")
    return tuple(
        Migration(
            version=path.name.partition("_")[0],
            name=path.stem,
            checksum=hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in paths
    )


def _status(version: str, file: Migration | None, row: _Applied | None) -> MigrationStatus:
    name = file.name if file is not None else (row.name if row is not None else None) or version
    if row is None:
        return MigrationStatus(version=version, name=name, state="pending")
    state: Literal["applied", "edited", "unknown"] = "applied"
    if file is None:
        state = "unknown"
    elif row.checksum is not None and row.checksum != file.checksum:
        state = "edited"
    return MigrationStatus(
        version=version,
        name=name,
        state=state,
        applied_at=row.applied_at,
        applied_by=row.applied_by,
    )


async def refuse_edited(connection: "asyncpg.Connection") -> None:
    """Raise SchemaMismatch if a file was edited after it was applied here."""
    _refuse_edited(_files(), await _read_applied(connection))


@cache
def _files() -> tuple[Migration, ...]:
    return read_migrations()


def _refuse_edited(files: tuple[Migration, ...], applied: Mapping[str, _Applied]) -> None:
    edited = [
        status.name
        for file in files
        if (status := _status(file.version, file, applied.get(file.version))).state == "edited"
    ]
    if edited:
        raise SchemaMismatch(f"edited after it was applied: {', '.join(edited)}. {REMEDY}")


@asynccontextmanager
async def _connected(database_url: str) -> AsyncIterator["asyncpg.Connection"]:
    try:
        connection = await connect(database_url, application_name="normalizer migrate")
    except (OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError) as error:
        raise StoreUnavailable(f"no connection to the database: {error}") from error
    except asyncpg.PostgresError as error:
        raise translated(error) from error
    except (asyncpg.InterfaceError, ValueError) as error:
        raise ConfigurationError(f"the database refuses the connection: {error}") from error
    try:
        yield connection
    except asyncpg.InsufficientPrivilegeError as error:
        raise MigrationFailed(
            "this user may not migrate: DATABASE_URL must name the owner of the database"
        ) from error
    except BrokenPipeError:
        raise  # the reader of our output is gone
    except FOREIGN_ERRORS as error:
        raise translated(error) from error
    finally:
        await connection.close()


@asynccontextmanager
async def _locked(
    connection: "asyncpg.Connection", report: Callable[[str], None]
) -> AsyncIterator[None]:
    """Acquire the lock by polling.

    Waiting inside one statement would hold a snapshot open, and `create index concurrently` in the
    other migration would wait for that snapshot.
    """
    is_reported = False
    while not await connection.fetchval("select pg_try_advisory_lock($1)", _LOCK_KEY):
        if not is_reported:
            report("another migration is running on this database: waiting for it")
            is_reported = True
        await asyncio.sleep(_LOCK_POLL_S)
    yield


async def _reconcile(connection: "asyncpg.Connection") -> None:
    """Copy what is missing between the list of dbmate and ours.

    dbmate does not know the files that were run by hand, and a file that cannot run in a
    transaction (`create index concurrently`) does not record itself.
    """
    if await connection.fetchval("select to_regclass('migrations.applied')") is not None:
        await connection.execute(
            """
            insert into migrations.schema_migrations (version)
            select      version
            from        migrations.applied
            on conflict do nothing;

            insert into migrations.applied (version)
            select      version
            from        migrations.schema_migrations
            on conflict do nothing;
            """
        )


async def _read_applied(connection: "asyncpg.Connection") -> dict[str, _Applied]:
    """The applied files by version; empty if none was ever applied."""
    if await connection.fetchval("select to_regclass('migrations.applied')") is None:
        return {}
    rows = await connection.fetch(
        """
        select   version, name, checksum, applied_at, applied_by
        from     migrations.applied
        order by version
        """
    )
    return {row["version"]: msgspec.convert(dict(row), _Applied) for row in rows}


async def _note_checksums(connection: "asyncpg.Connection", files: tuple[Migration, ...]) -> None:
    """Store the checksums of files that were applied without one, by dbmate or by hand."""
    await connection.execute(
        """
        update migrations.applied
        set    name     = file.name,
               checksum = file.checksum
        from   unnest($1::text[], $2::text[], $3::text[]) as file (version, name, checksum)
        where  applied.version = file.version
        and    applied.checksum is null
        """,
        [file.version for file in files],
        [file.name for file in files],
        [file.checksum for file in files],
    )
