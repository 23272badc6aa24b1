"""The vectors: read from their files, made into records, and what the core makes of them."""

import base64
import itertools
import json
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import (
    Envelope,
    Ignored,
    Normalized,
    Rejected,
    canonical_json,
    to_canonical,
)
from tests.support.merging import merge

FOLDER: Final = Path(__file__).parent
FROZEN: Final = FOLDER / "frozen"

Vector = dict[str, Any]

RECORDED_MS: Final = 1783674120000
"""2026-07-10T09:02:00Z: the Kafka time of a vector that names no other."""

JSON_COLUMNS: Final = ("context", "result", "meta", "extra", "coercions", "headers")
SINGLE: Final = (
    "samples",
    "ids",
    "snowflakes",
    "times",
    "attempts",
    "status_calls",
    "status_others",
    "aliases",
    "shapes",
    "wrappers",
    "envelopes",
    "payloads",
    "redaction",
    "text",
    "limits",
    "canonical",
    "silent",
)
"""The files with one record a line; groups, joins and derived have a form of their own."""


def read_vectors(name: str) -> list[Vector]:
    """The vectors of a file, numbers as Decimal, so that nothing is lost on the way."""
    text = (FOLDER / f"{name}.ndjson").read_text(encoding="utf-8")
    return [parse_json(line) for line in text.split("\n") if line]


def parse_json(text: str | bytes) -> Any:
    """JSON with numbers by value: int or Decimal."""
    return json.loads(text, parse_float=Decimal)


def outcomes(vector: Vector) -> tuple[Normalized, ...]:
    """What the core makes of a vector's record."""
    return _normalizer(tuple(vector.get("redact_keys", ()))).normalize(raw_record(vector))


def raw_record(vector: Vector, offset: int = 7) -> RawRecord:
    """The record of a vector; with `filter` it has no place in a log and no time."""
    if vector.get("filter"):
        return RawRecord(value=_raw_value(vector), offset=1)
    fields: dict[str, Any] = {"topic": "noetl.events", "offset": offset, "recorded_ms": RECORDED_MS}
    fields |= vector.get("record", {})
    headers = tuple((name, _header(text)) for name, text in fields.pop("headers", ()))
    return RawRecord(value=_raw_value(vector), headers=headers, **fields)


def reports_of(vector: Vector) -> list[Envelope]:
    """The envelopes of a vector of joins.ndjson, in the order they stand there."""
    events = []
    for index, report in enumerate(vector["reports"]):
        single = {"raw": report} if isinstance(report, str) else report
        (event,) = _normalizer(()).normalize(raw_record(single, offset=7 + index))
        assert isinstance(event, Envelope), f"{vector['id']}: {event}"
        events.append(event)
    return events


def joined(events: list[Envelope]) -> Envelope:
    """The row of these reports, merged in this order."""
    *_, row = itertools.accumulate(events, merge)
    return row


def frozen_lines(name: str) -> Iterator[str]:
    """The second layer of a file: a line for each vector, everything in full."""
    for vector in read_vectors(name):
        if name in SINGLE:
            yield _frozen(vector["id"], outcomes(vector))
        elif name == "groups":
            for number, raw in enumerate(vector["raws"]):
                yield _frozen(f"{vector['id']}/{number}", outcomes({"raw": raw}))
        elif "two_events" in vector["expect"]:
            yield _frozen(vector["id"], tuple(reports_of(vector)))
        else:
            yield _frozen(vector["id"], (joined(reports_of(vector)),))


_FIRST = ("event_id", "execution_id", "event_type", "step", "status")
_COLUMNS = (*_FIRST, *(name for name in Envelope.__struct_fields__ if name not in _FIRST))


def row_text(event: Envelope) -> str:
    """The row as one JSON object, columns as the table has them; JSON is canonical, null left out.

    `normalizer_version` and `merge_flags` are left out too: they say how the row came to be, not
    what it is.
    """
    members = []
    for column in _COLUMNS:
        value = getattr(event, column)
        if value is None or column in ("normalizer_version", "merge_flags"):
            continue
        members.append(f"{_text(column)}:{_column_text(column, value)}")
    return "{" + ",".join(members) + "}"


def _frozen(name: str, outcomes: tuple[Normalized, ...]) -> str:
    lines = [to_canonical(out).decode() for out in outcomes if isinstance(out, Envelope)]
    rows = [_outcome_text(out) for out in outcomes]
    return f'{{"id":{_text(name)},"lines":[{",".join(lines)}],"rows":[{",".join(rows)}]}}'


def _outcome_text(outcome: Normalized) -> str:
    match outcome:
        case Envelope():
            return row_text(outcome)
        case Rejected(reason=reason, shape=shape, index=index):
            return _text({"quarantine": reason, "shape": shape, "index": index})
        case Ignored(why=why):
            return _text({"ignored": why})


def _column_text(column: str, value: Any) -> str:
    if column in JSON_COLUMNS:
        return canonical_json(value).decode()
    if isinstance(value, datetime):
        return _text(value.isoformat(timespec="microseconds").replace("+00:00", "Z"))
    return _text(value)


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


@cache
def _normalizer(redact_keys: tuple[str, ...]) -> Normalizer:
    return Normalizer(redact_keys)


def _raw_value(vector: Vector) -> bytes | None:
    if "raw_b64" in vector:
        return base64.b64decode(vector["raw_b64"])
    if "raw_parts" in vector:
        return "".join(text * times for text, times in vector["raw_parts"]).encode()
    raw: str | None = vector["raw"]
    return None if raw is None else raw.encode()


def _header(text: Any) -> bytes | None:
    match text:
        case {"b64": encoded}:
            return base64.b64decode(encoded)
        case str():
            return text.encode()
        case _:
            return None
