"""Lets a job write its next batch only while live traffic has no lag, and at a limited rate.

Every half second, `LiveLagMeter` compares the end of each log with the service's position.
`Throttle` pauses the job while an unread record has waited for `_PAUSE_AT_LAG_S` or longer.
Producers' timestamps may be wrong, so a record's wait is measured from the moment when we first saw
that the log reaches beyond the position. A log that no process reads is ignored, because pausing
the job wouldn't reduce its lag.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Literal, Self

import asyncpg
import msgspec
from structlog.typing import FilteringBoundLogger

from normalizer.errors import RetryableError
from normalizer.kafka import GrouplessClient, KafkaPartition, OffsetBounds
from normalizer.runtime.backoff import wait_at_most
from normalizer.store.read_only import READ_ONLY_SESSION_SETTINGS
from normalizer.store.reconnecting_connection import ReconnectingConnection
from normalizer.store.sqlstate import STATEMENT_ERRORS, translate_error

_CHECK_EVERY_S: Final = 0.5
_PAUSE_AT_LAG_S: Final = 2.0
"""A job pauses while the oldest unread live record has waited this long or longer."""
_LOG_END_HISTORY_S: Final = 120.0
"""How long to keep past ends of the log."""
_THROTTLE_LOG_EVERY_S: Final = 10.0

ThrottleCause = Literal["live_lag", "max_rate"]


class LiveLag(msgspec.Struct, frozen=True, kw_only=True):
    """How long the oldest unread live record has waited, and in which partition.

    None if there's none.
    """

    seconds: float | None = None
    partition: str = ""


class LogEndHistory:
    """Remembers the recent end offsets of each partition, to tell how long a record has waited.

    For example, if the log ended at offset 100 a minute ago and the position is still 90, a record
    has waited for at least a minute. End offsets older than `_LOG_END_HISTORY_S` are dropped, so
    for a record that has waited longer than that, the reported wait may be too short.
    """

    def __init__(self) -> None:
        self._samples: dict[KafkaPartition, deque[tuple[float, int]]] = {}

    def add_end_offsets(self, now_s: float, ends: Mapping[KafkaPartition, int]) -> None:
        """Add the end offsets that were read now."""
        for partition, end in ends.items():
            samples = self._samples.setdefault(partition, deque())
            if not samples or samples[-1][1] != end:
                samples.append((now_s, end))
            # Keep one entry that's older than the limit. If the position hasn't reached its offset,
            # that entry still tells how long the next record has waited.
            while len(samples) > 1 and samples[1][0] < now_s - _LOG_END_HISTORY_S:
                samples.popleft()

    def lag_s(self, now_s: float, partition: KafkaPartition, next_offset: int) -> float | None:
        """Return how long the record at this offset has waited, or None if there's none yet."""
        return max(
            (now_s - at_s for at_s, end in self._samples.get(partition, ()) if end > next_offset),
            default=None,
        )


ReadLiveLag = Callable[[], Awaitable[LiveLag]]
"""Returns the lag of live traffic. Raises RetryableError if that can't be measured now."""


# Selects only positions that a live process is advancing, because pausing the job doesn't help a
# partition that nobody reads. Processes send a heartbeat every three seconds, but one that's up to
# a minute old still counts. A busy database delays heartbeats, and that's exactly when the job
# should pause.
_LIVE_POSITIONS: Final = """
    select topic, partition, position.next_offset, position.cluster_id
    from   normalizer.source_heartbeats as reported
    join   normalizer.source_positions  as position using (topic, incarnation, partition)
    where  not reported.stopped and reported.heartbeat_at > now() - interval '1 minute'
"""


