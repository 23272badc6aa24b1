"""The comparison by itself: it sees a row that is missing, doubled, too many, or different."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import msgspec
import pytest

from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from simulator.actual_rows import ActualQuarantine, ActualRow, ActualTotals
from simulator.compare import compare
from simulator.comparison_report import ComparisonReport
from simulator.expected_rows import LoggedReport, expected_row
from simulator.ledger_file import Line
from simulator.mix import Mix
from simulator.rendering import ReportedFields
from tests.support.simulator_pipeline import TOPIC, MemoryDatabase, compare_in_memory, simulated_log

Play = tuple[list[RawRecord], list[Line]]


@pytest.fixture(scope="module")
def play() -> Play:
    return simulated_log(Mix(in_flight=10, poison=0.1, reported_twice=0.5, redelivered=0.1), 5, 400)


class Changed:
    """A database as it should be, but for one thing."""

    def __init__(
        self,
        held: MemoryDatabase,
        rows: Callable[[list[ActualRow]], list[ActualRow]] = lambda rows: rows,
        quarantined: Callable[[list[ActualQuarantine]], list[ActualQuarantine]] = lambda rows: rows,
        totals: Callable[[dict[int, ActualTotals]], dict[int, ActualTotals]] = lambda totals: (
            totals
        ),
    ) -> None:
        self._held = held
        self._change_rows = rows
        self._change_quarantined = quarantined
        self._change_totals = totals

    async def rows(self) -> AsyncIterator[ActualRow]:
        for row in self._change_rows([row async for row in self._held.rows()]):
            yield row

    async def quarantined(self) -> list[ActualQuarantine]:
        return self._change_quarantined(list(await self._held.quarantined()))

    async def totals(self) -> dict[int, ActualTotals]:
        return self._change_totals(await self._held.totals())

    async def find_stored_ids(self, event_ids: list[int]) -> set[int]:
        return await self._held.find_stored_ids(event_ids)


async def held(play: Play) -> MemoryDatabase:
    database = MemoryDatabase()
    normalize = Normalizer().normalize
    await database.write([(record, normalize(record)) for record in play[0]])
    return database


async def compared(play: Play, **changes: object) -> ComparisonReport:
    return await compare(play[1], Changed(await held(play), **changes))  # type: ignore[arg-type]


async def test_nothing_changed_is_no_difference(play: Play) -> None:
    report = await compared(play)

    assert report.agrees
    assert list(report.lines())[-1] == "the database agrees with the ledger"


@pytest.mark.parametrize(
    ("change", "differences"),
    [
        (lambda rows: rows[1:], {"missing": 1}),
        (lambda rows: [*rows, msgspec.structs.replace(rows[0], source_index=9)], {"surplus": 1}),
        # Its two keys are lost.
        (
            lambda rows: [msgspec.structs.replace(rows[0], meta="{}"), *rows[1:]],
            {"differs in meta": 2},
        ),
    ],
)
async def test_a_row_that_is_missing_surplus_or_short_of_a_key_is_named(
    play: Play, change: Callable[[list[ActualRow]], list[ActualRow]], differences: dict[str, int]
) -> None:
    report = await compared(play, rows=change)

    assert report.differences == differences
    (difference,) = differences
    assert report.examples[difference][0].startswith(f"{TOPIC}[")


async def test_one_event_in_two_rows_is_doubled(play: Play) -> None:
    twice = next(
        reports
        for reports in _reports_by_event(play).values()
        if len({(p.partition, p.offset) for p in reports}) > 1
    )
    second = twice[-1]

    def doubled(rows: list[ActualRow]) -> list[ActualRow]:
        place = {
            "source_partition": second.partition,
            "source_offset": second.offset,
            "source_index": second.index,
        }
        own = next(row for row in rows if row.event_id == second.reported.event_id)
        return [*rows, msgspec.structs.replace(own, event_id=1, **place)]

    report = await compared(play, rows=doubled)

    assert report.differences["doubled"] == 1


_JSON: Final = dict.fromkeys(("context", "result"), '{"guessed":true}')
_TEXTS: Final = "event_type step status worker_id command_id node_type error shape trace_id".split()
_ODD: Final[dict[str, Any]] = {
    **_JSON,
    **dict.fromkeys(_TEXTS, "guessed"),
    "coercions": '[{"rule":"guessed"}]',
}
"""A value of a column that no row has. 99 is none of the other columns."""


@pytest.mark.parametrize(
    "column",
    [
        name
        for name in ActualRow.__struct_fields__
        if not name.startswith("source_")
        and name not in ("execution_id", "meta", "extra", "headers")
    ],
)
async def test_a_column_that_differs_is_named(play: Play, column: str) -> None:
    odd = {column: _ODD.get(column, 99)}

    report = await compared(
        play, rows=lambda rows: [msgspec.structs.replace(rows[0], **odd), *rows[1:]]
    )

    assert report.differences == {f"differs in {column}": 1}


async def test_quarantine_is_compared_both_ways(play: Play) -> None:
    def changed(rows: list[ActualQuarantine]) -> list[ActualQuarantine]:
        first = msgspec.structs.replace(rows[0], reason="guessed")
        return [first, *rows[2:], ActualQuarantine(0, 0, 9, "invalid_json")]

    report = await compared(play, quarantined=changed)

    assert report.differences == {
        "differs in reason": 1,
        "not rejected": 1,
        "rejected, though nothing is wrong": 1,
    }


async def test_totals_are_compared(play: Play) -> None:
    def changed(totals: dict[int, ActualTotals]) -> dict[int, ActualTotals]:
        first = totals[0]
        return totals | {
            0: msgspec.structs.replace(
                first, stored=first.stored - 1, duplicate=first.duplicate + 1
            )
        }

    report = await compared(play, totals=changed)

    # Both fields of the partition, and both sums.
    assert report.differences == {"differs in totals": 4}


async def test_no_record_at_all_is_a_difference(play: Play) -> None:
    report = await compare_in_memory([], play[1], Normalizer().normalize)

    assert report.differences["missing"] == report.events > 0


def reported(**fields: object) -> ReportedFields:
    values = {
        "execution_id": 1,
        "event_type": "call.done",
        "kind": "call.done",
        "shape": "worker",
        "status": "COMPLETED",
        "status_rank": 1,
        **fields,
    }
    return ReportedFields(**values)  # type: ignore[arg-type]


def test_a_row_is_the_merge_of_its_reports() -> None:
    reports = [
        LoggedReport(0, 0, 0, 5, reported(attempts=1, attempts_rank=2, worker_id="w", event_id=9)),
        LoggedReport(
            0, 1, 0, 6, reported(attempts=4, attempts_rank=1, status="ERROR", status_rank=2)
        ),
        LoggedReport(0, 2, 0, 7, reported(step="s", created_us=3, created_rank=2, error="e")),
    ]

    row = expected_row(reports)
    turned = expected_row([reports[0], *reversed(reports[1:])])

    assert row == turned
    columns = row.columns
    assert (columns["attempts"], columns["status"], columns["created_us"]) == (1, "ERROR", 3)
    assert (columns["worker_id"], columns["step"], columns["error"]) == ("w", "s", "e")


@pytest.mark.parametrize(
    ("shapes", "shape"),
    [
        (["rust_row", "executor"], "rust_row"),
        (["unknown", "executor"], "executor"),
        (["unknown", "unknown"], "unknown"),
        (["python", "unknown", "rust_request"], "rust_request"),
    ],
)
def test_a_row_has_the_greater_shape_of_its_reports(shapes: list[str], shape: str) -> None:
    reports = [LoggedReport(0, n, 0, 5, reported(shape=one)) for n, one in enumerate(shapes)]

    assert expected_row(reports).shape == shape


def _reports_by_event(play: Play) -> dict[int, list[LoggedReport]]:
    reports: dict[int, list[LoggedReport]] = {}
    for line in play[1]:
        for index, must_be in enumerate(getattr(line, "outcomes", [])):
            if must_be.reported is not None:
                placed = LoggedReport(line.partition, line.offset, index, line.ts, must_be.reported)  # type: ignore[union-attr]
                reports.setdefault(must_be.event, []).append(placed)
    return reports
