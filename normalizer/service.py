"""The loop: records of a consumer group in, canonical rows in Postgres out, until told to stop.

Each lane has partitions of its own and one connection to write with. It fetches and normalises
the next batch while its last one is written, and fetches no more while both hands are full: so
memory is bounded. Three tasks stand beside the lanes: one joins the group and claims what it
assigns, one tells Kafka how far we are, one watches that something moves.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

import msgspec

from normalizer.batch import Batch, Item
from normalizer.delivery import deliver
from normalizer.errors import (
    BrokerUnavailable,
    FatalError,
    Fenced,
    NormalizerError,
    PositionError,
    RetryableError,
)
from normalizer.filling import Filling
from normalizer.kafka import Chunk, GroupReader, LogReader, Partition, UnreadableBatch
from normalizer.normalize import Normalizer
from normalizer.ownership import Ownership
from normalizer.quarantine import RefusalLines
from normalizer.settings import Settings
from normalizer.store import Store
from normalizer.telemetry import Counters, Outage, get_logger

RECORDS_A_FETCH: Final = 500
RECORDS_A_SLICE: Final = 100
"""Normalised without a pause: about a millisecond, so that a COPY beside it keeps streaming."""
IDLE_S: Final = 0.5
BUSY_S: Final = 0.02
LONGEST_WAIT_S: Final = 10.0

_log: Final = get_logger()


class Service:
    """One process of the group. `run` ends after `stop`, or with what trying again cannot cure."""

    def __init__(
        self,
        settings: Settings,
        *,
        accept_reset: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._normalizer = Normalizer(settings.redact_keys)
        self._kafka = LogReader(settings)
        self._claims_store, *self._lane_stores = _stores(settings)
        self.counters = Counters()
        self.reader = GroupReader(
            settings, on_assigned=self._on_assigned, on_revoked=self._on_revoked
        )
        self.ownership = Ownership(
            self.reader,
            self._kafka,
            self._claims_store,
            lanes=len(self._lane_stores),
            accept_reset=accept_reset,
            counters=self.counters,
            clock=clock,
        )
        self._tasks = asyncio.TaskGroup()
        self._deadline = asyncio.timeout(None)
        self._stopping = asyncio.Event()
        self._give_up = asyncio.Event()
        self._changed = asyncio.Event()
        self._must_join = True
        self._claiming: asyncio.Task[RetryableError | None] | None = None
        self._writing = 0
        self._moved_at_s = clock()
        self._joined_anew = False
        self._to_commit: dict[Partition, int] = {}
        self._outage = Outage(_log, clock)
        self._refusals = RefusalLines(_log, clock)

    async def run(self) -> None:
        """Read, normalise and store until `stop`. Raises FatalError."""
        _log.info("started", topics=self._settings.kafka_topics, owner=self._settings.owner)
        async with contextlib.AsyncExitStack() as opened:
            await opened.enter_async_context(self._kafka)
            for store in (self._claims_store, *self._lane_stores):
                await opened.enter_async_context(store)
            opened.push_async_callback(self._leave_group)
            try:
                async with self._deadline, self._tasks as tasks:
                    tasks.create_task(self._keep_claims(), name="claims")
                    for number, store in enumerate(self._lane_stores):
                        tasks.create_task(self._run_lane(number, store), name=f"lane {number}")
                    tasks.create_task(self._commit_to_kafka(), name="commits")
                    tasks.create_task(self._watch(), name="watch")
                    tasks.create_task(self._set_deadline(), name="deadline")
            except TimeoutError:
                _log.warning("deadline_passed", why="what was in flight is rolled back")
            except BaseExceptionGroup as errors:
                raise _worst(errors) from errors
        self._refusals.say()
        _log.info("stopped", **msgspec.structs.asdict(self.counters))

    def stop(self) -> None:
        """Write what is in hand within the deadline, then end `run`; does not wait."""
        if self._stopping.is_set():
            return
        _log.info("stopping", deadline_s=self._settings.stop_timeout_s)
        self._stopping.set()
        self._give_up.set()
        self._changed.set()
        if self._claiming:
            self._claiming.cancel()

    async def _set_deadline(self) -> None:
        await self._stopping.wait()
        now_s = asyncio.get_running_loop().time()
        self._deadline.reschedule(now_s + self._settings.stop_timeout_s)

    async def _run_lane(self, number: int, store: Store) -> None:
        """Fetch, normalise, write; the next batch fills while the last is written."""
        writing: asyncio.Task[None] | None = None
        while not self._stopping.is_set():
            filling = await self._fill(number, writing)
            if writing:
                await asyncio.wait([writing])
            batch = filling.sealed(self.ownership.held)
            if batch.parts:
                writing = self._tasks.create_task(self._write(store, batch), name=f"write {number}")
        if writing:
            await asyncio.wait([writing])

    async def _fill(self, lane: int, writing: asyncio.Task[None] | None) -> Filling:
        """A batch that is full, or old while the lane is free to write it."""
        settings = self._settings
        filling = Filling()
        due_s: float | None = None
        while filling.rows < settings.batch_rows and filling.value_bytes < settings.batch_bytes:
            free = writing is None or writing.done()
            left_s = IDLE_S if due_s is None else due_s - self._clock()
            if self._stopping.is_set() or (free and left_s <= 0):
                break
            room = min(settings.batch_rows - filling.rows, RECORDS_A_FETCH)
            for chunk in await self._fetch(lane, room, max(left_s, 0.0 if free else BUSY_S)):
                await self._take_in(filling, chunk)
            if filling and due_s is None:
                due_s = self._clock() + settings.batch_age_ms / 1000
        return filling

    async def _fetch(self, lane: int, room: int, wait_s: float) -> list[Chunk]:
        try:
            return await self.reader.fetch(
                self.ownership.lane(lane), max_records=room, timeout_s=wait_s
            )
        except BrokerUnavailable as error:
            self._join_anew(str(error))
            await asyncio.sleep(IDLE_S)
        except UnreadableBatch as error:
            self.ownership.stop(Partition(error.topic, error.partition), error)
        return []

    async def _take_in(self, filling: Filling, chunk: Chunk) -> None:
        """Normalise a chunk into the batch, slice by slice."""
        claim = self.ownership.held.get(chunk.partition)
        if claim is None:
            return
        self._moved()
        normalize = self._normalizer.normalize
        items: list[Item] = []
        for start in range(0, len(chunk.records), RECORDS_A_SLICE):
            records = chunk.records[start : start + RECORDS_A_SLICE]
            items += [(record, normalize(record)) for record in records]
            await asyncio.sleep(0)
        filling.add(claim, chunk, items)

    async def _write(self, store: Store, batch: Batch) -> None:
        """Write the batch; where a partition is not as we thought, all of it is claimed again."""
        self._writing += 1
        try:
            totals = await deliver(store, batch, stop=self._give_up)
        except PositionError as error:
            self._position_lost(batch, error)
        except RetryableError as error:
            _log.info("batch_rolled_back", why=str(error))
        else:
            self._moved()
            self.counters.batches += 1
            self.counters.add(msgspec.structs.asdict(totals))
            self._refusals.add(batch, totals)
            for part in batch.parts:
                self._to_commit[Partition(part.topic, part.partition)] = part.next_offset
            return
        finally:
            self._writing -= 1
        for part in batch.parts:
            self.ownership.release(Partition(part.topic, part.partition), part.epoch)
        self._changed.set()

    def _position_lost(self, batch: Batch, error: PositionError) -> None:
        partition = Partition(error.topic, error.partition)
        for part in batch.parts:
            if (part.topic, part.partition) != partition:
                continue
            if isinstance(error, Fenced):
                self.ownership.fence(partition, part.epoch, error)
            elif self.ownership.release(partition, part.epoch):
                _log.warning("position_moved", partition=str(partition), why=str(error))

    async def _keep_claims(self) -> None:
        """Join the group and claim what it assigns, again after each rebalance and outage."""
        tries = 0
        while not self._stopping.is_set():
            self._changed.clear()
            self._claiming = self._tasks.create_task(self._join_and_claim(), name="claiming")
            await asyncio.wait([self._claiming])
            error = None if self._claiming.cancelled() else self._claiming.result()
            tries = tries + 1 if error else 0
            if error:
                self._outage.failed(error)
            elif self._outage.over():
                self._moved()
            await _pause(self._changed, min(LONGEST_WAIT_S, IDLE_S * 2**tries / 2))

    async def _join_and_claim(self) -> RetryableError | None:
        """One attempt; what it met is returned, for a task that raises would end them all."""
        try:
            if self._must_join:
                if not await self.reader.stop(timeout_s=LONGEST_WAIT_S):
                    raise FatalError("the Kafka client does not stop: only a new process can join")
                await self._find_topics()
                await self.reader.start()
                self._must_join = False
            # Of no partition: errors of the group come out here when no lane fetches.
            await self.reader.fetch((), max_records=1, timeout_s=0.0)
            await self.ownership.claim_missing()
        except RetryableError as error:
            return error
        return None

    async def _find_topics(self) -> None:
        """A topic that is not there is waited for, like a broker; the client might make it."""
        for topic in self._settings.kafka_topics:
            if not await self._kafka.partitions(topic):
                raise BrokerUnavailable(
                    f"topic {topic} is not there: create it, or correct KAFKA_TOPICS"
                )

    def _on_assigned(self) -> None:
        _log.info("partitions_assigned", partitions=sorted(map(str, self.reader.assigned)))
        self._moved_at_s = self._clock()
        self._changed.set()

    def _on_revoked(self) -> None:
        """A batch in flight finishes if it can at once; what waits for an outage is given up."""
        self.ownership.revoke_all()
        if not self._stopping.is_set():
            self._give_up.set()
            self._give_up = asyncio.Event()

    def _join_anew(self, why: str) -> None:
        if not self._must_join:
            self.counters.rejoins += 1
            _log.warning("joining_group_anew", why=why)
        self._must_join = True
        self._changed.set()

    async def _commit_to_kafka(self) -> None:
        """Tell the group how far the database is: for lag tools, so a failure does no harm."""
        while not await _pause(self._stopping, 1.0):
            await self._commit_now()

    async def _commit_now(self) -> None:
        offsets, self._to_commit = self._to_commit, {}
        try:
            await self.reader.commit(offsets, timeout_s=5.0)
        except NormalizerError as error:
            _log.debug("kafka_commit_failed", why=str(error))

    async def _leave_group(self) -> None:
        await self._commit_now()
        if not await self.reader.stop(timeout_s=5.0):
            _log.warning("left_without_goodbye", why="the group will find out by itself")

    async def _watch(self) -> None:
        """Records wait and nothing moves: join the group anew; once more, and the process ends.

        The client can lock up after a failed rebalance without an error. An outage is no lock-up.
        """
        limit_s = self._settings.progress_timeout_s
        while not await _pause(self._stopping, limit_s / 8):
            still_s = self._clock() - self._moved_at_s
            if still_s < limit_s or self._writing or self._outage or not await self._records_wait():
                continue
            why = f"records wait and nothing moved for {still_s:.0f} s"
            if self._joined_anew:
                raise FatalError(f"{why}; joining the group anew did not help")
            self._join_anew(why)
            self._moved_at_s = self._clock()
            self._joined_anew = True

    async def _records_wait(self) -> bool:
        unread = self.reader.assigned - self.ownership.stopped.keys()
        try:
            bounds = await self._kafka.bounds(unread)
        except RetryableError:
            return False
        return self.reader.rebalancing or any(
            bounds[partition].end > self.reader.next_offset(partition) for partition in unread
        )

    def _moved(self) -> None:
        self._moved_at_s = self._clock()
        self._joined_anew = False


def _stores(settings: Settings) -> list[Store]:
    """One connection for claims, one for each lane."""
    assert settings.database_url
    names = ["claims", *(f"lane {number}" for number in range(settings.writers))]
    return [
        Store(settings.database_url, owner=settings.owner, application_name=f"normalizer {name}")
        for name in names
    ]


async def _pause(event: asyncio.Event, wait_s: float) -> bool:
    """Wait for the event, not longer than this; whether it is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await event.wait()
    return event.is_set()


def _worst(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error that stands for a group: a fatal one of ours, else the first."""
    leaves = [
        _worst(error) if isinstance(error, BaseExceptionGroup) else error
        for error in errors.exceptions
    ]
    return next((leaf for leaf in leaves if isinstance(leaf, FatalError)), leaves[0])
