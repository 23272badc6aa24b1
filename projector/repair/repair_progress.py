"""Prints on standard error, every few seconds, what a repair is doing.

A repair of everything may take hours, and without these lines it would print nothing until the
first projection is finished.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final

import click

from normalizer.errors import StoreUnavailableError

_REPORT_EVERY_S: Final = 10.0


class RepairProgress:
    """Prints what a repair is doing (`activity`) every few seconds.

    `activity` is empty before the first step.
    """

    def __init__(self, *, every_s: float = _REPORT_EVERY_S) -> None:
        self._every_s = every_s
        self.activity = ""
        self._timer: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def reporting(self) -> Iterator[None]:
        """Report while the block runs.

        Adds the activity to a StoreUnavailableError raised in it.
        """
        self._schedule_report()
        try:
            yield
        except StoreUnavailableError as error:
            if not self.activity:
                raise
            message = f"{error}, while {self.activity}. Run the same command again to continue"
            raise StoreUnavailableError(message, sqlstate=error.sqlstate) from error
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def set_activity(self, activity: str) -> None:
        """Set what the repair is doing from now on."""
        self.activity = activity

    def _schedule_report(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._every_s, self._report)

    def _report(self) -> None:
        if self.activity:
            click.echo(self.activity, err=True)
        self._schedule_report()
