"""`projector` on a real database."""

import asyncio
import os
import sys

from tests.stack import Database


async def projector(*arguments: str, database_url: str = "") -> tuple[int | None, str]:
    """Exit code and all that it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from projector.cli import main; main()",
        *arguments,
        env=os.environ | {"DATABASE_URL": database_url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    return process.returncode, printed.decode()


async def test_every_view_is_listed_with_its_question(database: Database) -> None:
    code, printed = await projector("views", database_url=database.url)

    lines = printed.splitlines()
    assert code == 0
    assert "projector.attempts_by_status" in lines
    assert all(question.strip() not in ("", "None") for question in lines[1::2])


async def test_without_a_database_it_says_what_to_type() -> None:
    code, printed = await projector("views")

    assert code == 1
    assert "export DATABASE_URL" in printed


async def test_a_database_that_does_not_answer_is_no_traceback() -> None:
    code, printed = await projector("views", database_url="postgresql://u:secret@127.0.0.1:1/none")

    assert code == 1
    assert "no answer from the database" in printed
    assert "secret" not in printed
