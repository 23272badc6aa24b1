"""Measures how the drain depends on what is stored, sent, and shared. Each curve changes one thing.

    python -m bench.curves --events 5000 --rounds 1 --stored 0,20000     a smoke test: no figures
    python -m bench.curves --results                      the full form, into docs/results.csv
    python -m bench.curves --only repeats,ids

Each point is the median of rounds. In a round all points of a curve follow one another, so a
machine that's slow for a while is slow for all of them. A drain into stored rows has one into an
empty database beside it. Records that are sent or read again go to where they are stored already.
Memory is the peak of a process with its child, of several processes the mean. The full form takes
more than an hour: thirty million rows must be stored first, and ten million records drained.
"""

import argparse
import asyncio
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from statistics import median
from typing import Final, Literal, get_args

import asyncpg
import msgspec

from bench.drain import PARTITIONS, Core, Drained, Stack, drain, stack
from bench.history import EVENTS_AN_EXECUTION, make_history
from bench.servers import create_topic
from normalizer.runtime.native_lane import why_not_installed
from simulator.kafka_producer import producer, send_all
from simulator.mix import CLEAN_MIX, SECOND_US, Mix
from simulator.sent_record import SentRecord
from simulator.topic_records import records
from tests.support.results import command_line, option_parser, write_results

EVENTS: Final = 150_000
LONGEST_BYTES: Final = 400_000_000
"""Of a topic with large events: it has fewer."""
REPEATED_AFTER: Final = 5_000
"""Records between one and its repeat."""
HISTORY: Final = timedelta(days=30)
"""The time that rows stored together span. It ends where that of the rows before them begins."""
TOPIC_S: Final = 3 * 86_400
"""How much later the platform's clock stands in each topic than in the one before: ids differ.

A broker refuses records of the future, and a run has dozens of topics.
"""


