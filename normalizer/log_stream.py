"""Writes lines to a stream, and leaves out those that it does not take.

A full disk, or a pipe that nobody reads, must not stop what the lines are about.
"""

import contextlib
import select
from typing import Final, TextIO

PATIENCE_S: Final = 1.0
"""How long a full pipe is waited for: once, then not at all until it takes something again."""

_PART: Final = 1024
"""Characters, at most 4,096 bytes: who may write to a pipe at all may write as many."""


class LogStream:
    """A stream that never holds up who writes to it for longer than PATIENCE_S."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._poll = select.poll()
        self._is_polled = False
        with contextlib.suppress(AttributeError, OSError):  # it is no file of the system
            self._poll.register(stream.fileno(), select.POLLOUT)
            self._is_polled = True
        self._is_full = False
        self._is_torn = False

    def write(self, text: str) -> None:
        """Write the text, if that can be done; else what follows begins a new line."""
        if self._is_torn:
            text = f"\n{text}"
        # What is no file of the system may make a line of each text.
        part = _PART if self._is_polled else max(len(text), 1)
        with contextlib.suppress(OSError):
            for first in range(0, len(text), part):
                if not self._takes_more():
                    self._is_torn = self._is_torn or first > 0
                    return
                self._stream.write(text[first : first + part])
                self._stream.flush()
                self._is_torn = False

    def flush(self) -> None:
        """Write what is in the buffer, if that can be done."""
        with contextlib.suppress(OSError):
            self._stream.flush()

    def _takes_more(self) -> bool:
        patience_s = 0.0 if self._is_full else PATIENCE_S
        self._is_full = self._is_polled and not self._poll.poll(patience_s * 1000)
        return not self._is_full
