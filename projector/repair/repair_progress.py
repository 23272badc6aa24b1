"""What a repair does in, lines for whoever waits for it out: every few seconds what goes on."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final

import click

from normalizer.errors import StoreUnavailable

REPORT_EVERY_S: Final = 10.0


class RepairProgress:
    """Notes on standard error; `doing` is "" until it is told."""

    def __init__(self, *, every_s: float = REPORT_EVERY_S) -> None:
        self._every_s = every_s
        self.activity = ""
        self._timer: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """It is noted meanwhile. Raises StoreUnavailable with what was being done."""
        self._note_later()
        try:
            yield
        except StoreUnavailable as error:
            if not self.activity:
                raise
            message = f"{error}, while {self.activity}; the same command goes on from there"
            raise StoreUnavailable(message, sqlstate=error.sqlstate) from error
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def tell(self, activity: str) -> None:
        """What goes on from now."""
        self.activity = activity

    def _note_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._every_s, self._note)

    def _note(self) -> None:
        if self.activity:
            click.echo(self.activity, err=True)
        self._note_later()
