"""A consumer group in, partitions that may be read and written out, as long as we live.

One task joins the group and claims what it assigns, again after each rebalance and outage; one
compares a log in doubt with what was read of it; one tells Kafka how far we are; one watches that
every partition with records to read moves.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType
from typing import Final, Self

from normalizer.core.batch import Batch
from normalizer.errors import (
    BrokerUnavailable,
    FatalError,
    NormalizerError,
    PositionError,
    RetryableError,
)
from normalizer.kafka import GroupReader, KafkaPartition, TopicReader
from normalizer.service.critical_tasks import start_critical_tasks
from normalizer.service.ownership import Ownership
from normalizer.settings import Settings
from normalizer.store.store import Store
from normalizer.telemetry import Outage, ServiceCounters, get_logger

CLAIMS_EVERY_S: Final = 0.5
COMMITS_EVERY_S: Final = 1.0
LOST_EVERY_S: Final = 2.0
LONGEST_WAIT_S: Final = 10.0
LEAVING_S: Final = 5.0

_log: Final = get_logger()


class Membership:
    """This process's part in the group; `async with`, and `start` its tasks inside."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        accept_reset: bool,
        counters: ServiceCounters,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._store = store
        self._counters = counters
        self._clock = clock
        self._kafka = TopicReader(settings)
        self.reader = GroupReader(
            settings,
            on_assigned=self._on_assigned,
            on_revoked=self._on_revoked,
            on_unverified=self._on_unverified,
        )
        self.ownership = Ownership(
            self.reader,
            self._kafka,
            store,
            writers=settings.writers,
            accept_reset=accept_reset,
            counters=counters,
            clock=clock,
        )
        self.stopping = asyncio.Event()
        self.abort_writes = asyncio.Event()
        self._wake_claims = asyncio.Event()
        self._verification_due = asyncio.Event()
        self._must_rejoin = True
        self._join_task: asyncio.Task[RetryableError | None] | None = None
        self._is_claiming = False
        self._checked_lost_at_s = clock()
        self._writes: dict[int | str, float] = {}
        self._moved_at_s: dict[KafkaPartition, float] = {}
        self._stuck_earlier: set[KafkaPartition] = set()
        self._rebalancing_since_s = clock()
        self._to_commit: dict[KafkaPartition, int] = {}
        self._outage = Outage(_log, clock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._commit_now()
        if not await self.reader.stop(timeout_s=LEAVING_S):
            _log.warning("left_group_uncleanly", why="the group will find out by itself")
        await self._kafka.close()

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Keep joined and claimed, commit and watch, until `stop`."""
        start_critical_tasks(
            tasks,
            self.stopping,
            {
                "claims": partial(self._keep_claims, tasks),
                "comparing": self._keep_verifying,
                "commits": self._keep_committing,
                "watch": self._watch,
            },
        )

    def stop(self) -> None:
        """End the tasks, and what waits for an outage; a batch in flight may finish."""
        self.stopping.set()
        self.abort_writes.set()
        self._wake_claims.set()
        self._verification_due.set()
        if self._join_task:
            self._join_task.cancel()

    def note_progress(self, partition: KafkaPartition) -> None:
        """Records of the partition have come in."""
        self._moved_at_s[partition] = self._clock()
        self._stuck_earlier.discard(partition)

    @contextlib.contextmanager
    def writing(self, writer: int | str) -> Iterator[None]:
        """A write of this lane, or its helper, is at work meanwhile: what waits is not stuck."""
        self._writes[writer] = self._clock()
        try:
            yield
        finally:
            del self._writes[writer]

    def on_commit(self, batch: Batch) -> None:
        """The batch is in the database."""
        for part in batch.parts:
            partition = KafkaPartition(part.topic, part.partition)
            self._to_commit[partition] = part.next_offset
            self.ownership.note_progress(partition, part.next_offset)

    def on_rollback(self, batch: Batch, error: NormalizerError) -> None:
        """The batch was rolled back: all of it is claimed again, but for what others own."""
        for part in batch.parts:
            partition = KafkaPartition(part.topic, part.partition)
            if isinstance(error, PositionError) and partition == (error.topic, error.partition):
                self.ownership.drop_claim(partition, part.epoch, error)
            else:
                self.ownership.release(partition, part.epoch)
        self._wake_claims.set()

    def rejoin(self, why: str) -> None:
        """Leave the group and join it again, by a new client."""
        if not self._must_rejoin:
            self._counters.rejoins += 1
            _log.warning("rejoining_group", why=why)
        self._must_rejoin = True
        self._wake_claims.set()

    async def _keep_claims(self, tasks: asyncio.TaskGroup) -> None:
        tries = 0
        while not self.stopping.is_set():
            self._wake_claims.clear()
            self._join_task = tasks.create_task(self._join_and_claim(), name="join and claim")
            await asyncio.wait([self._join_task])
            error = None if self._join_task.cancelled() else self._join_task.result()
            tries = tries + 1 if error else 0
            if error:
                self._outage.failed(error)
            elif self._outage.over():
                self._restart_progress_clock()
            await _pause(self._wake_claims, min(LONGEST_WAIT_S, CLAIMS_EVERY_S * 2**tries / 2))

    async def _join_and_claim(self) -> RetryableError | None:
        """One attempt; what it met is returned, for a task that raises would end them all."""
        try:
            if self._must_rejoin:
                if not await self.reader.stop(timeout_s=LONGEST_WAIT_S):
                    raise FatalError("the Kafka client does not stop: only a new process can join")
                await self._find_topics()
                await self.reader.start()
                self._must_rejoin = False
            # Of no partition: errors of the group come out here when no lane fetches.
            await self.reader.fetch((), max_records=1, timeout_s=0.0)
            self._is_claiming = True
            await self._drop_lost_claims()
            await self.ownership.claim_unclaimed()
        except RetryableError as error:
            if isinstance(error, BrokerUnavailable) and not self._is_claiming:
                self._must_rejoin = True
            return error
        finally:
            self._is_claiming = False
        return None

    async def _drop_lost_claims(self) -> None:
        """Now and then; an outage is for those to tell who have something to write."""
        if self._clock() < self._checked_lost_at_s + LOST_EVERY_S:
            return
        self._checked_lost_at_s = self._clock()
        with contextlib.suppress(RetryableError):
            await self.ownership.drop_lost_claims()

    async def _find_topics(self) -> None:
        """A topic that is not there is waited for, like a broker; the client might make it."""
        for topic in self._settings.kafka_topics:
            if not await self._kafka.partitions(topic):
                raise BrokerUnavailable(
                    f"topic {topic} is not there: create it, or correct KAFKA_TOPICS"
                )

    def _on_assigned(self) -> None:
        self._counters.rebalances += 1
        _log.info("partitions_assigned", partitions=sorted(map(str, self.reader.assigned)))
        self.ownership.forget_stopped()
        self._restart_progress_clock()
        self._wake_claims.set()

    def _on_revoked(self) -> None:
        """A batch in flight finishes if it can at once; what waits for an outage is given up.

        So is a claim that waits for a lock: late, it would fence whoever owns the partition then.
        """
        self._rebalancing_since_s = self._clock()
        self.ownership.revoke_all()
        if self._is_claiming and self._join_task:
            self._join_task.cancel()
        if not self.stopping.is_set():
            self.abort_writes.set()
            self.abort_writes = asyncio.Event()

    def _on_unverified(self) -> None:
        self._verification_due.set()

    async def _keep_verifying(self) -> None:
        """A log in doubt is compared at once, and again until the broker tells."""
        outage = Outage(_log, self._clock)
        while not self.stopping.is_set():
            self._verification_due.clear()
            try:
                await self.ownership.verify_logs()
            except RetryableError as error:
                outage.failed(error)
            else:
                outage.over()
            if not self.reader.unverified_logs():
                await self._verification_due.wait()
            else:
                await _pause(self.stopping, CLAIMS_EVERY_S)

    async def _keep_committing(self) -> None:
        """Tell the group how far the database is: for lag tools, so a failure does no harm."""
        while not await _pause(self.stopping, COMMITS_EVERY_S):
            await self._commit_now()

    async def _commit_now(self) -> None:
        offsets, self._to_commit = self._to_commit, {}
        try:
            await self.reader.commit(offsets, timeout_s=LEAVING_S)
        except NormalizerError as error:
            _log.debug("kafka_commit_failed", why=str(error))

    async def _watch(self) -> None:
        """A partition has records and does not move: join anew; once more, and the process ends.

        The client can lock up after a failed rebalance without an error, and a partition that
        another process took by mistake is nobody's. An outage is no lock-up.
        """
        limit_s = self._settings.progress_timeout_s
        while not await _pause(self.stopping, limit_s / 8):
            now_s = self._clock()
            if self._outage or any(now_s - at_s > limit_s / 2 for at_s in self._writes.values()):
                self._restart_progress_clock()
                continue
            stuck = await self._find_stuck(now_s - limit_s)
            if stuck is None:
                continue
            named = ", ".join(sorted(map(str, stuck))) or "the group"
            why = f"nothing moved in {limit_s} s, though records wait: {named}"
            if stuck <= self._stuck_earlier and not self._must_rejoin:
                raise FatalError(f"{why}; joining the group anew did not help")
            self.rejoin(why)
            self._restart_progress_clock()
            self._stuck_earlier = stuck

    async def _find_stuck(self, since_s: float) -> set[KafkaPartition] | None:
        """Partitions that have records and did not move since then; None where all is well.

        Empty where the group itself does not come to an end of its rebalance. A partition whose
        leader is away is not stuck: its time begins when it is back.
        """
        if self.reader.rebalancing:
            return set() if self._rebalancing_since_s <= since_s else None
        still = {
            partition
            for partition in self.reader.assigned - self.ownership.stopped.keys()
            if self._moved_at_s.get(partition, since_s) <= since_s
        }
        try:
            bounds = await self._kafka.reachable_bounds(still)
        except RetryableError:
            bounds = {}
        self._moved_at_s |= dict.fromkeys(still - bounds.keys(), self._clock())
        ends = {one: at.end for one, at in bounds.items()}
        return {one for one, end in ends.items() if end > self.reader.next_offset(one)} or None

    def _restart_progress_clock(self) -> None:
        """Count the time without progress from now on."""
        self._moved_at_s = dict.fromkeys(self.reader.assigned, self._clock())
        self._rebalancing_since_s = self._clock()


async def _pause(event: asyncio.Event, wait_s: float) -> bool:
    """Wait for the event, not longer than this; whether it is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await event.wait()
    return event.is_set()
