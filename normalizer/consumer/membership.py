"""Keeps this process in the consumer group, and its partitions claimed.

It runs four tasks. The first one joins the group and claims the assigned partitions, and does so
again after each rebalance and each outage. The second one checks that unverified logs still contain
the records that were read from them. The third one commits offsets to Kafka. The fourth one rejoins
the group when a partition has unread records but makes no progress.

A rebalance ends all claims at once, in a callback of the Kafka client. So does joining the group
again, which is needed after the client has failed. As long as PostgreSQL or the brokers just don't
respond, the tasks retry, and earlier claims stay valid. SIGTERM cancels the tasks, and leaving the
`async with` block leaves the group.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Final, Self

from normalizer.config.settings import Settings
from normalizer.consumer.critical_tasks import start_critical_tasks
from normalizer.consumer.group_offsets import GroupOffsetCommitter
from normalizer.consumer.ownership import PartitionOwnership
from normalizer.consumer.partition_claimer import PartitionClaimer
from normalizer.consumer.record_store import RecordStore
from normalizer.consumer.watchdog import ProgressWatchdog
from normalizer.core.batch import Batch, PartitionBatch
from normalizer.errors import (
    BrokerUnavailableError,
    PositionError,
    RestartNeededError,
    RetryableError,
)
from normalizer.kafka import FetchedChunk, GrouplessClient, GroupReader, KafkaPartition
from normalizer.runtime.backoff import backoff_delay_s, wait_at_most
from normalizer.runtime.logging_setup import OutageLogger, ServiceCounters, get_logger
from normalizer.store.claim_checks import ShapesFingerprint

_CLAIM_EVERY_S: Final = 0.25
"""How often to look for partitions to claim."""
_VERIFY_EVERY_S: Final = 0.5
"""How often to retry the check of logs that couldn't be checked."""
_CHECK_LOST_EVERY_S: Final = 2.0
"""How often to look for lost claims."""
_REJOIN_TIMEOUT_S: Final = 10.0
"""The process exits if its Kafka client takes longer than this to stop before a rejoin."""
_LEAVE_TIMEOUT_S: Final = 5.0
"""How long releasing the claims may take at the end, and how long leaving the group."""

_log: Final = get_logger()


