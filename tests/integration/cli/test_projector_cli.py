"""`projector` on a real database."""

import asyncio
import os
import signal
import sys
from typing import Final

import asyncpg
import pytest

from projector.cli import main
from tests.integration.jobs.test_redrive import as_user
from tests.support import view_rows
from tests.support.commands import invoked, run_program
from tests.support.stack import Database
from tests.support.table_rows import claimed, connected, insert_row, open_store
from tests.support.view_rows import event


async def projector(name: str, *arguments: str, database_url: str = "") -> tuple[int, str]:
    """Exit code and all that it printed."""
    command = main.commands[name]
    return await invoked(command, *arguments, environment={"DATABASE_URL": database_url})


async def typed(*arguments: str, database_url: str) -> tuple[int, str]:
    """The same of `projector ...` in a process of its own."""
    return await run_program(
        *_PROJECTOR, *arguments, env=os.environ | {"DATABASE_URL": database_url}
    )


_PROJECTOR: Final = (sys.executable, "-m", "projector")
_READ_TO_42: Final = "update normalizer.source_positions set next_offset = 42, holes = 42"


async def test_without_a_database_it_says_what_to_type() -> None:
    code, printed = await projector("views")

    assert code == 2
    assert "export DATABASE_URL" in printed


async def test_a_database_that_does_not_answer_is_no_traceback() -> None:
    code, printed = await typed("views", database_url="postgresql://u:secret@127.0.0.1:1/none")

    assert code == 3
    assert "the database did not answer" in printed
    assert "secret" not in printed


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:secret#x@127.0.0.1:1/none",
        "postgresql://u:secret/x@127.0.0.1:1/none",
        "postgresql://u:secret?x@127.0.0.1:1/none",
        "postgresql://u:secret@127.0.0.1:1,h:secret/none",
        "postgresql://u:secret@[::1/none",
        "postgresql://u:secret@127.0.0.1:99999/none",
        "host=127.0.0.1 password=secret",
    ],
)
@pytest.mark.parametrize("command", ["views", "maintain", "serve"])
async def test_an_address_that_is_none_is_rejected_and_not_printed(command: str, url: str) -> None:
    """A password with an unescaped # or / looks like a port to a parser of addresses."""
    code, printed = await projector(command, database_url=url)

    assert code == 2
    assert "DATABASE_URL: expected postgresql://" in printed
    assert "secret" not in printed.replace("user:password", "")


async def test_verify_exits_with_1_only_on_a_divergence_and_names_the_row(
    database: Database,
) -> None:
    async with connected(database) as connection:
        await fill(connection)
        matches = await typed("verify", database_url=database.admin_url)
        await connection.execute("update projector.event_hours set events = events + 1")
        differs = await projector("verify", "--last", "20000d", database_url=database.admin_url)
        kept = await connection.fetchval(
            "select verdict from projector.agreement where projection = 'event_hours'"
        )

    assert matches[0] == 0, matches[1]
    assert differs[0] == 1
    assert "event_hours       divergent: 1 rows compared, 1 differ" in differs[1]
    assert "event_type step.enter" in differs[1]
    assert "events shows 2, should be 1" in differs[1]
    assert kept == "divergent"


async def test_wait_returns_once_the_record_is_in_the_views(database: Database) -> None:
    async with open_store(database) as store:
        await claimed(store)
    async with connected(database) as connection, as_user(database, "projector_reader") as reader:
        waiting = asyncio.create_task(
            typed("wait", "noetl.events:0:41", database_url=reader.url), name="waiting"
        )
        await connection.execute(_READ_TO_42)
        code, printed = await waiting

    assert (code, printed) == (0, "noetl.events[0]: read to 42\n")


