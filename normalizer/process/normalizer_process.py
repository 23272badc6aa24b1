"""Normalizes heavy records in one child process, so that this one's event loop stays free.

A thread would not do: a call into C that reads megabytes holds the interpreter until it is done.
"""

import asyncio
import contextlib
import pickle
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Final

from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Normalized

FRAME: Final = 8
"""Bytes that say how long the message after them is; 0 ends an answer."""
ENDING_S: Final = 2.0
_PIPE_BYTES: Final = 1 << 20


class NormalizerProcessDied(Exception):  # noqa: N818 - it is started again
    """The child ended while it had a record in hand: for want of memory, most likely."""


class NormalizerProcess:
    """The child process: started when first needed, again after it died, ended by `stop`.

    It ends by itself when this process does: nobody holds the other end of its pipe then.
    """

    def __init__(self, redact_keys: Sequence[str] = ()) -> None:
        self._redact_keys = tuple(redact_keys)
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """None while none runs."""
        return None if self._process is None else self._process.pid

    async def normalize(self, record: RawRecord) -> tuple[Normalized, ...]:
        """Give the outcomes of a record; one record at a time. Raises HelperDied.

        Cancelled in between, the child is ended: what it still answers is nobody's.
        """
        async with self._turn:
            process = self._process = self._process or await self._start()
            try:
                return tuple([outcome async for outcome in _exchange(process, record)])
            except BaseException as error:
                await self._end()
                if isinstance(error, (EOFError, ConnectionError)):
                    raise NormalizerProcessDied(f"exit code {process.returncode}") from error
                raise

    async def stop(self) -> None:
        """End the child, if there is one."""
        async with self._turn:
            await self._end()

    async def _start(self) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "normalizer.process.normalizer_loop", *self._redact_keys),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,  # a traceback is no line of a log
                limit=_PIPE_BYTES,
                start_new_session=True,  # a terminal's Ctrl-C is for its parent
            )
        except OSError as error:
            raise NormalizerProcessDied(f"it cannot be started: {error.strerror}") from error

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ENDING_S):
                await process.wait()


async def _exchange(
    process: asyncio.subprocess.Process, record: RawRecord
) -> AsyncIterator[Normalized]:
    """Send a record, give its outcomes as they come: some hundred at a time are unpickled."""
    assert process.stdin
    assert process.stdout
    request = pickle.dumps(record)
    process.stdin.write(len(request).to_bytes(FRAME))
    process.stdin.write(request)
    await process.stdin.drain()
    while size := int.from_bytes(await process.stdout.readexactly(FRAME)):
        for outcome in pickle.loads(await process.stdout.readexactly(size)):  # noqa: S301 - our own child's
            yield outcome
        await asyncio.sleep(0)
