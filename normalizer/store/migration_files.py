"""The files of migrations/, and the state of each in a database."""

import hashlib
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import msgspec

from normalizer.errors import ConfigurationError

FOLDER: Final = Path(__file__).parents[1] / "migrations"
"""A link to the top level's migrations/ in a checkout, a folder of files in an installed wheel."""

MigrationState = Literal["applied", "pending", "edited", "by hand", "unknown"]


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """One file of migrations/."""

    version: str
    name: str
    checksum: str
    text: str


class MigrationStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A migration and its state.

    `unknown` means applied, but newer than this program. `by hand` means without a checksum.
    """

    version: str
    name: str
    state: MigrationState
    applied_at: datetime | None = None
    applied_by: str | None = None


class AppliedMigration(msgspec.Struct, frozen=True, kw_only=True):
    """A database's record of an applied file. It has no checksum if somebody applied it by hand."""

    version: str
    name: str | None
    checksum: str | None
    applied_at: datetime
    applied_by: str


def read_migrations(folder: Path = FOLDER) -> tuple[Migration, ...]:
    """Read the files in order of their version, the digits before the first underscore."""
    paths = sorted(folder.glob("[0-9]*_*.sql"))
    if not paths:
        raise ConfigurationError(f"no migrations in {folder}")
    return tuple(
        Migration(
            version=path.name.partition("_")[0],
            name=path.stem,
            checksum=hashlib.sha256(path.read_bytes()).hexdigest(),
            text=path.read_text(),
        )
        for path in paths
    )


def status_of(
    version: str, file: Migration | None, row: AppliedMigration | None
) -> MigrationStatus:
    """Compare a file with the database's record of its version. One of the two may be missing."""
    name = file.name if file is not None else (row.name if row is not None else None) or version
    if row is None:
        return MigrationStatus(version=version, name=name, state="pending")
    state: MigrationState = "applied"
    if file is None:
        state = "unknown"
    elif row.checksum is None:
        state = "by hand"
    elif row.checksum != file.checksum:
        state = "edited"
    return MigrationStatus(
        version=version,
        name=name,
        state=state,
        applied_at=row.applied_at,
        applied_by=row.applied_by,
    )


def names_in_state(statuses: Iterable[MigrationStatus], state: MigrationState) -> str:
    """Return the names of the migrations in this state, comma-separated."""
    return ", ".join(one.name for one in statuses if one.state == state)