class LiveLagMeter:
    """Measures the lag of live traffic from the brokers and the stored positions.

    Use it with `async with`, while `log` is open. It keeps one database connection open, because
    opening a new one for each measurement would take several milliseconds.
    """

    def __init__(
        self,
        database_url: str,
        log: GrouplessClient,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = ReconnectingConnection(
            database_url, application_name="normalizer throttle", session=READ_ONLY_SESSION_SETTINGS
        )
        self._log = log
        self._clock = clock
        self._history = LogEndHistory()
        self._cluster_id: str | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._connection.terminate()

    async def read_lag(self) -> LiveLag:
        """Return the lag of live traffic. Raises RetryableError and FatalError."""
        if self._cluster_id is None:
            self._cluster_id = await self._log.cluster_id()
        positions = {
            KafkaPartition(row["topic"], row["partition"]): row["next_offset"]
            for row in await self._rows()
            if row["cluster_id"] == self._cluster_id
        }
        bounds = await self._bounds(positions)
        now_s = self._clock()
        self._history.add_end_offsets(now_s, {one: bound.end for one, bound in bounds.items()})
        waits = [
            (seconds, one)
            for one in bounds
            if (seconds := self._history.lag_s(now_s, one, positions[one])) is not None
        ]
        if not waits:
            return LiveLag()
        seconds, worst = max(waits)
        return LiveLag(seconds=seconds, partition=str(worst))

    async def _rows(self) -> list[asyncpg.Record]:
        try:
            async with self._connection.acquire() as connection:
                rows: list[asyncpg.Record] = await connection.fetch(_LIVE_POSITIONS)
        except STATEMENT_ERRORS as error:
            raise translate_error(error) from error
        return rows

    async def _bounds(
        self, positions: Mapping[KafkaPartition, int]
    ) -> dict[KafkaPartition, OffsetBounds]:
        known: set[KafkaPartition] = set()
        for topic in {one.topic for one in positions}:
            known |= await self._log.partitions(topic)
        return await self._log.reachable_offset_bounds(known & positions.keys())


class Throttle:
    """Makes each batch wait until live traffic has no lag and the rate allows it.

    `read_lag` measures the lag of live traffic, and None ignores it. `max_rate` is the limit in
    records per second, and None means no limit. `throttled_s` has the seconds that the job has
    waited so far, by cause.
    """

    def __init__(
        self,
        logger: FilteringBoundLogger,
        *,
        read_lag: ReadLiveLag | None,
        max_rate: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = logger
        self._read_lag = read_lag
        self._max_rate = max_rate
        self._clock = clock
        self._lag = LiveLag()
        self._checked = asyncio.Event()
        self._began_s: float | None = None
        self._let_through = 0
        self._logged_at_s = -_THROTTLE_LOG_EVERY_S
        self._lag_unknown = False
        self.throttled_s: dict[ThrottleCause, float] = {"live_lag": 0.0, "max_rate": 0.0}
        self.throttled_by: ThrottleCause | None = None

    def max_batch_rows(self, limit: int) -> int:
        """Return how many rows a batch may have, at most `limit`.

        With a low rate there are fewer, so that they don't come in bursts.
        """
        return limit if self._max_rate is None else max(1, min(limit, round(self._max_rate / 2)))

    async def watch_lag(self, stop: asyncio.Event) -> None:
        """Measure the lag of live traffic every half second, until the stop."""
        while self._read_lag and not stop.is_set():
            await self._check_lag(self._read_lag)
            self._checked.set()
            await wait_at_most(stop, _CHECK_EVERY_S)
        self._checked.set()

    async def acquire(self, records: int, stop: asyncio.Event) -> None:
        """Return once this many records may be written, or at the stop."""
        if self._read_lag:
            await self._checked.wait()
            await self._wait("live_lag", self._lag_s, stop)
        if self._max_rate:
            now_s = self._clock()
            self._let_through += records
            # Don't save up unused time. Otherwise a pause without records would be followed by a
            # burst that exceeds the rate.
            earliest_s = now_s - self._let_through / self._max_rate
            self._began_s = now_s if self._began_s is None else max(self._began_s, earliest_s)
            await self._wait("max_rate", self._ahead_s, stop)

    def refund(self, records: int) -> None:
        """Give back the allowance for records that were announced but didn't exist."""
        self._let_through -= records

    def _lag_s(self) -> float:
        """Return the seconds until the lag should be checked again, or 0 to continue."""
        behind_s = self._lag.seconds
        return _CHECK_EVERY_S / 5 if behind_s is not None and behind_s >= _PAUSE_AT_LAG_S else 0.0

    def _ahead_s(self) -> float:
        assert self._max_rate
        assert self._began_s is not None
        return self._began_s + self._let_through / self._max_rate - self._clock()

    async def _wait(
        self, cause: ThrottleCause, wait_s: Callable[[], float], stop: asyncio.Event
    ) -> None:
        began_s = self._clock()
        while (left_s := wait_s()) > 0 and not stop.is_set():
            self._log_wait(cause)
            await wait_at_most(stop, min(left_s, _CHECK_EVERY_S))
        if self.throttled_by:
            throttled_s = self._clock() - began_s
            self.throttled_s[cause] += throttled_s
            self.throttled_by = None
            if cause == "live_lag":
                self._log.info("job.resumed", after="live lag", throttled_s=round(throttled_s, 1))

    def _log_wait(self, cause: ThrottleCause) -> None:
        self.throttled_by = cause
        if self._clock() - self._logged_at_s < _THROTTLE_LOG_EVERY_S:
            return
        self._logged_at_s = self._clock()
        if cause == "live_lag":
            self._log.info(
                "job.throttled",
                by="live lag",
                lag_s=round(self._lag.seconds or 0.0, 1),
                partition=self._lag.partition,
                yield_at_s=_PAUSE_AT_LAG_S,
            )
        else:
            self._log.info("job.throttled", by="--max-rate", max_rate=self._max_rate)

    async def _check_lag(self, read_lag: ReadLiveLag) -> None:
        try:
            self._lag = await read_lag()
        except RetryableError as error:
            # If the brokers and the database are both unreachable, nobody can write a live record
            # anyway.
            self._lag = LiveLag()
            if not self._lag_unknown:
                self._log.warning("job.live_lag_unknown", why=str(error))
            self._lag_unknown = True
        else:
            self._lag_unknown = False
