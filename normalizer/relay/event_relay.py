"""Publishes the stored events of one database to Kafka, for `normalizer relay --from-postgres`.

Each page of events is written in one Kafka transaction, together with the position after it. So a
restarted relay continues after the last committed page. A consumer with
`isolation.level=read_committed` gets an event a second time only if the event has changed. A
database can have only one such relay.
"""

import asyncio
import contextlib
import secrets
import time
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Final

from normalizer.config.settings import Settings
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Envelope
from normalizer.errors import FatalError, FencedError, RetryableError
from normalizer.kafka import GrouplessClient, KafkaPartition, OutputRecord, TransactionalProducer
from normalizer.relay.event_pages import (
    DATABASE_RESTORED_MESSAGE,
    START_AGAIN_REMEDY,
    EventPage,
    EventsTablePosition,
    RelayRegistration,
    StoredEventReader,
    first_events_table_position,
    parse_events_table_position,
)
from normalizer.relay.output_records import (
    canonical_record,
    read_topic_size_limits,
    rejection_if_too_large,
    rejection_record,
    unwritable_event_rejection,
)
from normalizer.runtime.backoff import wait_at_most
from normalizer.runtime.logging_setup import OutageLogger, get_logger
from normalizer.runtime.loop_heartbeat import LoopHeartbeat
from normalizer.runtime.slices import SLICE_DURATION_S

_IDLE_S: Final = 0.2
_RETRY_S: Final = 1.0
_CHECK_EVERY_S: Final = 1.0
_SILENCE_LIMIT_S: Final = 10.0
"""If nothing was heard from PostgreSQL or Kafka for this long, it counts as silent."""
_COMMIT_EVERY_S: Final = 3_600.0
"""Commit at least this often, because Kafka deletes an offset that wasn't committed for some days.
"""

_log: Final = get_logger()

OutcomeCounts = Counter[tuple[str, str]]
"""How many events were stored in the canonical topic, or quarantined, by shape and outcome."""


