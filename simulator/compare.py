"""A ledger and a database in, every difference between them out.

Both sides are dealt into piles by execution, on disk, and the piles compared one after the other:
memory stays bounded whatever the number of events. Rows are found by the place in the log that
stored them, so that a wrong id is a difference and not a missing row.
"""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, Final, Protocol

import msgspec

from simulator.database import Quarantined, Row, Totals
from simulator.expected import Expected, Placed, expected
from simulator.ids import derived, is_hashed
from simulator.ledger import Begin, Line, MustBe, RecordLine, sealed

_PILES: Final = 64
_EXAMPLES: Final = 5
_SALTS: Final = (1, 2, 3)

Place = tuple[int, int, int]
"""Partition, offset, index in the record."""


class Side(Protocol):
    """What a comparison asks of the database."""

    def rows(self) -> AsyncIterator[Row]:
        """Every row of the topic."""
        ...

    async def quarantined(self) -> list[Quarantined]:
        """Everything of the topic that was refused."""
        ...

    async def totals(self) -> dict[int, Totals]:
        """The totals of each partition."""
        ...

    async def taken(self, event_ids: list[int]) -> set[int]:
        """Those of the ids that belong to some row."""
        ...


class Report(msgspec.Struct):
    """Every kind of difference with its number and a few examples; and what was compared."""

    differences: Counter[str]
    examples: dict[str, list[str]]
    records: int = 0
    events: int = 0
    tellings: int = 0
    quarantined: int = 0
    ignored: int = 0

    @property
    def agrees(self) -> bool:
        """Whether the database holds exactly what the ledger says."""
        return not self.differences

    def differs(self, kind: str, example: str) -> None:
        """Count one difference; the first few are kept as examples."""
        self.differences[kind] += 1
        kept = self.examples.setdefault(kind, [])
        if len(kept) < _EXAMPLES:
            kept.append(example)

    def lines(self) -> Iterator[str]:
        """The report as text."""
        yield (
            f"{self.records} records: {self.events} events in {self.tellings} tellings, "
            f"{self.quarantined} refused, {self.ignored} ignored"
        )
        for kind, number in self.differences.most_common():
            yield f"{kind}: {number}"
            for example in self.examples[kind]:
                yield f"    {example}"
        yield "the database agrees with the ledger" if self.agrees else "the database differs"


async def compare(lines: Iterator[Line], database: Side) -> Report:
    """Everything the ledger says against everything the database holds of its topic."""
    report = Report(differences=Counter(), examples={})
    with TemporaryDirectory(prefix="simulator-") as folder, ExitStack() as stack:
        told = _Piles(Path(folder), "told", stack)
        kept = _Piles(Path(folder), "kept", stack)
        said = _read_ledger(lines, told, report)
        async for row in database.rows():
            kept.put(row.execution_id, row)
        taken = _Ids(said.shared_ids)
        totals = _ExpectedTotals(said)
        for number in range(_PILES):
            events: dict[int, list[Placed]] = defaultdict(list)
            for event, placed in told.take(number, tuple[int, Placed]):
                events[event].append(placed)
            rows = {_place(row): row for row in kept.take(number, Row)}
            _compare_pile(events, rows, said, taken, report)
            for tellings in events.values():
                totals.add(tellings)
        await taken.check(database, report)
        _compare_quarantine(said, await database.quarantined(), report)
        totals.compare(await database.totals(), report)
    return report


class _Said(msgspec.Struct):
    """What the ledger says apart from events."""

    topic: str = ""
    refused: dict[Place, str] = {}
    ignored: Counter[int] = msgspec.field(default_factory=Counter)
    outcomes: Counter[int] = msgspec.field(default_factory=Counter)
    records: Counter[int] = msgspec.field(default_factory=Counter)
    next_offset: dict[int, int] = {}
    shared_ids: set[int] = set()


def _read_ledger(lines: Iterator[Line], told: "_Piles", report: Report) -> _Said:
    said = _Said()
    for line in lines:
        match line:
            case Begin(topic=topic):
                said.topic = topic
            case RecordLine():
                _read_record(line, said, told, report)
            case _:
                pass
    return said


def _read_record(line: RecordLine, said: _Said, told: "_Piles", report: Report) -> None:
    report.records += 1
    said.records[line.partition] += 1
    said.next_offset[line.partition] = max(said.next_offset.get(line.partition, 0), line.offset + 1)
    for index, must_be in enumerate(line.outcomes):
        said.outcomes[line.partition] += 1
        if must_be.quarantine is not None:
            report.quarantined += 1
            said.refused[line.partition, line.offset, index] = must_be.quarantine
        elif must_be.ignored is not None:
            report.ignored += 1
            said.ignored[line.partition] += 1
        else:
            report.tellings += 1
            _deal(line, index, must_be, said, told)


