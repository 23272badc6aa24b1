"""The generated file migrations/schema.sql: `python -m tests.support.schema_dump` writes it.

It shows the schema that all migrations together create: tables, columns, indexes, views, triggers
and grants, with their comments. It is for reading: instead of the body of a function, a line names
the migration that has it.
"""

import asyncio
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from normalizer.embedded import PostgresServer
from normalizer.store.migrate import migrate
from normalizer.store.migration_files import FOLDER

SCHEMA_FILE: Final = Path(__file__).parents[2] / "migrations" / "schema.sql"

_HEADER: Final = """\
-- The schema that the migrations in this folder create, as pg_dump shows it. For reading only: the
-- bodies of functions are in the migrations.
-- Generated: python -m tests.support.schema_dump
--
-- Tables, each at `CREATE TABLE name`:
"""
_ENTRY: Final = re.compile(
    r"^--\n-- Name: (?P<name>.+); Type: (?P<type>[A-Z ]+); Schema: .*\n--\n\n", re.MULTILINE
)
_BODY: Final = re.compile(
    r"^    (?:AS (?P<quote>\$_?\$)\n.*?^(?P=quote)|BEGIN ATOMIC\n.*?^END);$",
    re.MULTILINE | re.DOTALL,
)
_NOT_NULL_NAME: Final = re.compile(r" CONSTRAINT \w+_not_null NOT NULL")


def dump_schema(database_url: str, bin_dir: Path) -> str:
    """The text of schema.sql for a migrated database. `bin_dir` has the server's own pg_dump."""
    dumped = subprocess.run(
        [
            bin_dir / "pg_dump",
            "--schema-only",
            "--no-owner",
            database_url,
        ],
        capture_output=True,
        check=True,
        text=True,
    )
    schema = "".join(_cleaned(dumped.stdout)).rstrip()
    tables = re.findall(r"^CREATE TABLE (\S+)", schema, re.MULTILINE)
    listed = "".join(f"--     {name}\n" for name in tables)
    return f"{_HEADER}{listed}\n{schema}\n"


def _cleaned(dump: str) -> Iterator[str]:
    """The entries of a dump, without headers and without partitions being attached."""
    _, *entries = _ENTRY.split(dump)
    previous = ""
    for name, kind, text in zip(entries[::3], entries[1::3], entries[2::3], strict=True):
        if kind in {"TABLE ATTACH", "INDEX ATTACH"}:
            continue
        statement = text.split("\n--\n-- PostgreSQL database dump complete")[0].strip()
        if kind == "FUNCTION":
            statement = _BODY.sub(lambda _, name=name: _source_of(name), statement)
        elif kind == "TABLE":
            statement = _NOT_NULL_NAME.sub(" NOT NULL", statement)
        together = kind == previous and kind in {"COMMENT", "ACL"}
        yield ("" if together or kind == "COMMENT" else "\n") + statement + "\n"
        previous = kind


def _source_of(name: str) -> str:
    """A comment that names the migration which creates this function."""
    called = name.partition("(")[0]
    (found,) = (
        path.name
        for path in FOLDER.glob("[0-9]*_*.sql")
        if re.search(rf"create function \w+\.{called}\(", path.read_text())
    )
    return f"    ; -- body: {found}"


async def _write() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)  # as root, the database's user must get in
        async with PostgresServer(Path(folder) / "postgres", durable=False) as server:
            url = await server.create_database("schema")
            await migrate(url, report=lambda _: None)
            SCHEMA_FILE.write_text(dump_schema(url, server.bin_dir))


if __name__ == "__main__":
    asyncio.run(_write())
