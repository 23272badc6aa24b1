"""Writes log lines to a stream, and drops lines that can't be written in time.

Logging must never stop the service. If the disk is full or the log goes to a pipe that nobody
reads, a plain write would raise an error or block. A NonBlockingLogStream waits at most
_PATIENCE_S, and then drops the line.
"""

import contextlib
import os
import select
from typing import Final, TextIO

_PATIENCE_S: Final = 1.0
"""How long to wait for a full pipe. After that, don't wait at all until it takes data again."""


class NonBlockingLogStream:
    """A stream that never blocks its writer for longer than _PATIENCE_S."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._poll = select.poll()
        self._is_polled = False
        with contextlib.suppress(AttributeError, OSError):  # not a file of the operating system
            self._poll.register(stream.fileno(), select.POLLOUT)
            self._is_polled = True
        self._is_full = False
        self._is_torn = False

    def write(self, text: str) -> None:
        """Write the text if possible. If not, start the next text on a new line."""
        with contextlib.suppress(OSError):
            if self._is_polled:
                self._write_bytes(text.encode(self._stream.encoding, "backslashreplace"))
            else:
                self._stream.write(text)

    def flush(self) -> None:
        """Write the buffer if possible."""
        with contextlib.suppress(OSError):
            self._stream.flush()

    def _write_bytes(self, data: bytes) -> None:
        """Write in pieces of PIPE_BUF bytes, because a pipe takes such a piece whole or not at all.

        So a line up to that length stays in one piece, even if other processes write to the same
        pipe.
        """
        if self._is_torn:
            data = b"\n" + data
        for first in range(0, len(data), select.PIPE_BUF):
            if not self._takes_more():
                self._is_torn = self._is_torn or first > 0
                return
            os.write(self._stream.fileno(), data[first : first + select.PIPE_BUF])
            self._is_torn = False

    def _takes_more(self) -> bool:
        self._is_full = not self._poll.poll(0 if self._is_full else _PATIENCE_S * 1000)
        return not self._is_full
