"""Compares canonical lines of a simulator run: those of `normalizer normalize` and of an export.

Both commands run as separate processes, and each line is validated by the schema.
"""

import asyncio
import filecmp
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import jsonschema
import msgspec

from simulator.ledger_file import Ledger
from simulator.rendering import FROM_PRODUCER
from simulator.sent_record import SentEvent
from simulator.simulator_run import SimulatorRun
from tests.support.stack import Database

_EVENT_ID: Final = re.compile(rb'\{"event_id":(\d+),')


class ComparedLines(NamedTuple):
    """How many lines the schema accepted, and for how many the filter gives the same bytes."""

    accepted: int
    the_same: int


async def canonical_lines(run: SimulatorRun, database: Database, folder: Path) -> ComparedLines:
    """Validate every exported line, and compare those that `normalizer normalize` can know.

    That command sees a record alone, without its place in Kafka or other reports. So the comparison
    has only events that are reported once, with an id and a time of their own, in a record without
    a line feed.
    """
    reported_once = await asyncio.to_thread(_write_values, run, folder / "values")
    await normalizer("normalize", database, folder / "values", folder / "filtered")
    await normalizer("export", database, None, folder / "exported", "-")
    await normalizer("export", database, None, folder / "again", "-")
    await normalizer("schema", database, None, folder / "schema")
    validate = jsonschema.Draft202012Validator(
        msgspec.json.decode((folder / "schema").read_bytes())
    ).validate

    filtered = _digests(folder / "filtered", reported_once)
    exported = _digests(folder / "exported", reported_once)
    assert filtered.keys() == exported.keys() == reported_once
    assert [one for one in reported_once if filtered[one] != exported[one]] == []
    assert filecmp.cmp(folder / "exported", folder / "again", shallow=False)
    return ComparedLines(
        await asyncio.to_thread(_accepted, folder / "exported", validate), len(reported_once)
    )


def _write_values(run: SimulatorRun, path: Path) -> set[int]:
    """Write the values, one per line. Returns ids of events that the filter can know fully."""
    reports: Counter[int] = Counter()
    ids: dict[int, int] = {}
    with path.open("wb") as file:
        for record in run.records(Ledger(lambda _: None)):
            has_line = record.value is not None and b"\n" not in record.value
            if has_line:
                _write(record.value, file)
            for outcome in record.outcomes:
                if isinstance(outcome, SentEvent):
                    reports[outcome.number] += 1
                    reported = outcome.reported
                    knows = reported.event_id is not None and reported.created_rank == FROM_PRODUCER
                    if has_line and knows and reported.event_id is not None:
                        ids[outcome.number] = reported.event_id
    holders = Counter(ids.values())
    return {own for number, own in ids.items() if reports[number] == holders[own] == 1}


def _write(value: bytes | None, file: BinaryIO) -> None:
    assert value is not None
    file.write(value + b"\n")


def _digests(path: Path, wanted: set[int]) -> dict[int, bytes]:
    return {
        event_id: blake2b(line, digest_size=16).digest()
        for event_id, line in _identified(path)
        if event_id in wanted
    }


def _identified(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        for line in file:
            if found := _EVENT_ID.match(line):
                yield int(found[1]), line


def _accepted(path: Path, validate: Callable[[Any], None]) -> int:
    decode = msgspec.json.decode
    accepted = 0
    with path.open("rb") as file:
        for line in file:
            validate(decode(line))
            accepted += 1
    return accepted


async def normalizer(
    command: str, database: Database, source: Path | None, sink: Path, *arguments: str
) -> None:
    """Run `normalizer COMMAND < source > sink`."""
    with (source or Path("/dev/null")).open("rb") as read, sink.open("wb") as written:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "normalizer", command, *arguments),
            env={"PATH": "/usr/bin:/bin", "DATABASE_URL": database.url},
            stdin=read,
            stdout=written,
        )
        code = await child.wait()
    # The filter exits with 1 after a rejection: the simulator sends poison.
    assert code in ((0, 1) if command == "normalize" else (0,)), f"{command} exited with {code}"
