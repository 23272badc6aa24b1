"""The vectors: read from their files, made into records, and what the core makes of them."""

import base64
import itertools
import json
from collections.abc import Sequence
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
)
from tests.support.merging import merge

FOLDER: Final = Path(__file__).parent
CONTRACT: Final = Path(__file__).parents[2] / "contract" / "vectors"

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
"""The files with one record per line. groups, joins, and derived have their own form."""
WITH_ROWS: Final = (*SINGLE, "groups", "joins")
"""The files whose lines hold the rows that the core makes of their records."""


Members = dict[str, str]
"""The members of a line, each byte for byte."""


def read_vectors(name: str) -> list[Vector]:
    """The vectors of a topic, numbers as Decimal, so that nothing is lost on the way."""
    return [to_vector(members) for members in (*passed_on(name), *kept_here(name))]


def to_vector(members: Members) -> Vector:
    """Return what the members of a line say."""
    return {key: parse_json(value) for key, value in members.items()}


def passed_on(name: str) -> list[Members]:
    """The vectors of a topic that are the contract's too, without what the filter gives."""
    prefix = f'"{name}/'
    return [
        {"id": f'"{members["id"].removeprefix(prefix)}'}
        | {key: value for key, value in members.items() if key not in ("id", "level", "gives")}
        for members in contract_members()
        if members["id"].startswith(prefix)
    ]


def kept_here(name: str) -> list[Members]:
    """The vectors of a topic that need a log, headers, or much room."""
    return _members(vectors_path(name))


def vectors_path(name: str) -> Path:
    """The file of a topic. There is none if the contract's records have all of its vectors."""
    return _OF_THE_CONTRACT.get(name, FOLDER / f"{name}.ndjson")


_OF_THE_CONTRACT: Final = {
    "groups": CONTRACT / "producers.ndjson",
    "derived": CONTRACT / "derived.ndjson",
}


def contract_members() -> list[Members]:
    """The records of the contract."""
    return _members(CONTRACT / "records.ndjson")


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


def vector_reports(vector: Vector) -> list[Envelope]:
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


def stored_rows(name: str) -> list[str]:
    """The id of each vector and the rows that its line holds, as they stand in the file."""
    found = (*passed_on(name), *kept_here(name))
    return [f"{members['id']}: {members.get('rows', '')}" for members in found]


def rows_today(name: str) -> list[str]:
    """The same with the rows that the core makes today."""
    found = (*passed_on(name), *kept_here(name))
    return [f"{members['id']}: {_rows_text(name, to_vector(members))}" for members in found]


def lines_with_rows_today(name: str) -> list[str]:
    """The lines of a topic's own file, with the rows that the core makes today."""
    return [_with_rows_today(name, members) for members in kept_here(name)]


def contract_lines_with_rows_today() -> list[str]:
    """The same for the records of the contract."""
    return [
        _with_rows_today(parse_json(members["id"]).partition("/")[0], members)
        for members in contract_members()
    ]


def _with_rows_today(name: str, members: Members) -> str:
    written = {key: value for key, value in members.items() if key != "rows"}
    return line_text(written | {"rows": _rows_text(name, to_vector(members))})


@cache
def _parsed(content: bytes) -> list[Members]:
    decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
    return [
        {key: bytes(value).decode() for key, value in decoder.decode(line).items()}
        for line in content.split(b"\n")
        if line
    ]


def _members(path: Path) -> list[Members]:
    return _parsed(path.read_bytes()) if path.exists() else []


def line_text(members: Members) -> str:
    """The line of these members."""
    return "{" + ", ".join(f"{_text(key)}: {value}" for key, value in members.items()) + "}"


def _rows_text(name: str, vector: Vector) -> str:
    return f"[{', '.join(map(_outcome_text, _all_outcomes(name, vector)))}]"


def _all_outcomes(name: str, vector: Vector) -> Sequence[Normalized]:
    if name == "groups":
        return [outcome for raw in vector["raws"] for outcome in outcomes({"raw": raw})]
    if name == "joins":
        reports = vector_reports(vector)
        return reports if "two_events" in vector["expect"] else [joined(reports)]
    return outcomes(vector)


_FIRST = ("event_id", "execution_id", "event_type", "step", "status")
_COLUMNS = (*_FIRST, *(name for name in Envelope.__struct_fields__ if name not in _FIRST))


def row_text(event: Envelope) -> str:
    """The row as one JSON object with the table's columns, JSON canonical and nulls left out.

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
    if "raw_hex" in vector:
        return bytes.fromhex(vector["raw_hex"])
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
