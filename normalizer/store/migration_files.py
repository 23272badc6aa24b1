"""The files in migrations/, and the state of each in a database.

A file named NNNN_WORDS.sql is a version, which is applied once and never edited. The files in
functions/ and views/ are repeatable. Each creates the function or view that it's named after, and
is applied again whenever its text changes.

A function that an index, a constraint, or a column's default uses is in a version instead. For
example, the index calls_by_begin stores results of to_hour, and a new body wouldn't update them.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from normalizer.errors import ConfigurationError
from normalizer.runtime.version import VERSION

MIGRATIONS_FOLDER: Final = Path(__file__).parents[1] / "migrations"
"""In a checkout, a link to migrations/ at the top level. In an installed wheel, a folder."""

PROGRAM_RELEASE: Final = ".".join(re.findall(r"\d+", VERSION)[:3])
"""The release of this program, such as 0.1.0. A release candidate has the same number."""

MigrationState = Literal["applied", "pending", "edited", "by hand", "unknown"]

_NOT_CODE: Final = re.compile(r"--[^\n]*|'(?:[^']|'')*'")
_WORD: Final = re.compile(r"\w+")
_QUALIFIED: Final = re.compile(r"\w+\.\w+")
_VIEW: Final = re.compile(r"^create or replace view (\S+) as$", re.MULTILINE)


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """One file of migrations/."""

    version: str
    name: str
    checksum: str
    text: str

    @property
    def is_repeatable(self) -> bool:
        """Return whether the file is applied again when its text changes."""
        return "/" in self.version

    @property
    def created_view(self) -> str | None:
        """Return the name of the view that the file creates, with its schema, or None."""
        found = _VIEW.search(self.text) if self.version.startswith("views/") else None
        return found and found[1]


class MigrationFileStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A migration file and its state in a database.

    - applied: the database has this file.
    - pending: the file isn't applied yet, or it's a function or view whose text has changed.
    - edited: the file was edited after it was applied.
    - by hand: it was applied without a checksum, so not by our programs or their script.
    - unknown: it was applied by a newer release than this one.
    """

    version: str
    name: str
    state: MigrationState
    applied_at: datetime | None = None
    applied_by: str | None = None


class AppliedMigration(msgspec.Struct, frozen=True, kw_only=True):
    """A row of migrations.applied. It has no checksum if somebody applied the file by hand."""

    version: str
    name: str | None
    checksum: str | None
    release: str | None
    applied_at: datetime
    applied_by: str


APPLIED_MIGRATIONS_SQL: Final = """
    select   version, name, checksum, release, applied_at, applied_by
    from     migrations.applied
    order by version
"""


def index_applied_by_version(rows: Iterable[Any]) -> dict[str, AppliedMigration]:
    """Return the rows of APPLIED_MIGRATIONS_SQL by version."""
    return {row["version"]: msgspec.convert(dict(row), AppliedMigration) for row in rows}


def read_migrations(folder: Path = MIGRATIONS_FOLDER) -> tuple[Migration, ...]:
    """Read the files, in the order in which they must be applied.

    Versions come first, sorted by the number in their name. Functions and views follow, each after
    those that it uses.
    """
    versions = sorted(folder.glob("[0-9]*_*.sql"))
    if not versions:
        raise ConfigurationError(
            f"the folder {folder} has no migrations, so nothing can be applied"
        )
    repeatable = {
        file.version: file
        for kind in ("functions", "views")
        for path in sorted((folder / kind).glob("*.sql"))
        for file in [_read(path, f"{kind}/{path.stem}")]
    }
    order = TopologicalSorter(_needs(repeatable)).static_order()
    return (
        *(_read(path, path.name.partition("_")[0]) for path in versions),
        *(repeatable[version] for version in order),
    )


def _read(path: Path, version: str) -> Migration:
    return Migration(
        version=version,
        name=version if "/" in version else path.stem,
        checksum=hashlib.sha256(path.read_bytes()).hexdigest(),
        text=path.read_text(),
    )


def _needs(files: Mapping[str, Migration]) -> dict[str, list[str]]:
    """Return, for each file, the other files whose functions and views it uses.

    A file uses whatever is named in its SQL. A view counts only if it's named with its schema,
    because its bare name may be a word with another meaning.
    """
    views = {file.created_view: version for version, file in files.items() if file.created_view}
    needs: dict[str, list[str]] = {}
    for version, file in files.items():
        code = _NOT_CODE.sub("", file.text)
        named = {f"functions/{word}" for word in _WORD.findall(code)} & files.keys()
        named |= {views[name] for name in _QUALIFIED.findall(code) if name in views}
        needs[version] = sorted(named - {version})
    return needs


def migration_status(
    version: str, file: Migration | None, row: AppliedMigration | None
) -> MigrationFileStatus:
    """Compare a file with the database's row for its version. One of the two may be None."""
    name = file.name if file is not None else (row.name if row is not None else None) or version
    if row is None:
        return MigrationFileStatus(version=version, name=name, state="pending")
    return MigrationFileStatus(
        version=version,
        name=name,
        state=_applied_state(file, row),
        applied_at=row.applied_at,
        applied_by=row.applied_by,
    )


def _applied_state(file: Migration | None, row: AppliedMigration) -> MigrationState:
    if file is None:
        return "unknown"
    if row.checksum == file.checksum:
        return "applied"
    if file.is_repeatable:
        return "unknown" if _numbers(row.release) > _numbers(PROGRAM_RELEASE) else "pending"
    return "edited" if row.checksum is not None else "by hand"


def _numbers(release: str | None) -> list[int]:
    return [int(number) for number in (release or "0").split(".")]


def migration_statuses(
    files: Iterable[Migration], applied: Mapping[str, AppliedMigration]
) -> list[MigrationFileStatus]:
    """Return the state of each of these files."""
    return [migration_status(file.version, file, applied.get(file.version)) for file in files]


def join_migration_names_in_state(
    statuses: Iterable[MigrationFileStatus], state: MigrationState
) -> str:
    """Return the names of the migrations in this state, comma-separated."""
    return ", ".join(one.name for one in statuses if one.state == state)