Again = Literal["sent", "read"]
_ALL_AGAIN: Final = "all, sent again"


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A point of a curve: what is in the topic, and who reads it into which database.

    Shares are between 0 and 1. With `again`, the records are stored already: they were "sent" a
    second time to another topic, or are "read" a second time from the same offsets. `stored` is the
    number of rows of other executions that the database has before, or None for an empty database.
    """

    label: str
    events: int = 0
    mix: Mix = CLEAN_MIX
    partitions: int = PARTITIONS
    processes: int = 1
    core: Core | None = None
    repeats: float = 0.0
    without_ids: float = 0.0
    again: Again | None = None
    stored: int | None = None


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """Points that differ in one thing. The others are compared with the first."""

    name: str
    title: str
    points: tuple[Point, ...]


def curves(events: int, stored: Sequence[int], memory: Sequence[int]) -> Iterator[Curve]:
    """All curves, those that take longest last."""
    yield Curve(
        name="ids",
        title="Share of events without an id",
        points=tuple(
            Point(label=f"{share:.0%}", events=events, without_ids=share) for share in (0, 0.5, 1)
        ),
    )
    yield Curve(
        name="repeats",
        title="Share of records that repeat others",
        points=(
            *(point for core in get_args(Core) for point in _repeats(core, events)),
            Point(label="all, read again", events=events, again="read"),
        ),
    )
    yield Curve(
        name="partitions",
        title="Partitions, one process",
        points=tuple(
            Point(label=str(count), events=events, partitions=count) for count in (1, 2, 4, 8)
        ),
    )
    yield Curve(
        name="processes",
        title=f"Processes, {PARTITIONS} partitions, {os.cpu_count()} cores for all",
        points=tuple(
            Point(label=str(count), events=events, processes=count) for count in (1, 2, 3, 4)
        ),
    )
    yield Curve(
        name="sizes",
        title="Bytes of an event, about",
        points=tuple(
            Point(
                label=f"{size:,}",
                events=min(events, LONGEST_BYTES // size),
                mix=msgspec.structs.replace(
                    CLEAN_MIX, event_bytes_low=size, event_bytes_high=size + 1
                ),
            )
            for size in (200, 1_000, 5_000, 20_000, 100_000)
        ),
    )
    yield Curve(
        name="stored",
        title="Rows stored before",
        points=tuple(Point(label=f"{rows:,}", events=events, stored=rows) for rows in stored),
    )
    yield Curve(
        name="memory",
        title="Events of one drain",
        points=tuple(Point(label=f"{count:,}", events=count) for count in memory),
    )


def _repeats(core: Core, events: int) -> Iterator[Point]:
    for share in (0, 0.01, 0.1, 0.5):
        yield Point(label=f"{core}, {share:.0%}", core=core, events=events, repeats=share)
    yield Point(label=f"{core}, {_ALL_AGAIN}", core=core, events=events, again="sent")


Drains = dict[str, list[Drained]]
"""All drains of a curve by the label of their point."""


class Bench:
    """One stack. It loads topics once, and each drain has its own database."""

    def __init__(self, servers: Stack, report: Callable[[str], None]) -> None:
        self._servers = servers
        self._report = report
        self._topics: dict[bytes, str] = {}
        self._numbers = itertools.count(1)

    async def measure(self, curve: Curve, rounds: int) -> Drains:
        """Drain every point once a round, each round beginning with another."""
        if curve.name == "stored":
            return await self._measure_stored(curve, rounds)
        drains: Drains = {point.label: [] for point in curve.points}
        for number in range(rounds):
            turn = number * len(curve.points) // rounds
            for point in (*curve.points[turn:], *curve.points[:turn]):
                drains[point.label].append(await self._once(curve, point))
        return drains

    async def _measure_stored(self, curve: Curve, rounds: int) -> Drains:
        """Measure drains into a database whose history grows from point to point.

        Beside each of them, the same topic is drained into an empty database, and the result is the
        ratio of both. The drains into empty databases are stored as those of the first point.
        """
        name = "history"
        url = await self._servers.database(name)
        drains: Drains = {point.label: [] for point in curve.points}
        first, *later = curve.points
        there = executions = 0
        until = datetime.now(UTC)
        for point in later:
            assert point.stored is not None
            rows = point.stored - there
            there += await self._store(url, rows, until, executions)
            executions += rows // EVENTS_AN_EXECUTION
            until -= HISTORY
            self._report(f"stored: {there:,} rows")
            for number in range(rounds):
                topic = await self._load(point)
                pair = ((first, None), (point, url))
                for of, into in reversed(pair) if number % 2 else pair:
                    drains[of.label].append(await self._drained(curve, of, topic, into))
        await self._drop(name)
        return drains

    async def _store(self, url: str, rows: int, until: datetime, first: int) -> int:
        connection = await asyncpg.connect(url)
        try:
            made = await make_history(
                connection, rows, until=until, per_day=rows / HISTORY.days, first=first
            )
        finally:
            await connection.close()
        await self._stored_long_ago(url)
        return made

    async def _once(self, curve: Curve, point: Point) -> Drained:
        # Points that differ in who reads share a topic.
        sent = msgspec.structs.replace(point, label="", processes=1, core=None, again=None)
        key = msgspec.json.encode(sent)
        if key not in self._topics:
            self._topics[key] = await self._load(point)
        topic = self._topics[key]
        if point.again is None:
            return await self._drained(curve, point, topic, None)
        name = f"again_{next(self._numbers)}"
        url = await self._servers.database(name)
        await drain(url, self._servers.bootstrap_servers, 1, topic, point.partitions)
        await self._stored_long_ago(url)
        if point.again == "sent":
            topic = await self._load(point, topic)
        else:
            await _rewind(url)
        repeated = await self._drained(curve, point, topic, url)
        await self._drop(name)
        return repeated

    async def _drained(self, curve: Curve, point: Point, topic: str, url: str | None) -> Drained:
        name = f"drain_{next(self._numbers)}"
        into = url or await self._servers.database(name)
        servers = self._servers.bootstrap_servers
        one = await drain(into, servers, point.processes, topic, point.partitions, point.core)
        if url is None:
            await self._drop(name)
        self._report(
            f"{curve.name}, {point.label}: {one.rate:,.0f} events/s, {one.cpu_us:.1f} us, "
            f"{one.peak_mb / point.processes:.0f} MB"
        )
        return one

    async def _drop(self, name: str) -> None:
        connection = await asyncpg.connect(self._servers.postgres.superuser_url)
        try:
            await connection.execute(f"drop database {name} with (force)")
        finally:
            await connection.close()

    async def _stored_long_ago(self, url: str) -> None:
        """Do what the server would have done since."""
        for database, statement in (
            (url, "vacuum (analyze)"),
            (self._servers.postgres.superuser_url, "checkpoint"),
        ):
            connection = await asyncpg.connect(database)
            try:
                await connection.execute(statement)
            finally:
                await connection.close()

    async def _load(self, point: Point, same_as: str | None = None) -> str:
        """Load a new topic, with records of its own, or with those of another."""
        number = next(self._numbers)
        topic = f"curve.{number}"
        clock = int(same_as.rpartition(".")[2]) if same_as else number
        servers = self._servers.bootstrap_servers
        await create_topic(servers, topic, point.partitions)
        async with producer(servers, topic) as sender:
            stop = asyncio.Event()
            await send_all(_records(point, clock), sender, now_us=None, stop=stop)
        return topic


async def _rewind(url: str) -> None:
    """Move every position back to its beginning, as `normalizer position rewind` does."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            """
            update normalizer.source_positions
            set    rewound = rewound + next_offset - start_offset, next_offset = start_offset
            """
        )
    finally:
        await connection.close()


def _records(point: Point, clock: int) -> Iterator[SentRecord]:
    mix = msgspec.structs.replace(
        point.mix,
        partitions=point.partitions,
        start_us=point.mix.start_us + clock * TOPIC_S * SECOND_US,
    )
    random = Random(clock)
    later: list[tuple[int, SentRecord]] = []
    events = 0
    for number, record in enumerate(records(mix, 1)):
        if random.random() < point.without_ids:
            record = _without_id(record)  # noqa: PLW2901 - from here on it is the one that is sent
        while later and later[0][0] <= number and events < point.events:
            repeat = later.pop(0)[1]
            events += len(repeat.outcomes)
            yield repeat
        if events >= point.events:
            return
        events += len(record.outcomes)
        yield record
        if random.random() < point.repeats / (1 - point.repeats):
            later.append((number + REPEATED_AFTER, record))


def _without_id(record: SentRecord) -> SentRecord:
    if record.value is None:
        return record
    try:
        event = msgspec.json.decode(record.value)
    except msgspec.DecodeError:
        return record
    if not isinstance(event, dict) or event.pop("event_id", None) is None:
        return record
    return msgspec.structs.replace(record, value=msgspec.json.encode(event))


async def main(options: argparse.Namespace) -> None:
    """Print each drain as it ends, then each curve."""
    wanted = [
        curve
        for curve in curves(options.events, options.stored, options.memory)
        if not options.only or curve.name in options.only
    ]
    rows: dict[str, object] = {}
    async with stack() as servers:
        bench = Bench(servers, lambda line: print(line, flush=True))
        for curve in wanted:
            rounds = 1 if curve.name == "memory" else options.rounds
            drains = await bench.measure(curve, rounds)
            rows |= _rows(curve, drains)
    for what, figure in rows.items():
        print(f"{what}: {figure}")
    if options.results:
        write_results("curves", command_line(), rows)


def _ratios(curve: Curve, drains: Drains) -> list[float]:
    """Return how fast each point is compared with the first one: the median ratio of the rounds.

    If a point was measured beside drains into an empty database (the curve "stored"), it's compared
    with those.
    """
    first = drains[curve.points[0].label]
    ratios = []
    for number, point in enumerate(curve.points):
        beside = first
        if curve.name == "stored" and number:
            rounds = len(drains[point.label])
            beside = first[(number - 1) * rounds : number * rounds]
        pairs = zip(drains[point.label], beside, strict=True)
        ratios.append(median(one.rate / other.rate for one, other in pairs))
    return ratios


def _rows(curve: Curve, drains: Drains) -> dict[str, object]:
    rows: dict[str, object] = {}
    for point, ratio in zip(curve.points, _ratios(curve, drains), strict=True):
        all_of = drains[point.label]
        rates = [one.rate for one in all_of]
        cells = (
            f"of the first: {ratio:.2f}",
            f"events/s: {median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})",
            f"own us an event: {median(one.cpu_us for one in all_of):.1f}",
            f"MB a process: {max(one.peak_mb for one in all_of) / point.processes:.0f}",
        )
        rows[f"{curve.title}: {point.label}"] = "; ".join(cells)
    if curve.name == "repeats":
        for core in get_args(Core):
            none, half, every = (
                [1 / one.rate for one in drains[f"{core}, {label}"]]
                for label in ("0%", "50%", _ALL_AGAIN)
            )
            ratio = median(h / ((n + e) / 2) for n, h, e in zip(none, half, every, strict=True))
            rows[f"{curve.title}: {core}, time at 50% beside the straight line"] = f"{ratio:.2f}"
    return rows


def _counts(text: str) -> list[int]:
    return [int(one) for one in text.split(",")]


if __name__ == "__main__":
    parser = option_parser(__doc__, results=True)
    parser.add_argument("--events", type=int, default=EVENTS, help="of a drain; default: 150000")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=[], help="names of curves"
    )
    parser.add_argument(
        "--stored",
        type=_counts,
        default=[0, 1_000_000, 10_000_000, 30_000_000],
        help="rows stored before; the first is 0",
    )
    parser.add_argument(
        "--memory",
        type=_counts,
        default=[100_000, 1_000_000, 10_000_000],
        help="events of one drain",
    )
    chosen = parser.parse_args()
    if unknown := set(chosen.only) - {curve.name for curve in curves(1, [0], [1])}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if chosen.results and chosen.only:
        parser.error("--results writes the whole page: leave out --only")
    if (not chosen.only or "repeats" in chosen.only) and (why := why_not_installed()):
        parser.error(f"{why}. Type make native")
    asyncio.run(main(chosen))