def _deal(line: RecordLine, index: int, must_be: MustBe, said: _Said, told: "_Piles") -> None:
    says = must_be.says
    assert says is not None
    assert must_be.event is not None
    if must_be.shares_id and says.event_id is not None:
        said.shared_ids.add(says.event_id)
    placed = Placed(
        line.partition,
        line.offset,
        index,
        line.ts,
        says,
        copy=line.copy,
        headers=line.headers,
        trace=line.trace,
    )
    told.put(says.execution_id, (must_be.event, placed))


def _place(row: Row) -> Place:
    return row.source_partition, row.source_offset, row.source_index


def _compare_pile(
    events: dict[int, list[Placed]],
    rows: dict[Place, Row],
    said: _Said,
    ids: "_Ids",
    report: Report,
) -> None:
    for tellings in events.values():
        report.events += 1
        places = [(placed.partition, placed.offset, placed.index) for placed in tellings]
        found = [row for place in places if (row := rows.pop(place, None)) is not None]
        what = f"{said.topic}[{places[0][0]}]@{places[0][1]}.{places[0][2]}"
        name = f"{what} {tellings[0].says.event_type} of {tellings[0].says.execution_id}"
        if not found:
            report.differs("missing", name)
            continue
        if len(found) > 1:
            ids_found = ", ".join(str(row.event_id) for row in found)
            report.differs("doubled", f"{name}: rows {ids_found}")
        wanted = expected(tellings)
        _compare_row(name, wanted, found[0], report)
        ids.add(name, wanted, found[0], said.topic, tellings)
    for row in rows.values():
        place = f"{said.topic}[{row.source_partition}]@{row.source_offset}.{row.source_index}"
        report.differs("surplus", f"{place} {row.event_type} of {row.execution_id}")


def _compare_row(name: str, wanted: Expected, row: Row, report: Report) -> None:
    for column, value in wanted.columns.items():
        found = getattr(row, column)
        if column in ("context", "result"):
            found = sealed(None if found is None else msgspec.json.decode(found))
        if found != value:
            report.differs(f"differs in {column}", f"{name}: {found!r} is to be {value!r}")
    for column, least in wanted.objects.items():
        _compare_object(name, column, least, getattr(row, column), report)
    coercions = [] if row.coercions is None else msgspec.json.decode(row.coercions)
    rules = {coercion["rule"] for coercion in coercions}
    if is_hashed(row.event_id):
        rules.discard("event_id_conflict")
    if rules != wanted.rules:
        report.differs(
            "differs in coercions", f"{name}: {sorted(rules)} is to be {sorted(wanted.rules)}"
        )
    if not any(row.shape.startswith(shape) for shape in wanted.shapes):
        report.differs("differs in shape", f"{name}: {row.shape!r}, not {sorted(wanted.shapes)}")
    if row.trace_id not in wanted.traces:
        report.differs("differs in trace_id", f"{name}: {row.trace_id!r}")


def _compare_object(
    name: str, column: str, least: dict[str, Any], found: str | None, report: Report
) -> None:
    holds = {} if found is None else msgspec.json.decode(found)
    for key, value in least.items():
        if key not in holds or holds[key] != value:
            report.differs(
                f"differs in {column}", f"{name}: {key} {holds.get(key)!r} is to be {value!r}"
            )


class _Ids:
    """Checks the ids: the producer's own, a derived one, or one of two events that share one."""

    def __init__(self, shared: set[int]) -> None:
        self._shared = shared
        self._plain: Counter[int] = Counter()
        self._salted: dict[int, str] = {}
        self._wrong: list[tuple[str, int, int]] = []

    def add(
        self, name: str, wanted: Expected, row: Row, topic: str, tellings: list[Placed]
    ) -> None:
        own = wanted.own_id
        if own is None:
            self._add_derived(name, row, topic, tellings[0])
        elif own in self._shared:
            self._plain[own] += row.event_id == own
            if row.event_id != own and not is_hashed(row.event_id):
                self._wrong.append((name, row.event_id, own))
        elif row.event_id != own:
            self._wrong.append((name, row.event_id, own))

    def _add_derived(self, name: str, row: Row, topic: str, placed: Placed) -> None:
        place = (topic, placed.partition, placed.offset, placed.index, placed.recorded_ms)
        plain = derived(*place)
        if row.event_id == plain:
            return
        if row.event_id in [derived(*place, salt=salt) for salt in _SALTS]:
            self._salted[plain] = name
        else:
            self._wrong.append((name, row.event_id, plain))

    async def check(self, database: Side, report: Report) -> None:
        """Report what is wrong; a salted id is right only if the plain one is taken."""
        for name, found, value in self._wrong:
            report.differs("differs in event_id", f"{name}: {found} is to be {value}")
        for own, number in self._plain.items():
            if number != 1:
                report.differs("differs in event_id", f"{own} belongs to {number} of its events")
        taken = await database.taken(list(self._salted))
        for plain, name in self._salted.items():
            if plain not in taken:
                report.differs("differs in event_id", f"{name}: {plain} is free, yet not used")


