"""Shows other threads that the event loop runs, or for how long it has hung."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

_HEARTBEAT_EVERY_S: Final = 0.5


class LoopHeartbeat:
    """Notes every half second that the event loop runs, inside its `with` block.

    `on_heartbeat` is called each time. The block may span a whole stop, which may take minutes.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        on_heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = clock
        self._on_heartbeat = on_heartbeat
        self._set_at_s = clock()

    def __enter__(self) -> None:
        self._set_heartbeat()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def age_s(self) -> float:
        """Return how many seconds ago the event loop last ran. Safe to call from any thread."""
        return self._clock() - self._set_at_s

    def _set_heartbeat(self) -> None:
        self._set_at_s = self._clock()
        self._timer = asyncio.get_running_loop().call_later(_HEARTBEAT_EVERY_S, self._set_heartbeat)
        self._on_heartbeat()
