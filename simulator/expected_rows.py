"""Builds the row that the database must have for an event, from all reports of the event.

It's written from the guarantee in the docs and shares no code with the normalizer. The reports of
an event are merged column by column, and their order doesn't matter: a declared value wins over a
derived one, a derived one over a default, and any value over none. If two values are equally good,
the greater one (by its bytes) wins. Source: docs/spec/wire-shapes.md#v3, #m4.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from simulator.evidence import pack_evidence
from simulator.rendering import ReportedFields
from simulator.view_fold import REPORTED_ELSEWHERE_FLAG, Row


class LoggedReport(msgspec.Struct, frozen=True, array_like=True):
    """A report of an event, with the coordinates of its record in Kafka.

    `recorded_ms` is the timestamp of the record. `copy` is true if another record with the same
    bytes was sent before.
    """

    partition: int
    offset: int
    index: int
    recorded_ms: int
    reported: ReportedFields
    copy: bool = False
    headers: dict[str, Any] = {}
    trace: str | None = None


class ExpectedRow(msgspec.Struct):
    """The row that an event must have in the database.

    The row's values must equal those in `columns`, and its coercions those in `rules`. Each JSON
    column named in `objects` must have at least the keys listed there. The name of its wire shape
    must begin with `shape`, and its trace id must be one of `traces`. `own_id` is the id that was
    sent, or None if the normalizer must derive one.
    """

    columns: dict[str, Any]
    own_id: int | None
    objects: dict[str, dict[str, Any]]
    rules: frozenset[str]
    shape: str
    traces: frozenset[str | None]


_PLAIN: Final = (
    "event_type",
    "step",
    "worker_id",
    "command_id",
    "iteration",
    "max_attempts",
    "node_type",
    "catalog_id",
    "parent_event_id",
    "parent_execution_id",
    "duration",
    "error",
)
_DIGESTED: Final = ("context", "result")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def expected_row(reports: list[LoggedReport]) -> ExpectedRow:
    """Return what the database must hold of one event, reported once or more often."""
    reported = [logged.reported for logged in reports]
    first = reported[0]
    columns: dict[str, Any] = {"execution_id": first.execution_id}
    for column in _PLAIN:
        columns[column] = _greatest([getattr(report, column) for report in reported])
    columns["step"] = columns["step"] or ""
    for column in _DIGESTED:
        values = {getattr(report, column) for report in reported} - {None}
        if len(values) < 2:
            columns[column] = next(iter(values), None)
    columns["status"] = max((t.status_rank, _bytes(t.status), t.status) for t in reported)[2]
    columns["attempts"] = max((t.attempts_rank, _bytes(t.attempts), t.attempts) for t in reported)[
        2
    ]
    columns["created_us"] = max(_created(logged) for logged in reports)[1]
    columns["evidence"] = pack_evidence(
        max(report.attempts_rank for report in reported),
        max(report.status_rank for report in reported),
        max(report.created_rank for report in reported),
    )
    columns["recorded_us"] = min(logged.recorded_ms for logged in reports) * 1000
    return ExpectedRow(
        columns=columns,
        own_id=first.event_id,
        objects={
            "meta": _agreed([report.meta for report in reported])
            | {"attempts": columns["attempts"]},
            "extra": _agreed([report.extra for report in reported]),
            "headers": _agreed([logged.headers for logged in reports]),
        },
        rules=frozenset(rule for report in reported for rule in report.rules),
        shape=max((t.shape for t in reported), key=lambda shape: (shape != "unknown", shape)),
        traces=frozenset(logged.trace for logged in reports),
    )


def view_input_row(reports: list[LoggedReport]) -> Row:
    """Return the row from which the expected views are computed.

    Values of which the ledger has only a hash are None.
    """
    columns = expected_row(reports).columns
    reported = [logged.reported for logged in reports]
    first = min(reports, key=lambda logged: (logged.offset, logged.index))
    partitions = {logged.partition for logged in reports}
    context = _unsealed(columns.get("context")) or {}
    if any(one.pending for one in reported):
        context = {"pending_callback": True}
    if index := max(one.call_index for one in reported):
        context |= {"call_index": index}
    return columns | {
        "event_id": 1,
        "created_at": _EPOCH + timedelta(microseconds=columns["created_us"]),
        "recorded_at": _EPOCH + timedelta(microseconds=columns["recorded_us"]),
        "context": context or None,
        # Reports may have different results. All of these name the same playbook, which is all that
        # the expected views need, so take the first one.
        "result": next(filter(None, map(_unsealed, (one.result for one in reported))), None),
        "coercions": None,
        "shape": reported[0].shape,
        "source_topic": "events",
        "source_incarnation": 0,
        "source_partition": first.partition,
        "source_offset": first.offset,
        "source_index": first.index,
        "merge_flags": REPORTED_ELSEWHERE_FLAG if len(partitions) > 1 else 0,
    }


def _unsealed(sealed: str | None) -> Any:
    return None if sealed is None or not sealed.startswith("{") else msgspec.json.decode(sealed)


def _created(logged: LoggedReport) -> tuple[int, int]:
    reported = logged.reported
    at_us = logged.recorded_ms * 1000 if reported.created_us is None else reported.created_us
    return reported.created_rank, at_us


def _greatest(values: list[Any]) -> Any:
    present = [value for value in values if value not in (None, "")]
    return max(present, key=_bytes, default=None)


def _bytes(value: Any) -> bytes:
    return msgspec.json.encode(value)


def _agreed(objects: list[dict[str, Any]]) -> dict[str, Any]:
    """The keys to which every report that has them gives the same value."""
    agreed: dict[str, Any] = {}
    disputed = set()
    for one in objects:
        for key, value in one.items():
            if agreed.setdefault(key, value) != value:
                disputed.add(key)
    return {key: value for key, value in agreed.items() if key not in disputed}
