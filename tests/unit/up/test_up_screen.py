"""What `normalizer up` shows: a live line on a terminal, plain lines elsewhere."""

import io
from pathlib import Path

import asyncpg
import pytest

from normalizer.runtime.screen import Screen
from normalizer.store.migrate import SchemaMismatchError
from normalizer.up import UpOptions, stack_run, up


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_one_live_line_and_keeps_what_is_said() -> None:
    terminal = _Terminal()
    screen = Screen(terminal)

    screen.print_live_line("one")
    screen.print_live_line("two")
    screen.print_line("kept")
    screen.print_live_line("three")

    assert terminal.getvalue() == "one\r\x1b[Ktwo\r\x1b[Kkept\nthree"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (asyncpg.InvalidPasswordError("wrong password"), 1, "error: wrong password\n"),
        (asyncpg.InterfaceError("connection is closed"), 1, "error: connection is closed\n"),
        (TimeoutError(), 1, "error: TimeoutError\n"),
        (SchemaMismatchError("another build"), 3, "error: another build\n"),
    ],
)
async def test_an_error_of_the_database_is_said_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, said: str
) -> None:
    async def run(_: object) -> None:
        raise error

    monkeypatch.setattr(stack_run._Run, "run", run)
    stream = io.StringIO()

    ended = await up(UpOptions(folder=tmp_path), environ={}, screen=Screen(stream))

    assert (ended, stream.getvalue()) == (code, said)
