"""The loop: reads records of a consumer group and writes canonical rows, until `stop`.

Each writer has its own partitions and one connection. It fetches and normalizes the next batch
while its last one is written, and fetches no more once that next batch is full: so memory is
bounded. `membership` and `ownership` decide which partitions a writer has.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Final

import msgspec

from normalizer.configured_rules import normalizer_of
from normalizer.core.batch import Batch
from normalizer.core.batch_builder import BatchBuilder
from normalizer.core.drift import DriftDetector
from normalizer.errors import (
    BrokerUnavailable,
    FatalError,
    PositionError,
    RetryableError,
    StoreUnavailable,
    worst_of,
)
from normalizer.kafka import FetchedChunk, KafkaPartition, UnreadableBatch
from normalizer.process.pause import wait_at_most
from normalizer.service.commit_metrics import CommitMetrics
from normalizer.service.critical_tasks import start_critical_tasks
from normalizer.service.intake import Intake, held_parts
from normalizer.service.membership import Membership
from normalizer.service.record_store import RecordStore, StoresOf, postgres_stores
from normalizer.service.service_metrics import ServiceMetrics
from normalizer.service.tracing import Untraced
from normalizer.settings import Settings
from normalizer.store.quarantine_reader import RejectionLog
from normalizer.store.retry import InFlightBatch, write_with_retry
from normalizer.store.store import Claim, CommittedBatch, ShapesOfProcess
from normalizer.telemetry import ServiceCounters, get_logger

RECORDS_A_FETCH: Final = 500
HEARTBEAT_S: Final = 0.5
IDLE_S: Final = 0.5
WRITES_OF_AGE: Final = 3.0
"""A batch is due once it is as old as this many of its writer's last writes, at most at its
greatest age: a writer with little to do then writes a third of its time."""
PAUSE_S: Final = 0.01
FEW_RECORDS: Final = 100
"""After a fetch of fewer, the next one waits for more to arrive: a fetch costs as much as
normalizing some ten records."""

_log: Final = get_logger()


class Service:
    """One process of the group. `run` ends after `stop`, or with an error that no retry cures."""

    def __init__(
        self,
        settings: Settings,
        *,
        accept_reset: bool = False,
        accept_shapes: bool = False,
        clock: Callable[[], float] = time.monotonic,
        open_stores: StoresOf = postgres_stores,
        spans: Untraced | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self.metrics = ServiceMetrics()
        self._commit_metrics = CommitMetrics(self.metrics)
        self._spans = spans or Untraced()
        normalizer = normalizer_of(settings)
        documented = normalizer.shapes.documented if normalizer.shapes else ()
        self.drift_detector = DriftDetector(settings.redact_keys, documented)
        self._claims_store, *self._writer_stores = open_stores(settings, self._note_commit)
        self.counters = ServiceCounters()
        self.membership = Membership(
            settings,
            self._claims_store,
            accept_reset=accept_reset,
            shapes=ShapesOfProcess(normalizer.fingerprint, accept_shapes),
            counters=self.counters,
            clock=clock,
        )
        self.reader = self.membership.reader
        self.ownership = self.membership.ownership
        self._stopping = self.membership.stopping
        self.intake = Intake(settings, normalizer, self.membership, self._timed)
        self._left: dict[int, list[tuple[Claim, FetchedChunk]]] = {}
        self._tasks = asyncio.TaskGroup()
        self._deadline = asyncio.timeout(None)
        self._refusals = RejectionLog(_log, clock)
        self._heartbeat_s = clock()
        self._in_flight = [InFlightBatch(clock) for _ in self._writer_stores]
        self._last_write_s = [0.0] * settings.writers

    async def run(self) -> None:
        """Read, normalize and store until `stop`. Raises FatalError."""
        _log.info("started", topics=self._settings.kafka_topics, owner=self._settings.owner)
        self._keep_heartbeat()
        async with contextlib.AsyncExitStack() as opened:
            opened.callback(self._cancel_heartbeat)
            for store in (self._claims_store, *self._writer_stores):
                await opened.enter_async_context(store)
            await opened.enter_async_context(self.membership)
            opened.push_async_callback(self.intake.normalizer_process.stop)
            try:
                async with self._deadline, self._tasks as tasks:
                    self.membership.start(tasks)
                    writers = {
                        f"writer {number}": partial(self._run_writer, number, store)
                        for number, store in enumerate(self._writer_stores)
                    }
                    works = {"deadline": self._set_deadline}
                    start_critical_tasks(tasks, self._stopping, {**writers, **works})
            except TimeoutError:
                _log.warning("deadline_passed", why="batches in flight are rolled back")
            except BaseExceptionGroup as errors:
                raise worst_of(errors, FatalError) from errors
        self._refusals.flush()
        _log.info("stopped", **msgspec.structs.asdict(self.counters))

    def stop(self) -> None:
        """Write open batches within the deadline, then end `run`; does not wait."""
        if not self._stopping.is_set():
            _log.info("stopping", deadline_s=self._settings.stop_timeout_s)
            self.membership.stop()

    def heartbeat_age_s(self) -> float:
        """Time since the event loop last ran; like all below, safe to call from any thread."""
        return self._clock() - self._heartbeat_s

    def in_flight(self) -> list[tuple[InFlightBatch, int | None]]:
        """What each writer writes, and the server process that does it."""
        pids = [store.server_pid for store in self._writer_stores]
        return list(zip(self._in_flight, pids, strict=True))

    def partitions(self) -> dict[str, int]:
        """How many partitions this process has, by state."""
        ownership = self.ownership
        return {
            "assigned": len(self.reader.assigned),
            "claimed": len(ownership.held),
            "fenced": len(ownership.fenced),
            "stopped": len(ownership.stopped),
        }

    def _keep_heartbeat(self) -> None:
        """Note that the event loop runs, for as long as it does: a stop may take minutes."""
        self._heartbeat_s = self._clock()
        loop = asyncio.get_running_loop()
        self._next_heartbeat = loop.call_later(HEARTBEAT_S, self._keep_heartbeat)

    def _cancel_heartbeat(self) -> None:
        self._next_heartbeat.cancel()

    async def _set_deadline(self) -> None:
        await self._stopping.wait()
        now_s = asyncio.get_running_loop().time()
        self._deadline.reschedule(now_s + self._settings.stop_timeout_s)

    async def _run_writer(self, writer: int, store: RecordStore) -> None:
        """Fetch, normalize and write; the next batch fills while the last one is written."""
        writing: asyncio.Task[None] | None = None
        while not self._stopping.is_set():
            builder = await self._build_batch(writer, writing)
            if writing:
                with self._timed("wait", writer):
                    await asyncio.wait([writing])
            batch = held_parts(builder.build(), self.ownership.held)
            if batch.parts:
                self._count_batch(builder)
                work = self._write(writer, store, batch, self._spans.batch(writer, batch))
                writing = self._tasks.create_task(work, name=f"write {writer}")
        if writing:
            await asyncio.wait([writing])

    async def _build_batch(self, writer: int, writing: asyncio.Task[None] | None) -> BatchBuilder:
        """Return a batch that is full, or due while the writer is free to write it."""
        settings = self._settings
        builder = BatchBuilder()
        self._spans.begin(writer)
        due_s: float | None = None
        fetched = 0
        room = RECORDS_A_FETCH
        while not self.intake.is_full(builder):
            is_writer_free = writing is None or writing.done()
            left_s = IDLE_S if due_s is None else due_s - self._clock()
            if self._stopping.is_set() or (is_writer_free and left_s <= 0 and fetched < room):
                break
            wait_s = IDLE_S if due_s is None else PAUSE_S
            if due_s is not None and fetched < min(room, FEW_RECORDS):
                await self._pause(writing, left_s)
                wait_s = 0.0
            room = min(settings.batch_rows - builder.rows, RECORDS_A_FETCH)
            chunks = self._left.pop(writer, None) or await self._fetch(writer, room, wait_s)
            fetched = sum([len(chunk.records) for _, chunk in chunks])
            for at, (claim, chunk) in enumerate(chunks, 1):
                rest = await self.intake.add_chunk(writer, builder, claim, chunk)
                if rest or self.intake.is_full(builder):
                    self._left[writer] = ([(claim, rest)] if rest else []) + chunks[at:]
                    return builder
            if builder and due_s is None:
                due_s = self._clock() + self._age_s(writer)
        return builder

    async def _pause(self, writing: asyncio.Task[None] | None, left_s: float) -> None:
        """Wait until the batch is due, then for its writer, but no longer than PAUSE_S."""
        if left_s > 0:
            await wait_at_most(self._stopping, min(left_s, PAUSE_S))
        elif writing:
            await asyncio.wait([writing], timeout=PAUSE_S)

    def _age_s(self, writer: int) -> float:
        """How old a batch of this writer may become before it is written."""
        return min(self._settings.batch_age_ms / 1000, WRITES_OF_AGE * self._last_write_s[writer])

    async def _fetch(
        self, writer: int, room: int, wait_s: float
    ) -> list[tuple[Claim, FetchedChunk]]:
        """Return chunks with the claims held at that moment: a later claim must not cover them."""
        try:
            with self._timed("fetch", writer):
                chunks = await self.reader.fetch(
                    self.ownership.partitions_of(writer), max_records=room, timeout_s=wait_s
                )
            held = self.ownership.held
            return [(held[one.partition], one) for one in chunks if one.partition in held]
        except BrokerUnavailable as error:
            self.membership.rejoin(str(error))
            await asyncio.sleep(IDLE_S)
        except UnreadableBatch as error:
            self.ownership.stop(KafkaPartition(error.topic, error.partition), error)
        return []

    async def _write(
        self, writer: int, store: RecordStore, batch: Batch, spans: AbstractContextManager[None]
    ) -> None:
        """Write the batch; if that fails for good, claim its partitions again."""
        begun_s = self._clock()
        try:
            with spans, self.membership.watchdog.busy(writer), self._timed("write", writer):
                totals = await write_with_retry(
                    store,
                    batch,
                    stop=self.membership.abort_writes,
                    in_flight=self._in_flight[writer],
                    on_failure=self._note_failure,
                )
        except* PositionError as errors:
            lost = [error for error in errors.exceptions if isinstance(error, PositionError)]
            self.membership.on_rollback(batch, lost)
        except* RetryableError as errors:
            _log.info("batch_rolled_back", why=str(errors.exceptions[0]))
            self.membership.on_rollback(batch)
        else:
            self._last_write_s[writer] = self._clock() - begun_s
            self.membership.on_commit(batch)
            self.counters.batches += 1
            self.counters.add(msgspec.structs.asdict(totals))
            for (shape, kind), count in self.drift_detector.inspect(batch, self._clock()).items():
                self.metrics.drift.labels(shape=shape, kind=kind).inc(count)

    def _note_failure(self, error: RetryableError) -> None:
        self._spans.failed(error)
        self.metrics.count_retry(error.sqlstate if isinstance(error, StoreUnavailable) else None)

    def _note_commit(self, written: CommittedBatch) -> None:
        self._commit_metrics.count(written, self._spans.committed(written))
        self._refusals.add(written)

    def _count_batch(self, builder: BatchBuilder) -> None:
        why = "stop" if self._stopping.is_set() else "age"
        if builder.rows >= self._settings.batch_rows:
            why = "rows"
        elif builder.record_bytes >= self._settings.batch_bytes:
            why = "bytes"
        self.metrics.batches.labels(closed_by=why).inc()

    @contextlib.contextmanager
    def _timed(self, stage: str, writer: int) -> Iterator[None]:
        begun_s = self._clock()
        try:
            yield
        finally:
            seconds = self._clock() - begun_s
            self.metrics.observe_stage(stage, seconds)
            self._spans.note(writer, stage, seconds)
