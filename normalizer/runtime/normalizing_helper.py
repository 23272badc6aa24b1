"""Normalizes heavy records in the helper process, so that the event loop stays free.

A record of several megabytes takes long to normalize, and the event loop must send heartbeats in
the meantime. A thread wouldn't help, because a C call that reads megabytes holds Python's
interpreter lock until it returns.
"""

import asyncio
import contextlib
import os
import pickle
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

from normalizer.core.decode.shape_table import ShapeTable
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Normalized
from normalizer.runtime.child import module_search_environment, send_signal
from normalizer.runtime.logging_setup import get_logger

_LENGTH_BYTES: Final = 8
"""The size of the length before each message, in bytes. A length of 0 ends the outcomes of a
record."""
_END_TIMEOUT_S: Final = 2.0
_RESPONSE_TIMEOUT_S: Final = 120.0
"""The longest wait for the outcomes of a record. The most expensive record takes some seconds."""
_SLOW_S: Final = 0.5
_LARGE_BYTES: Final = 1 << 20
_PIPE_BYTES: Final = 1 << 20

_log: Final = get_logger()


class NormalizingHelperDiedError(Exception):
    """The child ended during a record, most likely because memory ran out, or sent no outcomes."""


class NormalizingHelper:
    """The helper process. It's started when it's first needed, and again after it has died.

    If it takes longer than `answer_s` for a record, it must be frozen or hanging, so it's killed.
    `stop` ends it. If our own process dies, the helper ends by itself, because its input is closed.
    """

    def __init__(
        self,
        redact_keys: Sequence[str] = (),
        shapes: ShapeTable | None = None,
        *,
        answer_s: float = _RESPONSE_TIMEOUT_S,
    ) -> None:
        self._rules = (tuple(redact_keys), shapes)
        self._answer_s = answer_s
        self.process: asyncio.subprocess.Process | None = None
        """None while it isn't running."""
        self._turn = asyncio.Lock()

    async def normalize(self, record: RawRecord) -> tuple[Normalized, ...]:
        """Return the outcomes of one record. Raises NormalizingHelperDiedError.

        The helper handles one record at a time. If the call is cancelled, the helper is killed,
        because its late outcomes would otherwise be mistaken for those of the next record. A record
        that is larger than _LARGE_BYTES or takes longer than _SLOW_S is logged.
        """
        async with self._turn:
            process = self.process = self.process or await self._start()
            began_s = time.monotonic()
            try:
                async with asyncio.timeout(self._answer_s):
                    outcomes = tuple([outcome async for outcome in _exchange(process, record)])
            except BaseException as error:
                await self._end()
                if isinstance(error, TimeoutError):
                    raise NormalizingHelperDiedError(
                        f"no answer in {self._answer_s:g} s"
                    ) from error
                if isinstance(error, (EOFError, ConnectionError)):
                    raise NormalizingHelperDiedError(f"exit code {process.returncode}") from error
                raise
            _log_if_slow(record, time.monotonic() - began_s)
            return outcomes

    async def stop(self) -> None:
        """End the child, if there's one."""
        async with self._turn:
            await self._end()

    async def _start(self) -> asyncio.subprocess.Process:
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "normalizer.runtime.normalizing_helper_main"),
                env=os.environ | module_search_environment(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,  # a traceback isn't a JSON log line
                limit=_PIPE_BYTES,
                start_new_session=True,  # Ctrl-C in a terminal is for the parent
            )
        except OSError as error:
            raise NormalizingHelperDiedError(
                f"the helper process can't start: {error.strerror}"
            ) from error
        _write(process, pickle.dumps(self._rules))
        return process

    async def _end(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        send_signal(process, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_TIMEOUT_S):
                await process.wait()


def _log_if_slow(record: RawRecord, took_s: float) -> None:
    if took_s >= _SLOW_S or record.value_bytes > _LARGE_BYTES:
        _log.warning(
            "record.slow",
            record=record.coordinates_text,
            bytes=record.value_bytes,
            seconds=round(took_s, 3),
        )


def _write(process: asyncio.subprocess.Process, message: bytes) -> None:
    assert process.stdin
    process.stdin.write(len(message).to_bytes(_LENGTH_BYTES))
    process.stdin.write(message)


async def _exchange(
    process: asyncio.subprocess.Process, record: RawRecord
) -> AsyncIterator[Normalized]:
    """Send a record, and yield its outcomes as they arrive, some hundred at a time."""
    assert process.stdin
    assert process.stdout
    _write(process, pickle.dumps(record))
    await process.stdin.drain()
    while size := int.from_bytes(await process.stdout.readexactly(_LENGTH_BYTES)):
        for outcome in pickle.loads(await process.stdout.readexactly(size)):  # noqa: S301 - from the child process
            yield outcome
        await asyncio.sleep(0)
