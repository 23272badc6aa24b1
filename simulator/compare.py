"""A ledger and a database in, every difference between them out.

Both sides are dealt into piles by execution, and the piles compared one after the other:
memory stays bounded whatever the number of events. Rows are found by the place in the log that
stored them, so that a wrong id is a difference and not a missing row.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import ExitStack
from typing import Any, Protocol

import msgspec

from simulator.compare_ids import IdCheck
from simulator.compare_totals import TotalsCheck
from simulator.database import Quarantined, Row, Totals
from simulator.expected import Expected, Placed, expected
from simulator.ids import is_hashed
from simulator.ledger import Begin, Line, MustBe, RecordLine, sealed
from simulator.piles import PILES, Piles
from simulator.report import Report
from simulator.telling import Says

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


async def compare(lines: Iterable[Line], database: Side) -> Report:
    """Everything the ledger says against everything the database holds of its topic."""
    report = Report()
    with ExitStack() as stack:
        told, kept = Piles(stack), Piles(stack)
        said = _read_ledger(lines, told, report)
        async for row in database.rows():
            kept.put(row.execution_id, row)
        ids = IdCheck(said.shared_ids)
        for number in range(PILES):
            _compare_pile(told, kept, number, said, ids, report)
    await ids.finish(database.taken, report)
    _compare_quarantine(said, await database.quarantined(), report)
    said.totals.finish(said.topic, await database.totals(), report)
    return report


class _Said(msgspec.Struct):
    """What the ledger says apart from events."""

    topic: str = ""
    refused: dict[Place, str] = {}
    shared_ids: set[int] = set()
    totals: TotalsCheck = msgspec.field(default_factory=TotalsCheck)

    def name(self, place: Place) -> str:
        """How a place is called in a report."""
        return f"{self.topic}[{place[0]}]@{place[1]}.{place[2]}"


def _read_ledger(lines: Iterable[Line], told: Piles, report: Report) -> _Said:
    said = _Said()
    for line in lines:
        match line:
            case Begin(topic=topic):
                said.topic = topic
            case RecordLine(partition=partition, offset=offset, outcomes=outcomes):
                report.records += 1
                said.totals.add_record(partition, offset, len(outcomes))
                for index, must_be in enumerate(outcomes):
                    _deal(line, index, must_be, said, told, report)
            case _:
                pass
    return said


def _deal(
    line: RecordLine, index: int, must_be: MustBe, said: _Said, told: Piles, report: Report
) -> None:
    if must_be.quarantine is not None:
        report.quarantined += 1
        said.totals.quarantined[line.partition] += 1
        said.refused[line.partition, line.offset, index] = must_be.quarantine
        return
    says = must_be.says
    if says is None:
        report.ignored += 1
        said.totals.ignored[line.partition] += 1
        return
    report.tellings += 1
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


def _compare_pile(
    told: Piles, kept: Piles, number: int, said: _Said, ids: IdCheck, report: Report
) -> None:
    events: dict[int, list[Placed]] = defaultdict(list)
    for event, placed in told.take(number, tuple[int, Placed]):
        events[event].append(placed)
    rows = {_place(row): row for row in kept.take(number, Row)}
    for tellings in events.values():
        report.events += 1
        tellings.sort(key=_place_told)
        said.totals.add_event(tellings)
        first = tellings[0]
        found = [row for one in tellings if (row := rows.pop(_place_told(one), None)) is not None]
        name = (
            f"{said.name(_place_told(first))} {first.says.event_type} of {first.says.execution_id}"
        )
        if not found:
            report.differs("missing", name)
            continue
        if len(found) > 1:
            report.differs("doubled", f"{name}: rows {[row.event_id for row in found]}")
        wanted = expected(tellings)
        _compare_row(name, wanted, found[0], report)
        ids.add(name, wanted, found[0], said.topic, first, report)
    for row in rows.values():
        report.differs("surplus", f"{said.name(_place(row))} {_called(row)}")


def _called(event: Says | Row) -> str:
    return f"{event.event_type} of {event.execution_id}"


def _place(row: Row) -> Place:
    return row.source_partition, row.source_offset, row.source_index


def _place_told(placed: Placed) -> Place:
    return placed.partition, placed.offset, placed.index


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
        rules -= {"event_id_conflict", "ambiguous_report"}
    if rules != wanted.rules:
        told = f"{sorted(rules)} is to be {sorted(wanted.rules)}"
        report.differs("differs in coercions", f"{name}: {told}")
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
            told = f"{key} {holds.get(key)!r} is to be {value!r}"
            report.differs(f"differs in {column}", f"{name}: {told}")


def _compare_quarantine(said: _Said, found: list[Quarantined], report: Report) -> None:
    refused = dict(said.refused)
    for row in found:
        place = (row.source_partition, row.source_offset, row.source_index)
        reason = refused.pop(place, None)
        if reason is None:
            report.differs("refused, though nothing is wrong", f"{said.name(place)}: {row.reason}")
        elif reason != row.reason:
            told = f"{row.reason} is to be {reason}"
            report.differs("differs in reason", f"{said.name(place)}: {told}")
    for place, reason in refused.items():
        report.differs("not refused", f"{said.name(place)}: {reason}")
