"""Handles SIGTERM and SIGINT: the first stops in order, the second exits at once.

Nothing is lost by the second: uncommitted work is rolled back.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from normalizer.exit_codes import STOPPED_AT_ONCE

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on the first signal; a second one does not return."""
    loop = asyncio.get_running_loop()
    is_stopping = False

    def on_signal() -> None:
        nonlocal is_stopping
        if is_stopping:
            os._exit(STOPPED_AT_ONCE)
        is_stopping = True
        stop()

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
