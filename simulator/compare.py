"""Compares what the simulator sent (its ledger file) with a database, and reports differences.

It finds a row by the coordinates of its record: topic, partition, offset, and index. So a row with
a wrong id is reported as a row that differs, and not as a missing one. A ledger may be larger than
memory, so both sides are divided into 64 parts by execution, and compared one part at a time.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import ExitStack
from typing import Any, Protocol

import msgspec

from simulator.actual_rows import ActualQuarantine, ActualRow, ActualTotals
from simulator.compare_ids import IdCheck
from simulator.compare_totals import TotalsCheck
from simulator.comparison_report import ComparisonReport
from simulator.expected_rows import ExpectedRow, LoggedReport, expected_row
from simulator.ids import is_hashed
from simulator.ledger_file import ExpectedOutcome, LedgerHeader, Line, RecordLine, value_or_digest
from simulator.rendering import ReportedFields
from simulator.spill_partitions import PARTITIONS, SpillPartitions

SourceKey = tuple[int, int, int]
"""Partition, offset, index in the record."""


class RowReader(Protocol):
    """What a comparison reads from the database."""

    def rows(self) -> AsyncIterator[ActualRow]:
        """Every row of the topic."""
        ...

    async def quarantined(self) -> list[ActualQuarantine]:
        """Everything of the topic that was rejected."""
        ...

    async def totals(self) -> dict[int, ActualTotals]:
        """The totals of each partition."""
        ...

    async def find_stored_ids(self, event_ids: list[int]) -> set[int]:
        """Return which of these ids belong to a row."""
        ...


async def compare(lines: Iterable[Line], database: RowReader) -> ComparisonReport:
    """Compare everything in the ledger with everything that the database holds of its topic."""
    report = ComparisonReport()
    with ExitStack() as stack:
        expected_spill, actual_spill = SpillPartitions(stack), SpillPartitions(stack)
        facts = _read_ledger(lines, expected_spill, report)
        async for row in database.rows():
            actual_spill.put(row.execution_id, row)
        ids = IdCheck(facts.shared_ids)
        for number in range(PARTITIONS):
            _compare_partition(expected_spill, actual_spill, number, facts, ids, report)
    await ids.finish(database.find_stored_ids, report)
    _compare_quarantine(facts, await database.quarantined(), report)
    facts.totals.finish(facts.topic, await database.totals(), report)
    return report


class _LedgerFacts(msgspec.Struct):
    """What the ledger holds besides events."""

    topic: str = ""
    rejected: dict[SourceKey, str] = {}
    shared_ids: set[int] = set()
    totals: TotalsCheck = msgspec.field(default_factory=TotalsCheck)

    def name(self, key: SourceKey) -> str:
        """The coordinates as the report prints them."""
        return f"{self.topic}[{key[0]}]@{key[1]}.{key[2]}"


def _read_ledger(
    lines: Iterable[Line], expected_spill: SpillPartitions, report: ComparisonReport
) -> _LedgerFacts:
    facts = _LedgerFacts()
    for line in lines:
        match line:
            case LedgerHeader(topic=topic):
                facts.topic = topic
            case RecordLine(partition=partition, offset=offset, outcomes=outcomes):
                report.records += 1
                facts.totals.add_record(partition, offset, len(outcomes))
                for index, must_be in enumerate(outcomes):
                    _spill(line, index, must_be, facts, expected_spill, report)
            case _:
                pass
    return facts


def _spill(
    line: RecordLine,
    index: int,
    must_be: ExpectedOutcome,
    facts: _LedgerFacts,
    expected_spill: SpillPartitions,
    report: ComparisonReport,
) -> None:
    if must_be.quarantine is not None:
        report.quarantined += 1
        facts.totals.quarantined[line.partition] += 1
        facts.rejected[line.partition, line.offset, index] = must_be.quarantine
        return
    reported = must_be.reported
    if reported is None:
        report.ignored += 1
        facts.totals.ignored[line.partition] += 1
        return
    report.reports += 1
    if must_be.shares_id and reported.event_id is not None:
        facts.shared_ids.add(reported.event_id)
    report_at = LoggedReport(
        line.partition,
        line.offset,
        index,
        line.ts,
        reported,
        copy=line.copy,
        headers=line.headers,
        trace=line.trace,
    )
    expected_spill.put(reported.execution_id, (must_be.event, report_at))


def _compare_partition(
    expected_spill: SpillPartitions,
    actual_spill: SpillPartitions,
    number: int,
    facts: _LedgerFacts,
    ids: IdCheck,
    report: ComparisonReport,
) -> None:
    events: dict[int, list[LoggedReport]] = defaultdict(list)
    for event, report_at in expected_spill.take(number, tuple[int, LoggedReport]):
        events[event].append(report_at)
    rows = {_row_key(row): row for row in actual_spill.take(number, ActualRow)}
    for reports in events.values():
        report.events += 1
        reports.sort(key=_report_key)
        facts.totals.add_event(reports)
        first = reports[0]
        fields = first.reported
        found = [row for one in reports if (row := rows.pop(_report_key(one), None)) is not None]
        name = f"{facts.name(_report_key(first))} {fields.event_type} of {fields.execution_id}"
        if not found:
            report.add_difference("missing", name)
            continue
        if len(found) > 1:
            report.add_difference("doubled", f"{name}: rows {[row.event_id for row in found]}")
        wanted = expected_row(reports)
        _compare_row(name, wanted, found[0], report)
        ids.add(name, wanted, found[0], facts.topic, first, report)
    for row in rows.values():
        report.add_difference("surplus", f"{facts.name(_row_key(row))} {_event_name(row)}")


def _event_name(event: ReportedFields | ActualRow) -> str:
    return f"{event.event_type} of {event.execution_id}"


def _row_key(row: ActualRow) -> SourceKey:
    return row.source_partition, row.source_offset, row.source_index


def _report_key(report_at: LoggedReport) -> SourceKey:
    return report_at.partition, report_at.offset, report_at.index


def _compare_row(name: str, wanted: ExpectedRow, row: ActualRow, report: ComparisonReport) -> None:
    for column, value in wanted.columns.items():
        found = getattr(row, column)
        if column in ("context", "result"):
            found = value_or_digest(None if found is None else msgspec.json.decode(found))
        if found != value:
            report.add_difference(f"differs in {column}", f"{name}: {found!r} is to be {value!r}")
    for column, least in wanted.objects.items():
        _compare_object(name, column, least, getattr(row, column), report)
    coercions = [] if row.coercions is None else msgspec.json.decode(row.coercions)
    rules = {coercion["rule"] for coercion in coercions}
    if is_hashed(row.event_id):
        rules -= {"event_id_conflict", "ambiguous_report"}
    if rules != wanted.rules:
        detail = f"{sorted(rules)} is to be {sorted(wanted.rules)}"
        report.add_difference("differs in coercions", f"{name}: {detail}")
    if not row.shape.startswith(wanted.shape):
        report.add_difference(
            "differs in shape", f"{name}: {row.shape!r} is to be {wanted.shape!r}"
        )
    if row.trace_id not in wanted.traces:
        report.add_difference("differs in trace_id", f"{name}: {row.trace_id!r}")


def _compare_object(
    name: str, column: str, least: dict[str, Any], found: str | None, report: ComparisonReport
) -> None:
    holds = {} if found is None else msgspec.json.decode(found)
    for key, value in least.items():
        if key not in holds or holds[key] != value:
            detail = f"{key} {holds.get(key)!r} is to be {value!r}"
            report.add_difference(f"differs in {column}", f"{name}: {detail}")


def _compare_quarantine(
    facts: _LedgerFacts, found: list[ActualQuarantine], report: ComparisonReport
) -> None:
    rejected = dict(facts.rejected)
    for row in found:
        key = (row.source_partition, row.source_offset, row.source_index)
        reason = rejected.pop(key, None)
        if reason is None:
            report.add_difference(
                "rejected, though nothing is wrong", f"{facts.name(key)}: {row.reason}"
            )
        elif reason != row.reason:
            detail = f"{row.reason} is to be {reason}"
            report.add_difference("differs in reason", f"{facts.name(key)}: {detail}")
    for key, reason in rejected.items():
        report.add_difference("not rejected", f"{facts.name(key)}: {reason}")
