"""The generated files of contract/: `python -m tests.contract` says which would change.

With --write it writes them:

envelope.schema.json   `normalizer schema`
vectors/records.ndjson what the filter makes of each record. Vectors of tests/vectors that say the
                       same of a line alone move there
vectors/producers.ndjson   one event as several producers send it
vectors/snowflakes.ndjson  ids and the times inside them
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

from normalizer.core.decode.decode_json import UTF8_BOM
from normalizer.core.json_schema import json_schema
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.core.shapes import (
    find_events_key,
    has_event_type,
    is_feed_wrapper,
    may_be_foreign_envelope,
)
from normalizer.envelope import (
    CALL_DONE_EVENT_TYPES,
    CoercionRule,
    Envelope,
    Ignored,
    Rejected,
    to_canonical,
)
from tests.vectors.corpus import (
    SINGLE,
    Members,
    contract_members,
    kept_here,
    line_text,
    parse_json,
    passed_on,
    raw_record,
    to_vector,
    vectors_path,
)
from tests.vectors.expect import differences

FOLDER: Final = Path(__file__).parents[1] / "contract"

_normalize: Final = Normalizer().normalize

JUDGED: Final[frozenset[CoercionRule]] = frozenset(("opaque_id", "unstorable_text"))
"""The repairs that only the rules make. Other coercions say how a field was read."""

_OF_THE_LOG: Final = re.compile("(event_id|created_at): .*, got None")

LONGEST_BYTES: Final = 4096
"""A longer record is about a limit: those are tested here, at full size, and not passed on."""


def generated() -> dict[str, str]:
    """Every generated file of the contract, by its name."""
    schema = msgspec.json.format(msgspec.json.encode(json_schema()), indent=2).decode()
    return {
        "envelope.schema.json": schema + "\n",
        "vectors/records.ndjson": _ndjson(_records()),
        "vectors/producers.ndjson": _ndjson(_producers()),
        "vectors/snowflakes.ndjson": _ndjson(_snowflakes()),
    }


@cache
def lines() -> tuple[str, ...]:
    """Every canonical line that a record of the contract gives, each once."""
    given = [line for record in contract_members() for line in json.loads(record["gives"])]
    return tuple(dict.fromkeys(line for line in given if isinstance(line, str)))


@cache
def contract_files() -> dict[str, str]:
    """The same, made once for all tests."""
    return generated()


def _records() -> Iterator[str]:
    passed = {
        raw_record(to_vector(members)).value for name in SINGLE for members in passed_on(name)
    }
    for name in SINGLE:
        for members in passed_on(name):
            yield _record(name, members)
        for members in kept_here(name):
            vector = to_vector(members)
            raw = raw_record(vector).value
            if raw is None or "redact_keys" in vector or not _is_a_line(raw) or raw in passed:
                continue
            if _needs_no_log(vector, raw):
                passed.add(raw)
                yield _record(name, members)


def _needs_no_log(vector: dict[str, Any], raw: bytes) -> bool:
    """Whether a line alone gives what was derived by hand, but for an id and a time of the log."""
    if "headers" in vector.get("record", {}):
        return False
    if "expect" not in vector:
        return True
    found = differences(vector["expect"], _normalize(RawRecord(value=raw)))
    return all(map(_OF_THE_LOG.fullmatch, found))


def _producers() -> Iterator[str]:
    for members in kept_here("groups"):
        gives = [filtered(raw.encode())[0] for raw in to_vector(members)["raws"]]
        yield line_text(members | {"gives": _text(gives)})


def _snowflakes() -> Iterator[str]:
    for members in (*passed_on("snowflakes"), *kept_here("snowflakes")):
        yield line_text({key: value for key, value in members.items() if key != "rows"})


def _is_a_line(raw: bytes) -> bool:
    return bool(raw.strip()) and b"\n" not in raw and len(raw) <= LONGEST_BYTES


_SENT: Final = ("raw", "raw_hex", "raw_b64", "raw_parts")


def _record(name: str, members: Members) -> str:
    vector = to_vector(members)
    raw = raw_record(vector).value or b""
    try:
        sent = {"raw": raw.decode()}
    except UnicodeDecodeError:
        sent = {"raw_hex": raw.hex()}
    gives = filtered(raw)
    made = {"level": vector_level(raw, gives), **sent, "gives": gives}
    return line_text(
        {"id": _text(f"{name}/{vector['id']}"), "about": members["about"]}
        | {key: _text(value) for key, value in made.items()}
        | {key: members[key] for key in members if key not in ("id", "about", *_SENT)}
    )


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


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
    status = parse_json(raw.removeprefix(UTF8_BOM)).get("status")
    declared = status.upper() if isinstance(status, str) else ""
    stands = outcome.event_type in CALL_DONE_EVENT_TYPES or declared in (
        "",
        "UNKNOWN",
        outcome.status,
    )
    return "shapes" if stands and not coerced & JUDGED and "[REDACTED" not in gives[0] else "rules"


def _says_one_event(raw: bytes) -> bool:
    """Return whether a record is plain: not a batch, not JSON in a string, not in an envelope.

    One with a lone surrogate is neither: it is repaired, and what cannot repair it refuses it.
    """
    try:
        sent = json.loads(raw.removeprefix(UTF8_BOM))
    except (ValueError, RecursionError):
        return True
    try:
        json.dumps(sent, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    if not isinstance(sent, dict):
        return not isinstance(sent, str | list)
    return has_event_type(sent) or not (
        find_events_key(sent) or is_feed_wrapper(sent) or may_be_foreign_envelope(sent)
    )


def _ndjson(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _move() -> None:
    """Take the vectors that the contract has now out of the files of tests/vectors."""
    for name in SINGLE:
        moved = {members["id"] for members in passed_on(name)}
        kept = [members for members in kept_here(name) if members["id"] not in moved]
        path = vectors_path(name)
        if kept:
            path.write_text(_ndjson(map(line_text, kept)), encoding="utf-8")
        else:
            path.unlink(missing_ok=True)


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
    if arguments:
        _move()
    return 0 if arguments else int(differing > 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
