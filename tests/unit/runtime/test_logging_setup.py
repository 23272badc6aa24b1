"""Log lines: one form for ours and the libraries', no secret in any."""

import errno
import io
import json
import logging
import os
import select
import threading

import asyncpg
import pytest
import structlog

from normalizer.errors import FencedError, StoreUnavailableError
from normalizer.runtime import logging_setup
from normalizer.runtime.log_stream import NonBlockingLogStream


@pytest.fixture
def lines() -> io.StringIO:
    stream = io.StringIO()
    logging_setup.configure_logging(secrets=["hunter2", "x"], stream=stream)
    return stream


def logged(lines: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def test_the_name_of_a_file_that_is_no_text_ends_nothing(lines: io.StringIO) -> None:
    logging_setup.get_logger().info("reading", file=os.fsdecode(b"/a/\xff"))

    assert json.loads(lines.getvalue())["file"] == "/a/\udcff"


def test_a_secret_is_masked_in_every_place_of_a_line(lines: io.StringIO) -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijkl"

    logging_setup.get_logger().warning(
        "no way in with hunter2",
        url="postgresql://u:secret@h/n",
        nested={"list": ["Bearer abcdefghij", token]},
        error=ValueError("hunter2"),
    )

    text = lines.getvalue()
    for secret in ("hunter2", "secret@", "abcdefghij", token):
        assert secret not in text
    assert logged(lines)[0]["url"] == "postgresql://u:***@h/n"


def test_a_line_that_cannot_be_written_is_left_out() -> None:
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    logging_setup.configure_logging(stream=Full())

    logging_setup.get_logger().info("started")
    logging.getLogger("asyncio").error("task failed")


def test_a_pipe_that_nobody_reads_holds_up_nothing() -> None:
    """Else the loop of a process hangs in its next line. A later reader gets whole lines."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream, os.fdopen(reading, "rb") as pipe:
        logging_setup.configure_logging(stream=stream)
        logger = logging_setup.get_logger()

        def log_much() -> None:
            for number in range(100):
                logger.info("x" * 10_000, number=number)

        thread = threading.Thread(target=log_much, daemon=True)
        thread.start()
        thread.join(timeout=10.0)
        assert not thread.is_alive()
        os.set_blocking(reading, False)
        first = pipe.read()
        logger.info("it is read again")
        later = pipe.read()

    *whole, _ = first.splitlines()
    assert [json.loads(line)["number"] for line in whole] == list(range(len(whole)))
    assert len(whole) > 2
    assert [json.loads(line)["event"] for line in later.splitlines() if line] == [
        "it is read again"
    ]


@pytest.mark.parametrize("letter", ["x", "\u00fc", "\U0001f600"])
def test_a_line_that_a_pipe_takes_as_one_is_written_as_one(
    letter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else lines of two processes that share the pipe would be mixed."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", encoding="utf-8") as stream, os.fdopen(reading, "rb") as pipe:
        written, write = list[bytes](), os.write

        def note(fd: int, data: bytes) -> int:
            written.append(data)
            return write(fd, data)

        monkeypatch.setattr(os, "write", note)
        out = NonBlockingLogStream(stream)
        line = letter * ((select.PIPE_BUF - 1) // len(letter.encode())) + "\n"

        out.write(line)
        out.write(line * 3)

        assert written[0] == line.encode()
        assert max(map(len, written)) <= select.PIPE_BUF
        os.set_blocking(reading, False)
        assert pipe.read() == (line * 4).encode()


def test_a_library_that_repeats_itself_is_counted(lines: io.StringIO) -> None:
    now = 100.0
    handler = logging_setup.LibraryLogHandler(clock=lambda: now)
    record = logging.LogRecord("aiokafka", logging.WARNING, "", 0, "away: %s", ("a",), None)

    for _ in range(4):
        handler.emit(record)
    now += logging_setup._REPEAT_AFTER_S
    handler.emit(record)

    first, second = logged(lines)
    assert "suppressed" not in first
    assert second["suppressed"] == 3


def test_a_librarys_traceback_is_only_named(lines: io.StringIO) -> None:
    error = ValueError("content of a record")

    logging.getLogger("asyncio").error("task failed", exc_info=error)

    (line,) = logged(lines)
    assert line["error"] == "ValueError"
    assert "content" not in lines.getvalue()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (StoreUnavailableError("database is unreachable"), "database is unreachable"),
        (FencedError("fenced: t[1]", topic="t", partition=1), "fenced: t[1]"),
        (
            ConnectionRefusedError(111, "Connection refused"),
            "ConnectionRefusedError: Connection refused",
        ),
        (asyncpg.DataError("invalid input: 'content'"), "DataError"),
        (
            ExceptionGroup("", [KeyError("content"), ExceptionGroup("", [KeyError("other")])]),
            "KeyError",
        ),
    ],
)
def test_an_error_is_described_without_content(error: Exception, text: str) -> None:
    assert logging_setup.describe_error_without_secrets(error) == text


def test_a_line_of_ecs_has_its_names_and_everything_else_below_one_of_ours() -> None:
    stream = io.StringIO()
    logging_setup.configure_logging(log_format="ecs", secrets=["hunter2"], stream=stream)

    with structlog.contextvars.bound_contextvars(trace_id="a" * 32, span_id="b" * 16):
        logging_setup.get_logger().warning(
            "batch.rolled_back", why="fenced by hunter2", url="u", partitions=[1]
        )
    logging.getLogger("asyncio").error("task failed", exc_info=ValueError("content"))

    ours, librarys = logged(stream)
    assert ours.pop("@timestamp")
    assert ours == {
        "log.level": "warning",
        "message": "batch.rolled_back: fenced by ***",
        "event.action": "batch.rolled_back",
        "ecs.version": logging_setup._ECS_VERSION,
        "trace.id": "a" * 32,
        "span.id": "b" * 16,
        "normalizer": {"why": "fenced by ***", "url": "u", "partitions": [1]},
    }
    assert librarys.pop("@timestamp")
    assert librarys == {
        "log.level": "error",
        "message": "task failed",
        "log.logger": "asyncio",
        "error.message": "ValueError",
        "ecs.version": logging_setup._ECS_VERSION,
    }
