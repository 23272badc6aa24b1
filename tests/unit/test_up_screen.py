"""What `normalizer up` shows: a live line on a terminal, plain lines elsewhere."""

import io
from pathlib import Path

import asyncpg
import pytest

from normalizer.process.screen import Screen
from normalizer.up import Options, flow, up


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_one_live_line_and_keeps_what_is_said() -> None:
    terminal = _Terminal()
    screen = Screen(terminal)

    screen.print_live("one")
    screen.print_live("two")
    screen.print_line("kept")
    screen.print_live("three")

    assert terminal.getvalue() == "one\r\x1b[Ktwo\r\x1b[Kkept\nthree"


def test_elsewhere_every_line_stays() -> None:
    stream = io.StringIO()
    screen = Screen(stream)

    screen.print_live("one")
    screen.print_line("kept")
    screen.print_live("two")

    assert stream.getvalue() == "one\nkept\ntwo\n"


def test_a_stream_that_takes_no_line_any_more_ends_nothing() -> None:
    """Neither the work behind it nor, by a flush at its exit, the process."""
    with Path("/dev/full").open("w") as full:
        screen = Screen(full)

        screen.print_line("one")
        screen.print_live("two")

        assert not screen.is_read
        full.flush()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (asyncpg.InvalidPasswordError("wrong password"), "error: wrong password\n"),
        (asyncpg.InterfaceError("connection is closed"), "error: connection is closed\n"),
        (TimeoutError(), "error: TimeoutError\n"),
    ],
)
async def test_an_error_of_the_database_is_said_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    async def run(_: object) -> None:
        raise error

    monkeypatch.setattr(flow._Run, "run", run)
    stream = io.StringIO()

    code = await up(Options(folder=tmp_path), environ={}, screen=Screen(stream))

    assert (code, stream.getvalue()) == (1, said)


@pytest.mark.parametrize("traffic", [True, False])
async def test_brokers_that_want_tls_are_refused_as_long_as_traffic_is_to_be_sent(
    tmp_path: Path, traffic: bool
) -> None:
    environ = {
        "DATABASE_URL": "postgresql://u:p@127.0.0.1:1/n",
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "KAFKA_SECURITY_PROTOCOL": "SSL",
    }
    stream = io.StringIO()
    options = Options(folder=tmp_path, external=True, traffic=traffic)

    code = await up(options, environ=environ, screen=Screen(stream))

    assert code == 1
    assert ("give --no-traffic" in stream.getvalue()) == traffic
