"""The interface through which a service reports what happens to its batches, for traces."""

import contextlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from normalizer.core.batch import Batch
from normalizer.errors import RetryableError
from normalizer.store.committed_batch import CommittedBatch

MakeWriteSpans = Callable[[Batch], AbstractContextManager[None]]


class Tracer(Protocol):
    """Is notified of what happens to the batches of one process.

    A part that's set aside is written outside of every block. A tracer must accept `note_failure`
    and `note_commit` there too, and can't tell to which batch they belong.
    """

    def begin_filling_batch(self) -> MakeWriteSpans:
        """Note that a batch begins to fill. Write it in the block that the result returns.

        If it stays empty, forget it. This is then called again, and no span has been made.
        """

    def note_stage(self, stage: str, seconds: float, /) -> None:
        """Note that a stage of that batch has just taken this long. `stage` is one of STAGES."""

    def note_failure(self, error: RetryableError, /) -> None:
        """Note that a try to write failed, inside the block unless the part was set aside."""

    def note_commit(self, written: CommittedBatch, /) -> Mapping[str, str] | None:
        """Note a committed transaction, inside the block unless the part was set aside.

        Returns labels for its exemplar.
        """

    def close(self) -> None:
        """Send unsent spans, for a few seconds at most."""


class NoopTracer:
    """The tracer of a process that makes no spans."""

    def begin_filling_batch(self) -> MakeWriteSpans:
        """Return a function that makes a block without spans."""
        return lambda _: contextlib.nullcontext()

    def note_stage(self, _stage: str, _seconds: float) -> None:
        """Do nothing."""

    def note_failure(self, _error: RetryableError) -> None:
        """Do nothing."""

    def note_commit(self, _written: CommittedBatch) -> None:
        """Return no labels."""

    def close(self) -> None:
        """Do nothing."""