class EventRelay:
    """Publishes the stored events of one database.

    `run` sends events until `stop` is called, or until an error that no retry can fix. If a second
    relay of the same database is started, it fences the first one, which ends with FatalError.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topics = GrouplessClient(settings)
        self._reader = StoredEventReader(settings.required_database_url)
        self._limits: dict[str, int] = {}
        self._stopping = asyncio.Event()
        self._deadline: asyncio.Timeout | None = None
        self._outage = OutageLogger(_log)
        self._checked_at_s = self._committed_at_s = time.monotonic()
        self._heard_at_s = self._checked_at_s
        self._lag_s = 0.0
        self._waits_for: str | None = "the first page has not been sent yet"
        self.heartbeat = LoopHeartbeat(on_heartbeat=self._log_silence)
        self.outcomes = OutcomeCounts()
        """It's safe to read from any thread, and so is everything below."""

    def stop(self) -> None:
        """Make `run` finish the current page within the deadline, and end. Returns at once."""
        if self._deadline and not self._stopping.is_set():
            now_s = asyncio.get_running_loop().time()
            self._deadline.reschedule(now_s + self._settings.stop_timeout_s)
        self._stopping.set()

    @property
    def why_waiting(self) -> str | None:
        """Return why nothing is being sent, or None."""
        return self._waits_for or self._silence()

    @property
    def lag_s(self) -> float:
        """Return the age of the oldest unsent change. It grows while the relay can't check it."""
        unknown_s = time.monotonic() - self._checked_at_s
        return self._lag_s + (unknown_s if self.why_waiting else 0.0)

    async def run(self) -> None:
        """Send until `stop` is called, and retry after an outage. Raises FatalError."""
        _log.info("relay.started", topic=self._settings.kafka_canonical_topic)
        try:
            with self.heartbeat:
                async with asyncio.timeout(None) as self._deadline:
                    await self._relay_until_stop()
        except TimeoutError:
            if not self._stopping.is_set():
                raise
            _log.warning("relay.deadline_passed", why="the page in flight is rolled back")
        finally:
            self._deadline = None
            self._reader.terminate()
            await self._topics.close()
        _log.info("relay.stopped", events=self.outcomes.total())

    async def _relay_until_stop(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._relay()
            except FencedError as error:
                raise FatalError(
                    f"{error}. This relay exits, because a database can have only one relay"
                ) from error
            except RetryableError as error:
                self._waits_for = str(error)
                self._outage.count_failure(error)
                await wait_at_most(self._stopping, _RETRY_S)

    async def _relay(self) -> None:
        """Continue from the position in Kafka, until `stop` or an error."""
        settings = self._settings
        self._limits = await read_topic_size_limits(self._topics, settings)
        producer = TransactionalProducer(
            settings,
            settings.kafka_group_id,
            # The relay stores its position as a committed offset, although it reads no Kafka
            # partition. Kafka keeps committed offsets only for partitions that exist, so use
            # partition 0 of the output topic.
            KafkaPartition(settings.kafka_canonical_topic, 0),
            max_batch_bytes=min(self._limits.values()),
        )
        await producer.start()
        try:
            position = await self._begin(producer)
            async with contextlib.aclosing(self._pages(position)) as pages:
                async for page in pages:
                    records, outcomes = await self._make_records(page)
                    await producer.write_and_commit(records, page.position.to_offset_and_metadata())
                    self._note_success()
                    self._committed_at_s = time.monotonic()
                    self.outcomes += outcomes
        finally:
            await producer.stop()

    async def _begin(self, producer: TransactionalProducer) -> EventsTablePosition:
        """Return the position to continue from, and register the relay if none is registered.

        Raises FatalError if the position doesn't belong to this database.
        """
        group_id = self._settings.kafka_group_id
        position = parse_events_table_position(await producer.committed_offset())
        registered = await self._reader.read_registration()
        if registered is None:
            # Commit the position before registering. In the other order, a process that's killed in
            # between would leave a registration without a position, and the next start would
            # conclude that Kafka has lost the position.
            now = await self._reader.read_snapshot()
            position = first_events_table_position(secrets.token_hex(8), now, position)
            await producer.write_and_commit((), position.to_offset_and_metadata())
            await self._reader.register_relay(RelayRegistration(position.registration, group_id))
            registered = await self._reader.read_registration()
        if registered is None or registered.group_id != group_id:
            raise FatalError(
                "this relay can't start, because another relay is registered in this database: "
                f"{registered}. {START_AGAIN_REMEDY}"
            )
        if position is None or position.registration != registered.name:
            raise FatalError(
                f"the committed offset of group {group_id} is gone. Kafka deletes a group's "
                "offsets once the group has had no members for longer than "
                f"offsets.retention.minutes. {START_AGAIN_REMEDY}"
            )
        now = await self._reader.read_snapshot()
        if position.transaction_id >= now.next_transaction:
            raise FatalError(
                "this database was restored to an earlier state: the relay has sent transaction "
                f"{position.transaction_id}, but the database's next one is "
                f"{now.next_transaction}. {START_AGAIN_REMEDY}"
            )
        if position.changes_table != now.changes_table:
            raise FatalError(
                "this database was restored from a dump, so the relay's position in it is no "
                f"longer valid. {START_AGAIN_REMEDY}"
            )
        await self._check(
            position,
            f"the position in group {group_id} is before changes that were already sent and "
            f"deleted, so Kafka was set back or lost its last commits. {START_AGAIN_REMEDY}",
        )
        if position.event_id is not None:
            await self._wait_for_writers()
        return position

    async def _wait_for_writers(self) -> None:
        """Wait until every transaction that was running at the registration has ended.

        Such a transaction couldn't see the registration, so it may have written events without
        recording their changes. These events are sent by the first pass, which therefore must not
        begin before they're committed.
        """
        later = await self._reader.allocate_transaction_id()
        while not self._stopping.is_set():
            now = await self._reader.read_snapshot()
            self._heard_at_s = time.monotonic()
            if now.oldest_running >= later:
                return
            if self._waits_for != (
                waits_for := f"transaction {now.oldest_running} is still running"
            ):
                self._waits_for = waits_for
                _log.info("relay.waiting", why=waits_for)
            await wait_at_most(self._stopping, _IDLE_S)

    async def _pages(self, position: EventsTablePosition) -> AsyncGenerator[EventPage, None]:
        """Yield all events after the position, and then the changes, until `stop`."""
        if position.event_id is not None:
            async with contextlib.aclosing(
                self._reader.read_remaining_events(position)
            ) as first_pass:
                async for page in first_pass:
                    if self._stopping.is_set():
                        return
                    self._heard_at_s = time.monotonic()
                    yield page
                    position = page.position
                    await self._check_in_time(position)
        while not self._stopping.is_set():
            changed = await self._reader.read_changes(position)
            self._heard_at_s = time.monotonic()
            if changed:
                yield changed
                position = changed.position
            elif time.monotonic() - self._committed_at_s >= _COMMIT_EVERY_S:
                yield EventPage(position=position)
            else:
                self._note_success()
                await wait_at_most(self._stopping, _IDLE_S)
            await self._check_in_time(position)

    async def _check_in_time(self, position: EventsTablePosition) -> None:
        if time.monotonic() - self._checked_at_s >= _CHECK_EVERY_S:
            await self._reader.delete_sent_changes(position)
            await self._check(position, "another relay has sent later changes")

    async def _check(self, position: EventsTablePosition, went_back: str) -> None:
        """Measure the lag, and check that the position still belongs to this database.

        Raises FatalError if it doesn't, for example because the database was restored. Also raises
        FatalError, with the message `went_back`, if changes after the position are already deleted.
        A relay deletes changes only after it has sent them, so the position must have gone back.
        """
        state = await self._reader.read_relay_health(position)
        if not state.is_registered:
            raise FatalError(
                "this relay is no longer registered, so the database doesn't record changes for it"
                ". Start it again to register it, which sends every event again"
            )
        if state.was_restored:
            raise FatalError(DATABASE_RESTORED_MESSAGE)
        if state.went_back:
            raise FatalError(went_back)
        self._lag_s = state.lag_s
        self._checked_at_s = self._heard_at_s = time.monotonic()

    async def _make_records(self, page: EventPage) -> tuple[list[OutputRecord], OutcomeCounts]:
        """Return the page's records and counts. Other tasks can run every few milliseconds."""
        records, outcomes = [], OutcomeCounts()
        due_s = time.perf_counter() + SLICE_DURATION_S
        for event in page.events:
            record, outcome = self._make_record(event, page.position.revision)
            outcomes[event.shape, outcome] += 1
            records.append(record)
            if time.perf_counter() >= due_s:
                await asyncio.sleep(0)
                due_s = time.perf_counter() + SLICE_DURATION_S
        return records, outcomes

    def _make_record(self, event: Envelope, revision: int) -> tuple[OutputRecord, str]:
        topic = self._settings.kafka_canonical_topic
        try:
            record = canonical_record(event, topic, revision=revision)
            rejected = rejection_if_too_large(event, record, self._limits[topic])
            if rejected is None:
                return record, "stored"
        except ValueError as error:
            rejected = unwritable_event_rejection(event, error)
        where = (event.source_topic, event.source_incarnation, event.source_partition)
        source = RawRecord(None, *where, event.source_offset)
        rejection = rejection_record(source, rejected, self._settings.kafka_rejected_topic)
        return rejection, "quarantined"

    def _note_success(self) -> None:
        """Note that an outage is over.

        Call this after a page was sent, or if there was nothing to send. Having read a page isn't
        enough, because that doesn't show that Kafka is reachable.
        """
        self._outage.count_success()
        self._waits_for = None
        self._heard_at_s = time.monotonic()

    def _silence(self) -> str | None:
        silent_s = time.monotonic() - self._heard_at_s
        is_silent = silent_s > _SILENCE_LIMIT_S
        return f"no answer from PostgreSQL or Kafka for {silent_s:.0f} s" if is_silent else None

    def _log_silence(self) -> None:
        """Log an outage that no error has reported, because nothing responds."""
        if not self._waits_for and not self._outage and (silence := self._silence()):
            self._outage.log_no_answer(silence)
