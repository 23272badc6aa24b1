"""Counts, measures, and logs what happens to the batches of a service. It changes none of them."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from normalizer.config.settings import Settings
from normalizer.core.batch import Batch
from normalizer.core.decode.shape_table import ShapeTable
from normalizer.core.drift import DriftDetector
from normalizer.errors import PositionError, RetryableError, StoreUnavailableError
from normalizer.observability.service_metrics import ServiceMetrics
from normalizer.observability.tracer import Tracer
from normalizer.runtime.logging_setup import ServiceCounters, get_logger
from normalizer.store.committed_batch import CommittedBatch
from normalizer.store.quarantine_reader import RejectionLogger

_log: Final = get_logger()


class BatchObserver:
    """Counts the batches of one process in its metrics, its counters, and its spans."""

    def __init__(
        self,
        settings: Settings,
        shapes: ShapeTable | None,
        counters: ServiceCounters,
        tracer: Tracer,
        clock: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._counters = counters
        self._tracer = tracer
        self.metrics = ServiceMetrics()
        self._rejections = RejectionLogger(_log, clock)
        documented = shapes.named_keys if shapes else ()
        self.drift_detector = DriftDetector(settings.redact_keys, documented)

    @contextlib.contextmanager
    def measure_stage(self, stage: str) -> Iterator[None]:
        """Measure how long a stage of a batch takes: wait, fetch, normalize, or write."""
        begun_s = self._clock()
        try:
            yield
        finally:
            seconds = self._clock() - begun_s
            self.metrics.add_stage_seconds(stage, seconds)
            self._tracer.note_stage(stage, seconds)

    def count_closed(self, closed_by: str) -> None:
        """Count a batch that will now be written, by why it was closed."""
        self.metrics.batches.labels(closed_by=closed_by).inc()

    def count_failure(self, error: RetryableError) -> None:
        """Count a failed try of a batch, or of a part that was set aside."""
        self._tracer.note_failure(error)
        self.metrics.count_retry(
            error.sqlstate if isinstance(error, StoreUnavailableError) else None
        )

    def count_commit(self, committed: CommittedBatch) -> None:
        """Count one committed transaction. A batch that was halved has several."""
        self.metrics.count_commit(committed, self._tracer.note_commit(committed))
        self._rejections.count_rejections(committed)
        self._counters.add(msgspec.structs.asdict(committed.totals))

    def count_written(self, batch: Batch, lost: Sequence[PositionError] = ()) -> None:
        """Count a batch, or a part that was set aside, and inspect it for drift.

        The parts in `lost` weren't written. Nothing is counted if no other part is left.

        The inspection is a sample, and takes less than 10 ms for a full batch of 64 partitions. If
        it raised because of a bug, the process would end, but the batch is committed already.
        """
        lost_keys = {(error.topic, error.partition) for error in lost}
        parts = tuple(one for one in batch.parts if (one.topic, one.partition) not in lost_keys)
        self._counters.batches += bool(parts)
        found = self.drift_detector.inspect_batch(Batch(parts=parts), self._clock())
        for (shape, kind), count in found.items():
            self.metrics.drift.labels(shape=shape, kind=kind).inc(count)

    def flush_rejections(self) -> None:
        """Log the rejections that haven't been logged yet."""
        self._rejections.flush()