async def test_wait_says_that_a_record_in_quarantine_is_not_in_the_views(
    database: Database,
) -> None:
    async with open_store(database) as store:
        await claimed(store)
    async with connected(database) as connection:
        await connection.execute(_READ_TO_42)
        await insert_row(connection, "normalizer.quarantine", source_offset=41)
        async with as_user(database, "projector_reader") as reader:
            kept = await typed("wait", "noetl.events:0:41", database_url=reader.url)
            await connection.execute("update normalizer.quarantine set redriven_at = now()")
            redriven = await typed("wait", "noetl.events:0:41", database_url=reader.url)

    assert kept[0] == 1
    assert kept[1] == (
        "Error: noetl.events[0]@41 is in quarantine (invalid_json), so it isn't in the views. "
        "See: normalizer quarantine show 1\n"
    )
    assert redriven == (0, "noetl.events[0]: read to 42\n")


async def test_maintain_says_what_it_would_do_does_it_and_verifies_a_sample(
    database: Database,
) -> None:
    async with connected(database) as connection:
        await fill(connection)
        would = await projector("maintain", "--dry-run", database_url=database.admin_url)
        done = await projector("maintain", database_url=database.admin_url)
        again = await projector(
            "maintain", "--dry-run", "--keep-events", "1m", database_url=database.admin_url
        )
        await connection.execute("update projector.event_hours set events = 7")
        drifted = await projector("maintain", database_url=database.admin_url)
        found = await connection.fetchval(
            "select scope || ': ' || verdict from projector.agreement "
            "where projection = 'event_hours'"
        )

    assert would[0] == done[0] == again[0] == 0
    assert "execution_facts   match" in done[1]
    assert drifted[0] == 1
    assert "events shows 7, should be 1" in drifted[1]
    assert found == "sample: divergent"


async def test_maintain_goes_on_until_it_is_requested_to_stop(database: Database) -> None:
    process = await asyncio.create_subprocess_exec(
        *(*_PROJECTOR, "maintain", "--every", "1h"),
        env=os.environ | {"DATABASE_URL": database.admin_url, "PYTHONUNBUFFERED": "1"},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async for line in process.stdout:
        if line.startswith(b"retry_minutes"):
            break
    process.send_signal(signal.SIGTERM)

    assert await process.wait() == 0


async def test_repair_recovers_what_is_known_to_differ(database: Database) -> None:
    async def repair(*options: str) -> tuple[int, str]:
        return await projector("repair", *options, database_url=database.admin_url)

    async with connected(database) as connection:
        await fill(connection)
        nothing = await repair()
        await connection.execute("update projector.event_hours set events = events + 1")
        await projector("verify", database_url=database.admin_url)
        looked = await repair("--dry-run")
        repaired = await repair()
        await connection.execute("delete from projector.execution_facts")
        hours = await repair("--hours", "2026-07-01", "2026-07-31")
        await connection.execute("delete from projector.execution_facts")
        one = await repair("--executions", "1")
        whole = await repair("--all")
        counted = await repair("--counters")

    assert nothing == (0, "no divergence is open; `projector verify` looks for new ones\n")
    assert looked[0] == 1
    assert "events shows 2, should be 1" in looked[1]
    assert repaired[0] == 0
    assert "event_hours       match: 1 rows compared, 1 repaired" in repaired[1]
    assert (hours[0], one[0]) == (0, 0)
    assert "execution_facts   match: 1 rows compared, 1 repaired" in hours[1]
    assert "execution_facts   match: 1 rows compared" in one[1]
    assert (whole[0], counted[0]) == (0, 0)
    assert "repaired" not in whole[1] + counted[1]
    assert "execution_facts" not in counted[1]


async def fill(connection: asyncpg.Connection) -> None:
    await view_rows.insert(connection, [event()])


async def test_a_closed_output_gives_no_traceback_and_the_work_is_done(database: Database) -> None:
    """As `projector verify | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    process = await asyncio.create_subprocess_exec(
        *(*_PROJECTOR, "verify"),
        env=os.environ | {"DATABASE_URL": database.url},
        stdout=writing,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(writing)
    _, said = await process.communicate()

    assert (process.returncode, said) == (0, b"")
