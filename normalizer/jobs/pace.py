"""Whether a job may write its next batch now: live traffic goes first, and no faster than asked.

How long live records wait is seen from outside: how far the log reaches, by the broker, against how
far the service has read, by its positions. Records wait since the moment when the log was first
seen to reach beyond the position, whatever any producer's clock says.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Literal, Protocol, Self

import asyncpg
import msgspec
from structlog.typing import FilteringBoundLogger

from normalizer.errors import RetryableError
from normalizer.jobs import statements
from normalizer.kafka import Bounds, LogReader, Partition
from normalizer.store.database import connect_reading
from normalizer.store.sqlstate import FOREIGN_ERRORS, translated

LOOK_EVERY_S: Final = 0.5
ANSWER_S: Final = 65.0
"""Longer than a statement may take: a network that swallows answers must not blind us for ever."""
REMEMBERED_S: Final = 120.0
LINE_EVERY_S: Final = 10.0

Holder = Literal["live_lag", "max_rate"]


class Lag(msgspec.Struct, frozen=True, kw_only=True):
    """How long the oldest unread record of live traffic has waited, and where; 0: none waits."""

    seconds: float = 0.0
    partition: str = ""


class LagHistory:
    """Ends of the log as they were seen; tells since when records beyond a position are there."""

    def __init__(self) -> None:
        self._seen: dict[Partition, deque[tuple[float, int]]] = {}

    def see(self, now_s: float, ends: Mapping[Partition, int]) -> None:
        """Remember where each log ends now."""
        for partition, end in ends.items():
            seen = self._seen.setdefault(partition, deque())
            if not seen or seen[-1][1] != end:
                seen.append((now_s, end))
            # The last one before the horizon stays: it may be what the position has not reached.
            while len(seen) > 1 and seen[1][0] < now_s - REMEMBERED_S:
                seen.popleft()

    def waited_s(self, now_s: float, partition: Partition, next_offset: int) -> float:
        """How long the record at this offset has been seen to wait; 0 where there is none."""
        return max(
            (now_s - at_s for at_s, end in self._seen.get(partition, ()) if end > next_offset),
            default=0.0,
        )


class Watching(Protocol):
    """What the pace asks about live traffic."""

    async def look(self) -> Lag:
        """How far live traffic is behind now. Raises RetryableError where that cannot be told."""


class LiveTraffic:
    """The service as a broker and the positions show it. `async with`, inside that of the log.

    One connection stays: to make one at each look would cost both ends several milliseconds.
    """

    def __init__(
        self, database_url: str, log: LogReader, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database_url = database_url
        self._log = log
        self._clock = clock
        self._history = LagHistory()
        self._cluster_id: str | None = None
        self._connection: asyncpg.Connection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(*FOREIGN_ERRORS):
                await connection.close(timeout=5)

    async def look(self) -> Lag:
        """How far live traffic is behind now. Raises RetryableError and FatalError."""
        if self._cluster_id is None:
            self._cluster_id = await self._log.cluster_id()
        positions = {
            Partition(row["topic"], row["partition"]): row["next_offset"]
            for row in await self._rows()
            if row["cluster_id"] == self._cluster_id
        }
        bounds = await self._bounds(positions)
        now_s = self._clock()
        self._history.see(now_s, {one: bound.end for one, bound in bounds.items()})
        waits = {one: self._history.waited_s(now_s, one, positions[one]) for one in bounds}
        worst = max(waits, key=lambda one: waits[one], default=None)
        return Lag() if worst is None else Lag(seconds=waits[worst], partition=str(worst))

    async def _rows(self) -> list[asyncpg.Record]:
        try:
            if self._connection is not None:
                # It may have been lost since the last look: then a new one tells.
                with contextlib.suppress(*FOREIGN_ERRORS):
                    return await self._fetch(self._connection)
                self._hang_up()
            self._connection = await connect_reading(self._database_url)
            return await self._fetch(self._connection)
        except FOREIGN_ERRORS as error:
            self._hang_up()
            raise translated(error) from error

    @staticmethod
    async def _fetch(connection: asyncpg.Connection) -> list[asyncpg.Record]:
        rows: list[asyncpg.Record] = await connection.fetch(
            statements.LIVE_POSITIONS, timeout=ANSWER_S
        )
        return rows

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _bounds(self, positions: Mapping[Partition, int]) -> dict[Partition, Bounds]:
        known: set[Partition] = set()
        for topic in {one.topic for one in positions}:
            known |= await self._log.partitions(topic)
        return await self._log.bounds(known & positions.keys())


class Pace:
    """Lets batches through one by one; `held_s` counts the seconds that each cause held them.

    `yield_at_s` None, or no `live`: live traffic is not looked at. `max_rate` is records a second.
    """

    def __init__(
        self,
        logger: FilteringBoundLogger,
        *,
        live: Watching | None,
        yield_at_s: float | None,
        max_rate: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = logger
        self._live = live if yield_at_s is not None else None
        self._yield_at_s = yield_at_s or 0.0
        self._max_rate = max_rate
        self._clock = clock
        self._lag = Lag()
        self._looked = asyncio.Event()
        self._began_s: float | None = None
        self._let_through = 0
        self._said_at_s = -LINE_EVERY_S
        self._unsure = False
        self.held_s: dict[Holder, float] = {"live_lag": 0.0, "max_rate": 0.0}
        self.held_by: Holder | None = None

    def held_before(self, held_s: tuple[float, float]) -> None:
        """How long an earlier process held this run, by live lag and by --max-rate."""
        self.held_s["live_lag"], self.held_s["max_rate"] = held_s

    def rows_at_once(self, most: int) -> int:
        """Rows of a batch: few enough that a low rate does not come in bursts."""
        return most if self._max_rate is None else max(1, min(most, round(self._max_rate / 2)))

    async def watch(self, stop: asyncio.Event) -> None:
        """Look at live traffic again and again until the stop."""
        while self._live and not stop.is_set():
            await self._look(self._live)
            self._looked.set()
            await _pause(stop, LOOK_EVERY_S)
        self._looked.set()

    async def turn(self, records: int, stop: asyncio.Event) -> None:
        """Return when so many records may be written, or at the stop."""
        if self._live:
            await self._looked.wait()
            await self._hold("live_lag", self._lag_s, stop)
        if self._max_rate:
            now_s = self._clock()
            self._let_through += records
            # Whatever time went by without records, no more than this turn is owed.
            earliest_s = now_s - self._let_through / self._max_rate
            self._began_s = now_s if self._began_s is None else max(self._began_s, earliest_s)
            await self._hold("max_rate", self._ahead_s, stop)

    def give_back(self, records: int) -> None:
        """So many of those that were let through were not there."""
        self._let_through -= records

    def _lag_s(self) -> float:
        """How long to look again at the earliest; 0: go."""
        return LOOK_EVERY_S / 5 if self._lag.seconds > self._yield_at_s else 0.0

    def _ahead_s(self) -> float:
        assert self._max_rate
        assert self._began_s is not None
        return self._began_s + self._let_through / self._max_rate - self._clock()

    async def _hold(self, holder: Holder, wait_s: Callable[[], float], stop: asyncio.Event) -> None:
        began_s = self._clock()
        while (left_s := wait_s()) > 0 and not stop.is_set():
            self._say(holder)
            await _pause(stop, min(left_s, LOOK_EVERY_S))
        if self.held_by:
            held_s = self._clock() - began_s
            self.held_s[holder] += held_s
            self.held_by = None
            if holder == "live_lag":
                self._log.info("went_on", after="live lag", held_s=round(held_s, 1))

    def _say(self, holder: Holder) -> None:
        self.held_by = holder
        if self._clock() - self._said_at_s < LINE_EVERY_S:
            return
        self._said_at_s = self._clock()
        if holder == "live_lag":
            self._log.info(
                "held",
                by="live lag",
                lag_s=round(self._lag.seconds, 1),
                partition=self._lag.partition,
                yield_at_s=self._yield_at_s,
            )
        else:
            self._log.info("held", by="--max-rate", max_rate=self._max_rate)

    async def _look(self, live: Watching) -> None:
        try:
            self._lag = await live.look()
        except RetryableError as error:
            # Where neither broker nor database answers, no live record is written anyway.
            self._lag = Lag()
            if not self._unsure:
                self._log.warning("live_lag_unknown", why=str(error))
            self._unsure = True
        else:
            self._unsure = False


async def _pause(stop: asyncio.Event, wait_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await stop.wait()
