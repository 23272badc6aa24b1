"""The loop of the service: fetches the records of a group and writes canonical rows.

Offsets    commit in PostgreSQL, in the transaction that writes the rows. Kafka's own offsets are
           for lag tools only.
Rebalance  ends every claim. The transaction in flight may still commit, because the new owner's
           claim waits for it. Batches after it are dropped, and the new owner reads them again.
Crash      loses nothing. The next owner reads from the stored position, at first only a few
           records at a time.
Outage     of the database: the batch in flight is retried. Reading pauses when the next batch is
           full. Of Kafka: claims stay valid, and fetching is retried until a broker responds.
SIGTERM    writes the batches that are open, within a deadline. In an outage of the database it
           gives each of them one more try. Then the process leaves the group.

`membership` claims partitions, `batch_filler` fills batches, and this module writes them one after
the other. A batch has a part for each of its partitions. At most two batches are in memory: one
that is being written, and one that is being filled. Add processes to write in parallel.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import Context
from typing import Final

import msgspec

from normalizer.config.configured_rules import configured_normalizer
from normalizer.config.settings import Settings
from normalizer.consumer.batch_filler import BatchFiller
from normalizer.consumer.critical_tasks import start_critical_tasks
from normalizer.consumer.fetch_scheduler import FetchScheduler
from normalizer.consumer.intake import Intake, without_lost_claims
from normalizer.consumer.lock_waits import keep_finding_lock_holders
from normalizer.consumer.membership import GroupMembership
from normalizer.consumer.partition_state import PartitionState
from normalizer.consumer.record_store import StoreFactory, postgres_stores
from normalizer.consumer.set_aside import PartsSetAside
from normalizer.core.batch import MAX_BATCH_BYTES, Batch, BatchBuilder, PartitionBatch
from normalizer.core.drift import DriftDetector
from normalizer.errors import (
    FatalError,
    PartsNotWrittenError,
    PositionError,
    RetryableError,
    StoreUnavailableError,
    pick_worst_error,
)
from normalizer.observability.commit_metrics import CommitMetrics
from normalizer.observability.service_metrics import ServiceMetrics
from normalizer.observability.tracer import NoopTracer, Tracer, WriteSpans
from normalizer.runtime.logging_setup import ServiceCounters, get_logger
from normalizer.store.process_shapes import ShapesFingerprint
from normalizer.store.quarantine_reader import RejectionLog
from normalizer.store.write_retry import InFlightBatch, write_with_retry
from normalizer.store.write_transaction import CommittedBatch

HEARTBEAT_EVERY_S: Final = 0.5
"""How often the event loop proves that it runs (see `heartbeat_age_s`)."""

_log: Final = get_logger()


class Service:
    """One process of the consumer group.

    `run` ends after `stop`, or with an error that no retry can fix. `accept_reset` and
    `accept_shapes` are an operator's consent to read a recreated topic, and to read partitions with
    another table of shapes (--accept-reset, --accept-shapes).
    """

    def __init__(
        self,
        settings: Settings,
        *,
        accept_reset: bool = False,
        accept_shapes: bool = False,
        clock: Callable[[], float] = time.monotonic,
        open_stores: StoreFactory = postgres_stores,
        tracer: Tracer | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self.metrics = ServiceMetrics()
        self._commit_metrics = CommitMetrics(self.metrics)
        self._tracer = tracer or NoopTracer()
        normalizer = configured_normalizer(settings)
        documented = normalizer.shapes.documented if normalizer.shapes else ()
        self.drift_detector = DriftDetector(settings.redact_keys, documented)
        self._claims_store, self._store, store_apart = open_stores(settings, self._note_commit)
        self.counters = ServiceCounters()
        self._membership = GroupMembership(
            settings,
            self._claims_store,
            accept_reset=accept_reset,
            shapes=ShapesFingerprint(normalizer.fingerprint, accept_shapes),
            counters=self.counters,
            clock=clock,
        )
        self.ownership = self._membership.ownership
        self._stopping = self._membership.stopping
        self._parts_set_aside = PartsSetAside(
            store_apart, self._membership, self._note_written, self._note_failure, clock
        )
        self._tasks = asyncio.TaskGroup()
        self.intake = Intake(
            settings,
            normalizer,
            self._membership,
            self._timed,
            self._tasks,
            self._store.may_normalize,
        )
        scheduler = FetchScheduler(self._membership, self._store, self._timed)
        self._filler = BatchFiller(settings, scheduler, self.intake, self._stopping, clock)
        self._deadline = asyncio.timeout(None)
        self._rejections = RejectionLog(_log, clock)
        self._heartbeat_s = clock()
        self._next_heartbeat: asyncio.TimerHandle | None = None
        self._in_flight = InFlightBatch(clock)

    def in_flight_batches(self) -> tuple[InFlightBatch, ...]:
        """Return the batch and the parts set aside that are being written. Safe from any thread."""
        return (self._in_flight, *self._parts_set_aside.in_flight_parts)

    async def run(self) -> None:
        """Fetch, normalize, and store records until `stop` is called.

        Raises FatalError, or any other exception that a bug causes.
        """
        _log.info(
            "consumer.started", topics=self._settings.kafka_topics, owner=self._settings.owner
        )
        self._keep_heartbeat()
        async with contextlib.AsyncExitStack() as opened:
            opened.callback(self._cancel_heartbeat)
            # Open these two stores here, because they're used as long as the service runs. Parts
            # that are set aside are written through a separate store, which PartsSetAside closes
            # when no part is left. In the relay the two are one store, which may be opened twice.
            for store in (self._claims_store, self._store):
                await opened.enter_async_context(store)
            await opened.enter_async_context(self._membership)
            opened.push_async_callback(self.intake.stop_helper)
            try:
                async with self._deadline, self._tasks as tasks:
                    self._membership.start_tasks(tasks)
                    critical = {
                        "writer": self._fetch_and_write,
                        "waits": self._keep_finding_lock_holders,
                        "deadline": self._set_deadline,
                    }
                    start_critical_tasks(tasks, self._stopping, critical)
            except TimeoutError:
                # The claims are released as after any other stop (see `GroupMembership.__aexit__`).
                _log.warning("consumer.deadline_passed", why="batches in flight are rolled back")
            except BaseExceptionGroup as errors:
                raise pick_worst_error(errors, FatalError) from errors
        self._rejections.flush()
        _log.info("consumer.stopped", **msgspec.structs.asdict(self.counters))

    def stop(self) -> None:
        """Make `run` end once the open batches are written, or at the deadline. Returns at once.

        Call it in the thread of the event loop, as the handler of SIGTERM does.
        """
        if not self._stopping.is_set():
            _log.info("consumer.stopping", deadline_s=self._settings.stop_timeout_s)
            self._membership.stop()

    def heartbeat_age_s(self) -> float:
        """Return how many seconds ago the event loop last ran. Safe to call from any thread."""
        return self._clock() - self._heartbeat_s

    def count_partitions_by_state(self) -> dict[str, int]:
        """Return how many partitions this process has, by state."""
        counts = {
            str(state): len(self.ownership.partitions_in_state(state)) for state in PartitionState
        }
        return counts | {"assigned": len(self._membership.assigned_partitions)}

    def is_rebalancing(self) -> bool:
        """Return whether this process is waiting for the group to assign partitions to it."""
        return self._membership.is_rebalancing()

    def _keep_heartbeat(self) -> None:
        """Set the heartbeat now and every half second, as proof that the event loop runs.

        It continues during a stop, which may take minutes.
        """
        self._heartbeat_s = self._clock()
        loop = asyncio.get_running_loop()
        self._next_heartbeat = loop.call_later(HEARTBEAT_EVERY_S, self._keep_heartbeat)

    def _cancel_heartbeat(self) -> None:
        if self._next_heartbeat:
            self._next_heartbeat.cancel()

    async def _set_deadline(self) -> None:
        """Let `run` time out if a stop takes too long. The open batches are then rolled back."""
        await self._stopping.wait()
        now_s = asyncio.get_running_loop().time()
        self._deadline.reschedule(now_s + self._settings.stop_timeout_s)

    async def _fetch_and_write(self) -> None:
        """Fetch, normalize, and write. While one batch is being written, the next is filled."""
        writing: asyncio.Task[None] | None = None
        while not self._stopping.is_set():
            in_spans = self._tracer.begin()
            builder = await self._filler.fill_batch(writing)
            if not builder:
                continue
            await self._wait_for_write(writing)
            writing = self._tasks.create_task(self._write(builder, in_spans), name="write")
        await self._wait_for_write(writing)
        # A slow record is another task of the task group, which wouldn't end before that record is
        # done. So stop the helper process here. `run` stops it too, for the case of an error.
        await self.intake.stop_helper()

    async def _wait_for_write(self, writing: asyncio.Task[None] | None) -> None:
        """Wait until this batch is written, so that only two batches are ever in memory.

        This raises no error of the write. The task group does, which also cancels this task.
        """
        if writing and not writing.done():
            with self._timed("wait"):
                await asyncio.wait([writing])

    async def _write(self, builder: BatchBuilder, in_spans: WriteSpans) -> None:
        """Write the batch, without the parts whose claim was lost since their records were read.

        If it's rolled back, its partitions are claimed and read again.
        """
        batch = without_lost_claims(builder.build(), self.ownership.current_claims)
        if not batch.parts:
            return
        self._count_batch(builder)
        begun_s = self._clock()
        try:
            with in_spans(batch), self._membership.mark_busy("writer"), self._timed("write"):
                await write_with_retry(
                    self._store,
                    batch,
                    stop=self._membership.abort_writes,
                    in_flight=self._in_flight,
                    on_failure=self._note_failure,
                    set_aside=self._set_aside,
                )
        except PartsNotWrittenError as lost:
            # Only the relay's store raises this. The parts that aren't lost are committed.
            self._note_written(batch, lost.reasons)
        except PositionError as lost:
            self._membership.on_rollback(self._in_flight.without_set_aside(batch).parts, [lost])
        except RetryableError as error:
            # A stop or a rebalance has ended the retries.
            _log.info("batch.rolled_back", why=str(error))
            self._membership.on_rollback(self._in_flight.without_set_aside(batch).parts)
        else:
            self._filler.note_write(self._clock() - begun_s)
            self._note_written(self._in_flight.without_set_aside(batch))

    def _set_aside(self, part: PartitionBatch) -> bool:
        """Start to write this part apart from its batch. Returns False if that isn't possible.

        `write_with_retry` calls this for a part that has waited for ten seconds.
        """
        writing = self._parts_set_aside.set_part_aside(part, self._in_flight)
        if writing is None:
            return False
        # Start the task with an empty context. Otherwise it would inherit the batch's tracing span,
        # which ends before this write does.
        self._tasks.create_task(writing, name="write set aside", context=Context())
        return True

    async def _keep_finding_lock_holders(self) -> None:
        """Find out what a slow write waits for."""
        await keep_finding_lock_holders(
            self._stopping,
            self._claims_store,
            lambda: ((self._in_flight, self._store), *self._parts_set_aside.part_being_tried()),
        )

    def _note_written(self, batch: Batch, lost: Sequence[PositionError] = ()) -> None:
        """Note that a batch, or a part set aside, is committed, without the parts in `lost`."""
        self._membership.on_commit(batch, lost)
        self.counters.batches += 1
        lost_keys = {(error.topic, error.partition) for error in lost}
        written = tuple(
            part for part in batch.parts if (part.topic, part.partition) not in lost_keys
        )
        found = self.drift_detector.inspect(Batch(parts=written), self._clock())
        for (shape, kind), count in found.items():
            self.metrics.drift.labels(shape=shape, kind=kind).inc(count)

    def _note_failure(self, error: RetryableError) -> None:
        """Count a failed try of a batch, or of a part that was set aside."""
        self._tracer.note_failure(error)
        self.metrics.count_retry(
            error.sqlstate if isinstance(error, StoreUnavailableError) else None
        )

    def _note_commit(self, written: CommittedBatch) -> None:
        """Count one committed transaction. A batch that was halved has several."""
        self._commit_metrics.count(written, self._tracer.note_commit(written))
        self._rejections.count_rejections(written)
        self.counters.add(msgspec.structs.asdict(written.totals))

    def _count_batch(self, builder: BatchBuilder) -> None:
        """Count the batch by the reason why it was closed."""
        why = "stop" if self._stopping.is_set() else "age"
        if builder.rows >= self._settings.batch_rows:
            why = "rows"
        elif builder.record_bytes >= MAX_BATCH_BYTES:
            why = "bytes"
        self.metrics.batches.labels(closed_by=why).inc()

    @contextlib.contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        """Measure a stage of a batch: wait, fetch, normalize, or write."""
        begun_s = self._clock()
        try:
            yield
        finally:
            seconds = self._clock() - begun_s
            self.metrics.observe_stage(stage, seconds)
            self._tracer.note(stage, seconds)