def _compare_quarantine(said: _Said, found: list[Quarantined], report: Report) -> None:
    refused = dict(said.refused)
    for row in found:
        place = (row.source_partition, row.source_offset, row.source_index)
        name = f"{said.topic}[{place[0]}]@{place[1]}.{place[2]}"
        reason = refused.pop(place, None)
        if reason is None:
            report.differs("refused, though nothing is wrong", f"{name}: {row.reason}")
        elif reason != row.reason:
            report.differs("differs in reason", f"{name}: {row.reason} is to be {reason}")
    for place, reason in refused.items():
        report.differs("not refused", f"{said.topic}[{place[0]}]@{place[1]}.{place[2]}: {reason}")


class _ExpectedTotals:
    """What each partition's totals must be.

    A telling that changes its row is `joined`, one that does not a `duplicate`; which is which
    hangs on the order, and that is known where all tellings of an event lie in one partition.
    """

    def __init__(self, said: _Said) -> None:
        self._said = said
        self._least: dict[str, Counter[int]] = defaultdict(Counter)
        self._events = 0
        self._tellings = 0
        self._ordered = True

    def add(self, tellings: list[Placed]) -> None:
        self._events += 1
        self._tellings += len(tellings)
        partitions = {placed.partition for placed in tellings}
        if len(partitions) > 1:
            self._ordered = False
            return
        partition = partitions.pop()
        self._least["stored"][partition] += 1
        for placed in tellings[1:]:
            again = placed.copy or placed.offset == tellings[0].offset
            self._least["duplicate" if again else "joined"][partition] += 1

    def compare(self, found: dict[int, Totals], report: Report) -> None:
        said = self._said
        refused = Counter(partition for partition, _, _ in said.refused)
        for partition in sorted(said.records):
            totals = found.get(partition)
            name = f"{said.topic}[{partition}]"
            if totals is None:
                report.differs("differs in totals", f"{name} was never read")
                continue
            wanted: dict[str, Any] = {
                "next_offset": said.next_offset[partition],
                "records": said.records[partition],
                "outcomes": said.outcomes[partition],
                "quarantined": refused[partition],
                "ignored": said.ignored[partition],
            }
            if self._ordered:
                wanted |= {kind: self._least[kind][partition] for kind in _FATES}
            for field, value in wanted.items():
                if (is_now := getattr(totals, field)) != value:
                    report.differs(
                        "differs in totals", f"{name}.{field}: {is_now} is to be {value}"
                    )
        self._compare_sums(found, report)

    def _compare_sums(self, found: dict[int, Totals], report: Report) -> None:
        stored = sum(totals.stored for totals in found.values())
        again = sum(totals.duplicate + totals.joined for totals in found.values())
        if stored != self._events:
            report.differs("differs in totals", f"stored: {stored} is to be {self._events}")
        if again != self._tellings - self._events:
            wanted = self._tellings - self._events
            report.differs("differs in totals", f"duplicate + joined: {again} is to be {wanted}")


_FATES: Final = ("stored", "duplicate", "joined")


class _Piles:
    """Values dealt into files by a number, and taken out a file at a time."""

    def __init__(self, folder: Path, name: str, stack: ExitStack) -> None:
        self._encode = msgspec.msgpack.Encoder().encode
        self._files: list[BinaryIO] = [
            stack.enter_context((folder / f"{name}{number}").open("w+b"))
            for number in range(_PILES)
        ]

    def put(self, key: int, value: Any) -> None:
        written = self._encode(value)
        file = self._files[key % _PILES]
        file.write(len(written).to_bytes(4, "big"))
        file.write(written)

    def take(self, number: int, kind: Any) -> Iterator[Any]:
        decode = msgspec.msgpack.Decoder(kind).decode
        file = self._files[number]
        file.seek(0)
        while size := file.read(4):
            yield decode(file.read(int.from_bytes(size, "big")))
