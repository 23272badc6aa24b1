"""docs/operations.md, Backup: what it says to type gives a database that is whole and goes on."""

import asyncio
import re
from pathlib import Path

from normalizer.cli.ledger import verify as verify_ledger
from normalizer.embedded.postgres import wheel_binaries
from normalizer.service.playback import Playback
from normalizer.store.migrate import read_status
from projector.database import connected
from projector.verify import verify
from projector.windows import Scope
from simulator.mix import Mix
from tests.documents import DOCS
from tests.replays import contents, played, record_lines, settings_of, written
from tests.stack import Cluster, Database


async def _typed(program: str, *arguments: str) -> None:
    child = await asyncio.create_subprocess_exec(
        wheel_binaries() / program,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await child.communicate()
    assert child.returncode == 0, said.decode()


async def test_a_restored_backup_is_whole_and_goes_on(
    database: Database, cluster: Cluster, tmp_path: Path
) -> None:
    lines = record_lines(played(3_000, mix=Mix(poison=0.01))).splitlines(keepends=True)
    first = written(tmp_path / "first.ndjson", b"".join(lines[:2_000]))
    every = written(tmp_path / "every.ndjson", b"".join(lines))
    await Playback(settings_of(database), first).run()
    page = (DOCS / "operations.md").read_text()
    (dumped,) = re.findall(r"^pg_dump (.*?) {2,}\S.*$", page, re.MULTILINE)
    (restored,) = re.findall(r"^pg_restore (.*?) {2,}\S.*$", page, re.MULTILINE)

    async with cluster.empty_database() as other:
        file = tmp_path / "noetl.dump"
        options = {"noetl.dump": str(file), '"$DATABASE_URL"': database.admin_url}
        await _typed("pg_dump", *(options.get(word, word) for word in dumped.split()))
        options['"$DATABASE_URL"'] = other.admin_url
        await _typed("pg_restore", *(options.get(word, word) for word in restored.split()))

        async with connected(database.url) as before, connected(other.url) as after:
            assert await contents(after) == await contents(before)
            async for verdict in verify(after, Scope(kind="all")):
                assert verdict.verdict == "match", str(verdict)
        assert {one.state for one in await read_status(other.url)} == {"applied"}

        await Playback(settings_of(other), every).run()

        assert [one.wrong async for one in verify_ledger(other.url, None) if one.wrong] == []
        async with connected(other.url) as after:
            assert len((await contents(after))["rows"]) > len(lines) * 0.9
            async for verdict in verify(after, Scope(kind="all")):
                assert verdict.verdict == "match", str(verdict)
