"""What a rebuild yields in, lines for whoever waits for it out.

On a terminal progress is written over itself; elsewhere a line says every few seconds what is being
done, so that a log shows that it goes on, and how long it will.
"""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Final

import click

from normalizer.errors import StoreUnavailable
from projector.rebuild import Progress, Said
from projector.verify import Verdict

NOTED_EVERY_S: Final = 10.0


class Report:
    """`say` prints what stays; progress goes to standard error. `doing` is "" until it is told."""

    def __init__(self, say: Callable[[str], None], *, every_s: float = NOTED_EVERY_S) -> None:
        self._say = say
        self._every_s = every_s
        self._rewrites = sys.stderr.isatty()
        self.doing = ""
        self._timer: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Progress is noted meanwhile. Raises StoreUnavailable with what was being done."""
        if not self._rewrites:
            self._note_later()
        try:
            yield
        except StoreUnavailable as error:
            if not self.doing:
                raise
            message = f"{error}, while {self.doing}; the same command goes on from there"
            raise StoreUnavailable(message, sqlstate=error.sqlstate) from error
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def tell(self, said: Said) -> None:
        """One line, or a new text for the line that is written over."""
        if str(said) == self.doing:
            # Behind the cut the fold goes on through ids that writers have fed already.
            return
        if not isinstance(said, Verdict):
            self.doing = str(said)
        if isinstance(said, Verdict | str):
            self._say(str(said))
            return
        is_last = isinstance(said, Progress) and said.folded == said.events
        if self._rewrites or is_last:
            click.echo(f"\r{said}\x1b[K" if self._rewrites else str(said), err=True, nl=is_last)

    def _note_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._every_s, self._note)

    def _note(self) -> None:
        if self.doing:
            click.echo(self.doing, err=True)
        self._note_later()
