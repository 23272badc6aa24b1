"""Handles the signals that stop a process.

The first signal stops the process in an orderly way, and a second one ends it at once. Nothing is
lost even then, because PostgreSQL rolls back the uncommitted work, and the next process reads the
same records again.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from normalizer.runtime.exit_codes import INTERRUPTED

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_on_signals(
    stop: Callable[[], object],
    *,
    abort: Callable[[], object] = lambda: None,
    signals: Sequence[signal.Signals] = _SIGNALS,
) -> Iterator[None]:
    """Call `stop` on the first signal. A second signal calls `abort` and ends the process.

    `stop` should only request the work to end. The block continues until the work has ended:

        with stop_on_signals(service.stop):
            await service.run()
    """
    loop = asyncio.get_running_loop()
    is_stopping = False

    def on_signal() -> None:
        nonlocal is_stopping
        if is_stopping:
            abort()
            os._exit(INTERRUPTED)
        is_stopping = True
        stop()

    for number in signals:
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


@asynccontextmanager
async def cancel_on_signal() -> AsyncIterator[asyncio.Timeout]:
    """Cancel the block at the first signal. The yielded timeout has then `expired`."""
    loop = asyncio.get_running_loop()
    block = asyncio.timeout(None)
    try:
        async with block:
            with stop_on_signals(lambda: block.reschedule(loop.time())):
                yield block
    except TimeoutError:
        if not block.expired():
            raise
