"""`projector serve` as a process: its address, its end, and to whom it will not speak."""

import asyncio
import os
import signal
import sys
from datetime import timedelta

import httpx
import pytest

from tests.stack import Database


async def test_serve_tells_its_address_and_ends_in_order(database: Database) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "projector", "serve", "--port", "0"),
        env=os.environ | {"DATABASE_URL": database.url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout
    address = (await process.stdout.readline()).decode().split()[-1]
    async with httpx.AsyncClient(base_url=address) as client:
        ready = await client.get("/readyz")
        answers = [await client.get("/livez") for _ in range(10)]
    process.send_signal(signal.SIGTERM)
    said, _ = await process.communicate()

    assert ready.json() == {"ready": True, "reasons": []}
    assert {answer.text for answer in answers} == {"alive\n"}
    quickest = min(answer.elapsed for answer in answers)
    assert quickest < timedelta(milliseconds=35), "small packets are held back for 40 ms"
    assert (process.returncode, said) == (0, b"")


@pytest.mark.parametrize(
    ("arguments", "token", "why"),
    [
        (("--host", "0.0.0.0"), "", "lets others read"),  # noqa: S104 - it is refused
        (("--host", "::"), "", "lets others read"),
        (("--host", "projector.example"), "", "lets others read"),
        (("--host", "127.0.0.1"), "too-short", "at least 16"),
        (("--host", "192.0.2.1"), "long-enough-to-be-one", "cannot listen"),
        (("--port", "70000"), "", "70000 is not in the range"),
        (("--timeout", "nan"), "", "not a valid integer"),
    ],
)
async def test_serve_refuses_to_let_others_read_along(
    arguments: tuple[str, ...], token: str, why: str
) -> None:
    url = "postgresql://u:secret@127.0.0.1:1/none"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "projector", "serve", *arguments),
        env=os.environ | {"DATABASE_URL": url, "PROJECTOR_TOKEN": token},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()

    assert process.returncode == 2
    assert why in said.decode()
    assert b"secret" not in said
    assert not token or token.encode() not in said
