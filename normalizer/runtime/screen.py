"""Prints lines to a terminal or a plain stream, and on a terminal also a live progress line."""

import os
import sys
from typing import TextIO

_CLEAR = "\r\x1b[K"


class Screen:
    """Prints lines that stay, and on a terminal one live line that is updated in place.

    `print_line` prints a line that stays, and `print_live_line` replaces the live line. If the
    stream can't be written any more, because its reader is gone or the disk is full, `is_read`
    becomes False and any further output is discarded. A job then continues, because nothing depends
    on its output.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        self.rewrites = self._stream.isatty()
        self._is_live = False
        self.is_read = True

    def print_line(self, text: str) -> None:
        """Print permanent lines."""
        self._write(f"{text}\n", is_live=False)

    def print_live_line(self, text: str) -> None:
        """Replace the live line on a terminal. On another stream, print an ordinary line."""
        self._write(text if self.rewrites else f"{text}\n", is_live=self.rewrites)

    def clear_live_line(self) -> None:
        """Clear the live line, so that others can write there."""
        if self._is_live:
            self._write("", is_live=False)

    def _write(self, text: str, *, is_live: bool) -> None:
        if not self.is_read:
            return
        try:
            self._stream.write(f"{_CLEAR}{text}" if self._is_live else text)
            self._stream.flush()
        except OSError:
            self.is_read = False
            # Otherwise Python would fail again when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        self._is_live = is_live
