"""The loop of the service: fetches the records of a group and writes canonical rows.

Offsets    commit in PostgreSQL with the rows. Kafka's own offsets are for lag tools only.
Rebalance  ends all claims. A batch in flight may still commit, but if it fails, it isn't tried
           again. The new owner's claim waits until its transaction has ended.
Crash      loses nothing. The next owner reads from the stored position, a few records at first, to
           find one that kills its process (see `suspects`).
Outage     of PostgreSQL: the batch is retried, and reading pauses when the next one is full.
           Of Kafka: claims stay valid, unless the client fails and has to join the group again.
SIGTERM    ends the retries, writes the batches in memory (or rolls them back at a deadline), and
           leaves the group. Whatever wasn't committed is read again by the next owner.
Relay      writes the events to Kafka instead of PostgreSQL, by this loop with its own stores
           (`open_stores`). What's said of Crash and SIGTERM holds there too. Offsets commit in
           Kafka with the output, a claim aborts the transaction in flight, and a part that fails is
           claimed again and not retried (PartsNotWrittenError).

`membership` claims partitions, `batch_filler` fills batches, and this module writes them one after
the other. A batch has a part for each of its partitions. Memory holds the batch that's being
written, the one that's being filled, and the records of a fetch for which that has no room. A part
that's blocked is set aside, so that the others needn't wait for it, and all such parts may have the
bytes of one more batch (see `set_aside`). Add processes to write in parallel.

After SIGTERM, each batch in memory gets at most one more try, and a part set aside gets none. If
the first batch fails, the second one is written without the partitions of the first, because their
records would come after a gap.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from contextvars import Context
from functools import partial
from typing import Final

import msgspec

from normalizer.config.configured_rules import configured_normalizer
from normalizer.config.settings import Settings
from normalizer.consumer.batch_filler import BatchFiller, FilledBatch
from normalizer.consumer.batch_observer import BatchObserver
from normalizer.consumer.chunk_normalizer import ChunkNormalizer, only_current_claims
from normalizer.consumer.critical_tasks import start_critical_tasks
from normalizer.consumer.fetch_scheduler import FetchScheduler
from normalizer.consumer.lock_waits import keep_finding_lock_holders
from normalizer.consumer.membership import GroupMembership
from normalizer.consumer.partition_state import PartitionState
from normalizer.consumer.record_store import RecordStore, StoreFactory, postgres_stores
from normalizer.consumer.set_aside import PartsSetAside
from normalizer.core.batch import Batch, PartitionBatch
from normalizer.errors import (
    FatalError,
    PartsNotWrittenError,
    PositionError,
    RetryableError,
    pick_error_by_kind_order,
)
from normalizer.observability.tracer import MakeWriteSpans, NoopTracer, Tracer
from normalizer.runtime.logging_setup import ServiceCounters, get_logger
from normalizer.runtime.loop_heartbeat import LoopHeartbeat
from normalizer.store.claim_checks import ShapesFingerprint
from normalizer.store.write_retry import InFlightBatch, write_with_retry

_log: Final = get_logger()


class Service:
    """One process of the consumer group.

    Make it in a running event loop, and call `run` once. It ends after `stop`, or with an error
    that no retry can fix. If no server responds, that may be half a minute after the deadline of a
    stop: 6 s to cancel statements and end the helper process, three steps of 5 s (to commit
    offsets, to release the claims, and to leave the group), and 5 s for each of the two clients
    outside of the group (see `GroupMembership.__aexit__`). The relay then closes the clients of its
    store as well.

    - `accept_reset` and `accept_shapes` are an operator's consent to read a recreated topic, and to
      read partitions with another table of shapes (--accept-reset, --accept-shapes).
    - `clock` returns monotonic seconds. It measures waits and durations.
    - `open_stores` makes the stores, for example those of the relay.
    - `tracer` begins the spans of each batch. By default there are none.

    The attributes without an underscore are for `monitoring`, which reads them in other threads.
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
        # Each object needs only those that are made above it, so a wrong order fails at once.
        self._settings = settings
        self._clock = clock
        self.heartbeat = LoopHeartbeat(clock)
        self.counters = ServiceCounters()
        self._tracer = tracer or NoopTracer()
        normalizer = configured_normalizer(settings)
        self.observer = BatchObserver(
            settings, normalizer.shapes, self.counters, self._tracer, clock
        )
        self._stores = open_stores(settings, self.observer.count_commit)
        self._membership = GroupMembership(
            settings,
            self._stores.claims,
            accept_reset=accept_reset,
            shapes=ShapesFingerprint(normalizer.fingerprint, accept_shapes),
            counters=self.counters,
            clock=clock,
        )
        self.ownership = self._membership.ownership
        self._stopping = self._membership.stopping
        self._deadline = asyncio.timeout(None)
        self._tasks = asyncio.TaskGroup()
        self.chunk_normalizer = ChunkNormalizer(
            settings,
            normalizer,
            self._membership,
            self.observer.measure_stage,
            self._tasks,
            self._stores.batches.normalizing_gate,  # cleared while short statements run
        )
        scheduler = FetchScheduler(
            self._membership, self._stores.batches, self.observer.measure_stage
        )
        self._filler = BatchFiller(
            settings, scheduler, self.chunk_normalizer, self._stopping, clock
        )
        self._in_flight = InFlightBatch(clock)
        self._parts_set_aside = PartsSetAside(
            self._stores.set_aside,
            self._membership,
            self._note_written,
            self.observer.count_failure,
            clock,
        )

    def in_flight_batches(self) -> tuple[InFlightBatch, ...]:
        """Return the batch, and every part set aside. Safe to call from any thread."""
        return (self._in_flight, *self._parts_set_aside.all_parts)

    async def run(self) -> None:
        """Fetch, normalize, and store records until `stop` is called.

        Raises FatalError, or any other exception that a bug causes.
        """
        _log.info(
            "consumer.started",
            topics=self._settings.kafka_topics,
            owner=self._settings.process_name,
        )
        async with contextlib.AsyncExitStack() as opened:
            opened.callback(self.observer.flush_rejections)  # last, also after an error
            opened.enter_context(self.heartbeat)
            # Open these two stores here, because they're used as long as the service runs. Parts
            # that are set aside are written through a separate store, which PartsSetAside closes
            # when no part is left. In the relay the two are one store, which may be opened twice.
            for store in (self._stores.claims, self._stores.batches):
                await opened.enter_async_context(store)
            await opened.enter_async_context(self._membership)
            opened.push_async_callback(self.chunk_normalizer.stop_helper)
            try:
                async with self._deadline, self._tasks as tasks:
                    self._membership.start_tasks(tasks)
                    start_critical_tasks(
                        tasks,
                        self._stopping,
                        {
                            "writer": self._fetch_and_write,
                            "lock holders": partial(
                                keep_finding_lock_holders,
                                self._stopping,
                                self._stores.claims,  # the others are those that may be waiting
                                self._writes_in_progress,
                            ),
                            "deadline": self._set_deadline,
                        },
                    )
            except TimeoutError:
                # Only the deadline raises this bare, because an error of a task comes in a group.
                # The claims are released as after any other stop (see `GroupMembership.__aexit__`).
                _log.warning("consumer.deadline_passed", why="batches in flight are rolled back")
            except BaseExceptionGroup as errors:
                raise pick_error_by_kind_order(errors, FatalError) from errors
        _log.info("consumer.stopped", **msgspec.structs.asdict(self.counters))

    def stop(self) -> None:
        """Make `run` end once the open batches are written, or at the deadline. Returns at once.

        Call it in the thread of the event loop, as the handler of SIGTERM does.
        """
        if not self._stopping.is_set():
            _log.info("consumer.stopping", deadline_s=self._settings.stop_timeout_s)
            self._membership.stop_tasks()

    def count_partitions(self) -> dict[str, int]:
        """Return the values of the metric `normalizer_partitions`.

        `assigned` counts all partitions that the group assigned to this process, whatever their
        state. The other counts say how many are in these states, so they aren't parts of a sum.
        """
        counts = {
            str(state): len(self.ownership.partitions_in_state(state)) for state in PartitionState
        }
        return counts | {"assigned": len(self._membership.assigned_partitions)}

    def is_rebalancing(self) -> bool:
        """Return whether this process is waiting for the group to assign partitions to it."""
        return self._membership.is_rebalancing()

    async def _set_deadline(self) -> None:
        """Let `run` time out if a stop takes too long. The open batches are then rolled back."""
        await self._stopping.wait()
        now_s = asyncio.get_running_loop().time()
        self._deadline.reschedule(now_s + self._settings.stop_timeout_s)

    async def _fetch_and_write(self) -> None:
        """Fetch, normalize, and write. While one batch is being written, the next is filled."""
        writing: asyncio.Task[None] | None = None
        while not self._stopping.is_set():
            make_spans = self._tracer.begin_filling_batch()
            filled = await self._filler.fill_batch(writing)
            if filled is None:  # a stop or a new suspect came before any record
                continue
            await self._wait_for_write(writing)
            writing = self._tasks.create_task(self._write(filled, make_spans), name="write")
        await self._wait_for_write(writing)
        # A slow record is another task of the task group, which wouldn't end before that record is
        # done. So stop the helper process here. `run` stops it too, for the case of an error.
        await self.chunk_normalizer.stop_helper()

    async def _wait_for_write(self, writing: asyncio.Task[None] | None) -> None:
        """Wait until this batch is written, so that at most two batches are ever in memory.

        This raises no error of the write. The task group does, which also cancels this task.
        """
        if writing and not writing.done():
            with self.observer.measure_stage("wait"):
                await asyncio.wait([writing])

    async def _write(self, filled: FilledBatch, make_spans: MakeWriteSpans) -> None:
        """Write the parts of the batch that are still claimed (see `only_current_claims`).

        If the batch is rolled back, its partitions are claimed and read again.
        """
        batch = only_current_claims(filled.batch, self.ownership.current_claims)
        if not batch.parts:
            return
        self.observer.count_closed(filled.closed_by)
        begun_s = self._clock()
        measured = self.observer.measure_stage("write")
        lost: Sequence[PositionError] = ()
        try:
            # Take `abort_writes` once. A rebalance sets it, and makes a new one for later writes.
            with make_spans(batch), self._membership.suspend_watchdog("writer"), measured:
                await write_with_retry(
                    self._stores.batches,
                    batch,
                    stop=self._membership.abort_writes,
                    in_flight=self._in_flight,
                    on_failure=self.observer.count_failure,
                    set_aside=self._set_aside,
                )
        except PartsNotWrittenError as error:
            # Only the relay's store raises this. The parts that aren't lost are committed.
            lost = error.reasons
        except (PositionError, RetryableError) as error:
            # A claim was lost, or a stop or a rebalance has ended the retries. If the batch was
            # halved, earlier pieces of it stay committed. `count_commit` has counted their records,
            # but the batch isn't counted as written. Their offsets aren't committed to the group
            # here either, because the next claim starts there and commits its first offset.
            self._membership.on_rollback(self._in_flight.without_set_aside(batch), error)
            return
        self._filler.note_write_duration(self._clock() - begun_s)
        self._note_written(self._in_flight.without_set_aside(batch), lost)

    def _note_written(self, batch: Batch, lost: Sequence[PositionError] = ()) -> None:
        """Note that a batch, or a part set aside, is committed, without the parts in `lost`."""
        self._membership.on_batch_committed(batch, lost)
        self.observer.count_written(batch, lost)

    def _set_aside(self, part: PartitionBatch) -> bool:
        """Start to write this part apart from its batch. Returns False if that isn't possible.

        `write_with_retry` calls this for a part that has waited for ten seconds.
        """
        writing = self._parts_set_aside.set_aside_and_get_writer(part, self._in_flight)
        if writing is None:
            return False
        # The task group still takes tasks. If it were ending, it would have cancelled the task that
        # calls this, at an `await` before the call.
        #
        # Start the task with an empty context. Otherwise it would inherit the batch's tracing span,
        # which ends before this write does. So the tries of a part set aside are in no span.
        self._tasks.create_task(writing, name="write set aside", context=Context())
        return True

    def _writes_in_progress(self) -> Sequence[tuple[InFlightBatch, RecordStore]]:
        """Return the batch, and the one part set aside whose turn it is, each with its store."""
        batch = (self._in_flight, self._stores.batches)
        return (batch, *self._parts_set_aside.part_being_tried())