class GroupMembership:
    """This process's membership in the consumer group.

    Call `start_tasks` inside its `async with` block.
    """

    def __init__(
        self,
        settings: Settings,
        store: RecordStore,
        *,
        accept_reset: bool,
        shapes: ShapesFingerprint,
        counters: ServiceCounters,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._store = store
        self._counters = counters
        self._clock = clock
        self._kafka = GrouplessClient(settings)
        self._verification_due = asyncio.Event()
        self._reader = GroupReader(
            settings,
            on_assigned=self._on_assigned,
            on_revoked=self._on_revoked,
            on_unverified=self._verification_due.set,
        )
        self.ownership = PartitionOwnership(self._reader, counters=counters, clock=clock)
        self._claims = PartitionClaimer(
            self._reader,
            self._kafka,
            store,
            self.ownership,
            group_id=settings.kafka_group_id,
            accept_reset=accept_reset,
            shapes=shapes,
            counters=counters,
        )
        self._watchdog = ProgressWatchdog(
            self._reader,
            self._kafka,
            self.ownership,
            limit_s=settings.progress_timeout_s,
            clock=clock,
        )
        self.stopping = asyncio.Event()
        self.abort_writes = asyncio.Event()
        """A stop or a rebalance sets it, which ends the retries of the writes that hold it. After a
        rebalance it's a new event, so each write takes the present one when it begins."""
        self._wake_claims = asyncio.Event()
        self._must_rejoin = True
        """Whether to join the group in the next round of claims, as the first round does."""
        self._must_release = False
        """Whether to record that this process works on no record, after a rebalance."""
        self._join_task: asyncio.Task[RetryableError | None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._is_claiming = False
        """Whether `_join_task` is claiming, so that a rebalance must cancel it."""
        self._checked_lost_at_s = clock()
        self._rollbacks: Counter[KafkaPartition] = Counter()
        """How often each partition was rolled back since its last commit or the last rebalance. If
        no record follows, the rounds of claims stay slower, which delays a claim by 2 s at most.
        """
        self._group_offsets = GroupOffsetCommitter(self._reader, self.ownership, store)
        self._outage = OutageLogger(_log, clock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Commit the last offsets, release the claims, and leave the group."""
        await self._group_offsets.commit()
        if kind is None:
            # Release the claims only after a normal end. An error may have been caused by a record
            # that this process was reading. The claims then stay unreleased, which tells the next
            # owner of each partition to look for such a record. A stop whose deadline passed is a
            # normal end too. No record has hung the event loop, or else the deadline's timer
            # couldn't have run.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LEAVE_TIMEOUT_S):
                    await self._record_idle()
        if not await self._reader.leave_group(timeout_s=_LEAVE_TIMEOUT_S):
            _log.warning(
                "group.left_uncleanly",
                why="the group will notice after the session timeout",
            )
        await self._kafka.close()

    def start_tasks(self, tasks: asyncio.TaskGroup) -> None:
        """Start the tasks. They run until `stop_tasks` is called."""
        self._tasks = start_critical_tasks(
            tasks,
            self.stopping,
            {
                "claims": partial(self._keep_claims, tasks),
                "verification": self._keep_verifying,
                "commits": partial(self._group_offsets.keep_committing, self.stopping),
                "watch": self._watch,
            },
        )

    def stop_tasks(self) -> None:
        """End the tasks, and abort writes that wait for the end of an outage.

        A batch in flight may still finish. The tasks are cancelled rather than awaited, because
        some of them may wait for a response that never comes, for example from a silent broker.
        None of them has anything to finish.
        """
        self.stopping.set()
        self.abort_writes.set()
        for task in (self._join_task, *self._tasks):
            if task:
                task.cancel()

    @property
    def assigned_partitions(self) -> Collection[KafkaPartition]:
        """Return the partitions that the group assigns to this process."""
        return self._reader.assigned

    def is_rebalancing(self) -> bool:
        """Return whether this process is waiting for the group to assign partitions to it."""
        return self._reader.rebalancing

    async def fetch(
        self, partitions: Collection[KafkaPartition], *, max_records: int, timeout_s: float
    ) -> list[FetchedChunk]:
        """Return new records of these partitions, with the errors of `GroupReader.fetch`."""
        return await self._reader.fetch(partitions, max_records=max_records, timeout_s=timeout_s)

    def note_progress(self, partition: KafkaPartition) -> None:
        """Note that records of the partition have arrived, so it isn't stuck."""
        self._watchdog.note_progress(partition)

    def suspend_watchdog(self, worker: str) -> AbstractContextManager[None]:
        """Mark `worker` as busy within the block. While it's busy, no partition counts as stuck.

        The worker is, for example, the writer or the helper process. Partitions may have to wait
        for it, so their lack of progress isn't the consumer's fault.
        """
        return self._watchdog.suspend(worker)

    def on_batch_committed(self, batch: Batch, lost: Sequence[PositionError] = ()) -> None:
        """Note that the batch was committed, except for the parts whose errors are in `lost`."""
        errors = {KafkaPartition(error.topic, error.partition): error for error in lost}
        for part in batch.parts:
            partition = KafkaPartition(part.topic, part.partition)
            if error := errors.get(partition):
                self._end_claim(part, error)
                continue
            self._group_offsets.note_position(partition, part.next_offset)
            self._rollbacks.pop(partition, None)
            self.ownership.suspects.note_commit(partition, len(part.items), part.next_offset)

    def on_rollback(self, batch: Batch, why: PositionError | RetryableError) -> None:
        """End the claims of a rolled-back batch, so that its partitions are claimed and read again.

        How long this process waits before it claims any partition again depends on the partition
        that was rolled back most often in a row.
        """
        if isinstance(why, RetryableError):
            _log.info("batch.rolled_back", why=str(why))
        for part in batch.parts:
            self._end_claim(part, why)

    def _end_claim(self, part: PartitionBatch, why: PositionError | RetryableError) -> None:
        """Release the claim of a part that wasn't written, or drop it if it's the one lost."""
        partition = KafkaPartition(part.topic, part.partition)
        if isinstance(why, PositionError) and partition == (why.topic, why.partition):
            self.ownership.drop_claim(partition, part.epoch, why)
        else:
            self.ownership.release_for_new_claim(partition, part.epoch)
        self._rollbacks[partition] += 1

    def request_rejoin(self, why: str) -> None:
        """Leave the group and rejoin it with a new client, in the next round of claims."""
        if not self._must_rejoin:
            self._counters.rejoins += 1
            _log.warning("group.rejoining", why=why)
        self._must_rejoin = True

    async def _keep_claims(self, tasks: asyncio.TaskGroup) -> None:
        """Join and claim in rounds, one every _CLAIM_EVERY_S, or later after failures.

        Each round is a task of its own, so that a rebalance can cancel it.
        """
        while not self.stopping.is_set():
            self._wake_claims.clear()
            self._join_task = tasks.create_task(self._join_and_claim(), name="join and claim")
            await asyncio.wait([self._join_task])
            is_cancelled = self._join_task.cancelled()
            error = None if is_cancelled else self._join_task.result()
            tries = self._outage.count_failure(error) if error else 0
            # A rebalance cancels the task, but doesn't end an outage.
            if not (error or is_cancelled) and self._outage.count_success():
                self._watchdog.restart_clock()
            failures = max([tries, *self._rollbacks.values()])
            wait_s = backoff_delay_s(failures) if failures else _CLAIM_EVERY_S
            await wait_at_most(self._wake_claims, wait_s)

    async def _join_and_claim(self) -> RetryableError | None:
        """Join the group if necessary, and try once to claim its partitions.

        A RetryableError is returned rather than raised, because an exception would end all other
        tasks of the group too.
        """
        try:
            if self._must_rejoin:
                if not await self._reader.leave_group(timeout_s=_REJOIN_TIMEOUT_S):
                    raise RestartNeededError(
                        f"the Kafka client did not stop in {_REJOIN_TIMEOUT_S:.0f} s, so this "
                        "process can't rejoin the group and exits. Once restarted, it continues "
                        "from the last commit"
                    )
                await self._find_topics()
                await self._reader.join_group()
                self._must_rejoin = False
            if self._must_release:
                await self._record_idle()
            # Call `fetch` without partitions. It reads nothing, but no other method raises the
            # errors of the consumer group, and they should be noticed before any partition is
            # claimed.
            await self._reader.fetch((), max_records=1, timeout_s=0.0)
            self._is_claiming = True
            with self._watchdog.suspend("claims"):
                await self._drop_lost_claims()
                await self._claims.claim_unclaimed_partitions()
        except RetryableError as error:
            if isinstance(error, BrokerUnavailableError) and not self._is_claiming:
                self.request_rejoin(str(error))
            return error
        finally:
            self._is_claiming = False
        return None

    async def _record_idle(self) -> None:
        """Record that this process works on no record now, so that the next owner suspects none.

        It does nothing in an outage.
        """
        self._must_release = False
        with contextlib.suppress(RetryableError):
            await self._store.mark_owner_idle()

    async def _drop_lost_claims(self) -> None:
        """Drop lost claims, every two seconds.

        It ignores an outage, because the tasks that write report it.
        """
        if self._clock() < self._checked_lost_at_s + _CHECK_LOST_EVERY_S:
            return
        self._checked_lost_at_s = self._clock()
        with contextlib.suppress(RetryableError):
            await self._claims.drop_lost_claims()

    async def _find_topics(self) -> None:
        """Raise BrokerUnavailableError for a missing topic, so that aiokafka never creates it."""
        for topic in self._settings.kafka_topics:
            if not await self._kafka.partitions(topic):
                raise BrokerUnavailableError(
                    f"topic {topic} does not exist: create it, or correct KAFKA_TOPICS"
                )

    def _on_assigned(self) -> None:
        self._counters.rebalances += 1
        _log.info("group.partitions_assigned", partitions=sorted(map(str, self._reader.assigned)))
        self.ownership.make_stopped_partitions_claimable()
        self._watchdog.note_rebalance_ended()
        self._wake_claims.set()

    def _on_revoked(self) -> None:
        """Drop all claims, and abort writes that wait for the end of an outage.

        A batch in flight may still finish. A claim that still waits for a lock is cancelled. If it
        got the lock later, it would take the partition away from its new owner.
        """
        self._watchdog.note_rebalance_begun()
        if self.ownership.last_claims:
            self._must_release = True
            self._wake_claims.set()
        self.ownership.revoke_all_claims()
        self._rollbacks.clear()
        if self._is_claiming and self._join_task:
            self._join_task.cancel()
        if not self.stopping.is_set():
            self.abort_writes.set()
            # The event that is set now aborts the writes in flight. Make a new one for later
            # writes, so that they aren't aborted too.
            self.abort_writes = asyncio.Event()

    async def _keep_verifying(self) -> None:
        """Compare unverified logs as soon as there are any, and retry until the broker responds."""
        outage = OutageLogger(_log, self._clock)
        while not self.stopping.is_set():
            self._verification_due.clear()
            try:
                await self._claims.verify_logs()
            except RetryableError as error:
                outage.count_failure(error)
            else:
                outage.count_success()
            if not self._reader.unverified_partitions():
                await self._verification_due.wait()
            else:
                await wait_at_most(self.stopping, _VERIFY_EVERY_S)

    async def _watch(self) -> None:
        """Rejoin the group when anything is stuck.

        Raises RestartNeededError if that doesn't help.
        """
        limit_s = self._settings.progress_timeout_s
        while not await wait_at_most(self.stopping, limit_s / 8):
            if self._outage or self._watchdog.is_busy_for_long():
                self._watchdog.restart_clock()
                continue
            stuck = await self._watchdog.find_stuck_partitions()
            if stuck is None:
                continue
            why = (
                f"this process has made no progress in {limit_s} s, although records wait in "
                f"{', '.join(sorted(stuck))}"
            )
            if self._watchdog.note_and_check_stuck_again(stuck) and not self._must_rejoin:
                raise RestartNeededError(
                    f"{why}. Rejoining the group did not help, so this process exits. Once "
                    "restarted, it continues from the last commit"
                )
            self.request_rejoin(why)
