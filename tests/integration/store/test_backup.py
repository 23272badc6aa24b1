"""docs/operate/backup.md: what it says to type gives a database that is whole and goes on."""

import asyncio
import re
from pathlib import Path

import asyncpg

from normalizer.cli.ledger_check import verify_ledger
from normalizer.embedded.postgres_server import find_wheel_binaries
from normalizer.store.migrate import read_migration_statuses
from projector.database_session import open_connection
from projector.verify.ranges import VerifyScope
from projector.verify.verify import verify
from simulator.mix import Mix
from tests.support.doc_pages import DOCS
from tests.support.job_runs import (
    backfill_files,
    record_lines,
    simulated_records,
    table_contents,
    write_file,
)
from tests.support.stack import Cluster, Database


async def _typed(program: str, *arguments: str) -> None:
    child = await asyncio.create_subprocess_exec(
        find_wheel_binaries() / program,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await child.communicate()
    assert child.returncode == 0, said.decode()


async def test_a_restored_backup_is_whole_and_goes_on(
    database: Database, cluster: Cluster, tmp_path: Path
) -> None:
    lines = record_lines(simulated_records(1_200, mix=Mix(poison=0.03))).splitlines(keepends=True)
    first = write_file(tmp_path / "first.ndjson", b"".join(lines[:800]))
    every = write_file(tmp_path / "every.ndjson", b"".join(lines))
    await backfill_files(database, first)
    page = (DOCS / "operate" / "backup.md").read_text()
    (dumped,) = re.findall(r"^pg_dump (.*?) {2,}\S.*$", page, re.MULTILINE)
    (restored,) = re.findall(r"^pg_restore (.*?) {2,}\S.*$", page, re.MULTILINE)
    left_out = re.findall(
        r"""^psql "\$DATABASE_URL" --command '(.*)'$""",
        page.partition("\npg_restore ")[2],
        re.MULTILINE,
    )

    async with cluster.empty_database() as other:
        file = tmp_path / "noetl.dump"
        options = {"noetl.dump": str(file), '"$DATABASE_URL"': database.admin_url}
        await _typed("pg_dump", *(options.get(word, word) for word in dumped.split()))
        options['"$DATABASE_URL"'] = other.admin_url
        await _typed("pg_restore", *(options.get(word, word) for word in restored.split()))
        for statement in left_out:
            of_this = re.sub(r"\bdatabase noetl\b", f"database {other.name}", statement)
            await _typed("psql", other.admin_url, "--command", of_this)

        login = await asyncpg.connect(other.url)
        try:
            assert await login.fetchval("select gen_snowflake()") > 0
            assert not await login.fetchval(
                "select has_database_privilege('public', current_database(), 'temporary')"
            )
        finally:
            await login.close()
        async with open_connection(database.url) as before, open_connection(other.url) as after:
            assert await table_contents(after) == await table_contents(before)
            async for verdict in verify(after, VerifyScope()):
                assert verdict.verdict == "match", str(verdict)
        assert {one.state for one in await read_migration_statuses(other.url)} == {"applied"}

        await backfill_files(other, every)

        assert [one.wrong async for one in verify_ledger(other.url, None) if one.wrong] == []
        async with open_connection(other.url) as after:
            assert len((await table_contents(after))["rows"]) > len(lines) * 0.9
            async for verdict in verify(after, VerifyScope()):
                assert verdict.verdict == "match", str(verdict)
