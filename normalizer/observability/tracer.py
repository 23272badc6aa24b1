"""The interface through which a service reports what happens to its batches, for traces."""

import contextlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from normalizer.core.batch import Batch
from normalizer.errors import RetryableError
from normalizer.store.write_transaction import CommittedBatch

WriteSpans = Callable[[Batch], AbstractContextManager[None]]


class Tracer:
    """Is notified of what happens to the batches of one process. This base class makes no spans.

    A part that's set aside is written outside of every block. A tracer must accept `note_failure`
    and `note_commit` there too, and can't tell to which batch they belong.
    """

    def begin_batch(self) -> WriteSpans:
        """Note that a batch begins to fill. Write it in the block that the result returns.

        If it stays empty, forget it. This is then called again, and no span has been made.
        """
        return lambda _: contextlib.nullcontext()

    def note_stage(self, stage: str, seconds: float) -> None:
        """Note that a stage of that batch has just taken this long. `stage` is one of STAGES."""

    def note_failure(self, error: RetryableError) -> None:
        """Note that a try to write failed, inside the block unless the part was set aside."""

    def note_commit(self, written: CommittedBatch) -> Mapping[str, str] | None:
        """Note a committed transaction, inside the block unless the part was set aside.

        Returns labels for its exemplar.
        """

    def close(self) -> None:
        """Send unsent spans, for a few seconds at most."""
