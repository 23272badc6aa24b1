"""The generated files of contract/: `python -m tests.contract` says which would change.

With --write it writes them:

envelope.schema.json   `normalizer schema`
vectors/records.ndjson a raw record and what the filter makes of it, from those of tests/vectors
                       that say the same of a line alone
vectors/producers.ndjson   one event as several producers send it
vectors/snowflakes.ndjson, vectors/derived.ndjson   those of tests/vectors, without rows
"""

import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

from normalizer.core.decode.decode_json import BOM
from normalizer.core.json_schema import json_schema
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.core.shapes import batch_key, is_enveloped, is_named, is_wrapper
from normalizer.envelope import CALL_DONE, Envelope, Ignored, Rejected, Rule, to_canonical
from tests.vectors.corpus import (
    SINGLE,
    lines_without_rows,
    parse_json,
    raw_record,
    read_vectors,
)
from tests.vectors.expect import differences

FOLDER: Final = Path(__file__).parents[1] / "contract"

_normalize: Final = Normalizer().normalize

JUDGED: Final[frozenset[Rule]] = frozenset(("opaque_id", "unstorable_text"))
"""The repairs that only the rules make. Other coercions say how a field was read."""

_OF_THE_LOG: Final = re.compile("(event_id|created_at): .*, got None")

LONGEST_BYTES: Final = 4096
"""A longer record is about a limit: those are tested here, at full size, and not passed on."""


def generated() -> dict[str, str]:
    """Every generated file of the contract, by its name."""
    records, producers = list(_records()), list(_producers())
    schema = msgspec.json.format(msgspec.json.encode(json_schema()), indent=2).decode()
    return {
        "envelope.schema.json": schema + "\n",
        "vectors/records.ndjson": _ndjson(records),
        "vectors/producers.ndjson": _ndjson(producers),
        **{f"vectors/{name}.ndjson": _copied(name) for name in ("snowflakes", "derived")},
    }


@cache
def lines() -> tuple[str, ...]:
    """Every canonical line that a record of the contract gives, each once."""
    records = (FOLDER / "vectors/records.ndjson").read_text(encoding="utf-8").split("\n")[:-1]
    given = [line for record in records for line in json.loads(record)["gives"]]
    return tuple(dict.fromkeys(line for line in given if isinstance(line, str)))


@cache
def contract_files() -> dict[str, str]:
    """The same, made once for all tests."""
    return generated()


def _records() -> Iterator[dict[str, Any]]:
    seen = set()
    for name in SINGLE:
        for vector in read_vectors(name):
            raw = raw_record(vector).value
            if raw is None or "redact_keys" in vector or not _is_a_line(raw) or raw in seen:
                continue
            if not _needs_no_log(vector, raw):
                continue
            seen.add(raw)
            yield _record(f"{name}/{vector['id']}", vector["about"], raw)


def _needs_no_log(vector: dict[str, Any], raw: bytes) -> bool:
    """Whether a line alone gives what was derived by hand, but for an id and a time of the log."""
    if "headers" in vector.get("record", {}):
        return False
    if "expect" not in vector:
        return True
    found = differences(vector["expect"], _normalize(RawRecord(value=raw)))
    return all(map(_OF_THE_LOG.fullmatch, found))


def _producers() -> Iterator[dict[str, Any]]:
    for vector in read_vectors("groups"):
        gives = [filtered(raw.encode())[0] for raw in vector["raws"]]
        yield {
            "id": vector["id"],
            "about": vector["about"],
            "without": vector["drop"],
            "raws": vector["raws"],
            "gives": gives,
        }


def _copied(name: str) -> str:
    return "".join(f"{line}\n" for line in lines_without_rows(name))


def _is_a_line(raw: bytes) -> bool:
    return bool(raw.strip()) and b"\n" not in raw and len(raw) <= LONGEST_BYTES


def _record(name: str, about: str, raw: bytes) -> dict[str, Any]:
    try:
        sent: dict[str, Any] = {"raw": raw.decode()}
    except UnicodeDecodeError:
        sent = {"raw_hex": raw.hex()}
    gives = filtered(raw)
    return {"id": name, "about": about, "level": vector_level(raw, gives), **sent, "gives": gives}


def filtered(raw: bytes) -> list[str | dict[str, str]]:
    """Return the filter's lines: canonical lines and rejections, or [] if it's ignored."""
    gives: list[str | dict[str, str]] = []
    for outcome in _normalize(RawRecord(value=raw)):
        match outcome:
            case Envelope():
                gives.append(to_canonical(outcome).decode())
            case Rejected(reason=reason):
                gives.append({"rejected": reason})
            case Ignored():
                pass
    return gives


def vector_level(raw: bytes, gives: list[str | dict[str, str]]) -> str:
    """`shapes` where a record says one event and no rule has to judge or repair it, else `rules`.

    A declared status is judged where it does not stand, but not that of a finished call: every
    program gives it one of four words. A rejection is of level `shapes` too if the record is one
    event or broken JSON.
    """
    if len(gives) != 1 or raw.startswith(b"\0") or not _says_one_event(raw):
        return "rules"
    (outcome,) = _normalize(RawRecord(value=raw))
    if isinstance(outcome, Rejected):
        return "shapes"
    assert isinstance(outcome, Envelope)
    coerced = {entry["rule"] for entry in parse_json(outcome.coercions or b"[]")}
    status = parse_json(raw.removeprefix(BOM)).get("status")
    declared = status.upper() if isinstance(status, str) else ""
    stands = outcome.event_type in CALL_DONE or declared in ("", "UNKNOWN", outcome.status)
    return "shapes" if stands and not coerced & JUDGED and "[REDACTED" not in gives[0] else "rules"


def _says_one_event(raw: bytes) -> bool:
    """Return whether a record is plain: not a batch, not JSON in a string, not in an envelope.

    One with a lone surrogate is neither: it is repaired, and what cannot repair it refuses it.
    """
    try:
        sent = json.loads(raw.removeprefix(BOM))
    except (ValueError, RecursionError):
        return True
    try:
        json.dumps(sent, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    if not isinstance(sent, dict):
        return not isinstance(sent, str | list)
    return is_named(sent) or not (batch_key(sent) or is_wrapper(sent) or is_enveloped(sent))


def _ndjson(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main(arguments: list[str]) -> int:
    """Say which files differ, or write them. Returns 1 if any differ and nothing was written."""
    if arguments not in ([], ["--write"]):
        sys.stderr.write("usage: python -m tests.contract [--write]\n")
        return 2
    differing = 0
    for name, text in generated().items():
        path = FOLDER / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        differing += 1
        sys.stdout.write(f"{'wrote' if arguments else 'differs'}: contract/{name}\n")
        if arguments:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return 0 if arguments else int(differing > 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
