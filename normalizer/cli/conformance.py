"""Runs another program over the contract's vectors, and compares its lines with the expected ones.

Starting the program once per vector would be slow, so it gets all vectors in one run. A faulty
program may write too few or too many lines, so counting lines wouldn't tell which vector a line
belongs to. Instead we send a marker before each vector: an event that every program passes on
unchanged, with an id that we choose. All lines between two markers belong to the vector between
them.
"""

import os
import re
import select
import subprocess
import time
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final, Literal

import msgspec

from normalizer.errors import ConfigurationError

_VECTORS_FOLDER: Final = Path(__file__).parents[1] / "vectors"
"""In a checkout, a link to contract/vectors/. In an installed wheel, a folder of files."""

ConformanceLevel = Literal["lines", "shapes", "rules"]
CONFORMANCE_LEVELS: Final[tuple[ConformanceLevel, ...]] = ("lines", "shapes", "rules")
"""How much of the contract a program must fulfill. Each level includes those before it.

lines    The program returns canonical lines unchanged, byte for byte.
shapes   It also turns events of every producer into canonical lines, unless a rule has to decide
         their status.
rules    It returns the same line as `normalizer normalize` for every record, or rejects the
         record for the same reason."""


class ExpectedRejection(msgspec.Struct, frozen=True):
    """A record, or an event of a batch, that must be rejected for this reason."""

    rejected: str


class ContractVector(msgspec.Struct, frozen=True, kw_only=True):
    """A record and its expected outcome. `raw_hex` has the bytes if they aren't UTF-8."""

    id: str
    about: str
    level: ConformanceLevel
    raw: str = ""
    raw_hex: str = ""
    gives: tuple[str | ExpectedRejection, ...]


class ConformanceCase(msgspec.Struct, frozen=True):
    """One line for the program to read, and the lines that it must write for it."""

    id: str
    about: str
    given: bytes
    expected: tuple[str | ExpectedRejection, ...]


class ConformanceMismatch(msgspec.Struct, frozen=True):
    """A case in which the program wrote other lines.

    `answered` is False if it wrote none for this case and for all later ones. A program that dies
    leaves such cases: it was reading the first of them, unless it hadn't flushed its output.
    """

    case: ConformanceCase
    given: tuple[str | ExpectedRejection, ...]
    answered: bool = True


def read_cases(level: ConformanceLevel) -> list[ConformanceCase]:
    """Return every case of a level and of the levels before it."""
    vectors = msgspec.json.Decoder(ContractVector).decode_lines(
        (_VECTORS_FOLDER / "records.ndjson").read_bytes()
    )
    lines = {line: vector for vector in vectors for line in vector.gives if isinstance(line, str)}
    cases = [
        ConformanceCase(f"line of {vector.id}", vector.about, line.encode(), (line,))
        for line, vector in lines.items()
    ]
    compared = CONFORMANCE_LEVELS[1 : CONFORMANCE_LEVELS.index(level) + 1]
    return cases + [
        ConformanceCase(
            vector.id,
            vector.about,
            bytes.fromhex(vector.raw_hex) or vector.raw.encode(),
            vector.gives,
        )
        for vector in vectors
        if vector.level in compared
    ]


def run_program(
    command: Sequence[str], cases: Sequence[ConformanceCase], *, within_s: float = 600.0
) -> tuple[list[ConformanceMismatch], str]:
    """Run the program over the cases. Returns the mismatches, and how the program failed.

    There's one mismatch for each case with wrong lines. The second value is "" if the program ended
    in time with exit code 0. Raises ConfigurationError if the program can't be started.
    """
    given = b"".join(
        line + b"\n"
        for number, case in enumerate(cases)
        for line in (_marker(number).encode(), case.given)
    )
    with TemporaryFile() as lines:
        lines.write(given)
        lines.seek(0)
        try:
            program = subprocess.Popen(  # noqa: S603 - the user names the program
                command, stdin=lines, stdout=subprocess.PIPE
            )
        except OSError as error:
            raise ConfigurationError(f"{command[0]}: {error.strerror}") from error
    with program:
        try:
            output, failure = _read_output(program, within_s)
        finally:
            program.kill()
    if failure:  # then the last line may be half of one
        output = output[: output.rfind(b"\n") + 1]
    return list(_mismatches(cases, output)), failure


def _read_output(program: subprocess.Popen[bytes], within_s: float) -> tuple[bytes, str]:
    """Return the program's output, and how it failed. The caller kills it if it's still running."""
    assert program.stdout
    ends_at_s = time.monotonic() + within_s
    left_s, output, chunk = within_s, bytearray(), b"-"
    while chunk and select.select([program.stdout], [], [], left_s)[0]:
        chunk = os.read(program.stdout.fileno(), 1 << 16)
        output += chunk
        if len(output) > _MOST_BYTES:
            return bytes(output), f"wrote more than {_MOST_BYTES >> 20} MiB, and was killed"
        left_s = max(0, ends_at_s - time.monotonic())
    try:
        code = program.wait(left_s)
    except subprocess.TimeoutExpired:
        return bytes(output), f"did not end within {within_s:g} s, and was killed"
    return bytes(output), f"ended with {code}" if code else ""


def format_mismatch(mismatch: ConformanceMismatch) -> Iterator[str]:
    """Describe a mismatch: the record, and the expected and actual lines if it was answered."""
    case, given = mismatch.case, mismatch.given
    yield f"{case.id}: {case.about}" if case.about else case.id
    yield f"  read      {_shortened(_text(case.given))}"
    if not mismatch.answered:
        return
    for number in range(max(len(case.expected), len(given))):
        wanted, got = (
            _as_printed(lines[number]) if number < len(lines) else "nothing"
            for lines in (case.expected, given)
        )
        if wanted == got:
            continue
        at = next(
            (at for at, pair in enumerate(zip(wanted, got, strict=False)) if len({*pair}) > 1), 0
        )
        start = max(at - _BEFORE, 0) if len(wanted) > _LONGEST else 0
        yield f"  expected  {_shortened(wanted[start:])}"
        yield f"  got       {_shortened(got[start:])}"


def _mismatches(cases: Sequence[ConformanceCase], output: bytes) -> Iterator[ConformanceMismatch]:
    printed: list[list[str | ExpectedRejection]] = [[] for _ in cases]
    markers: list[list[str | ExpectedRejection]] = [[] for _ in cases]
    begun = markers[0]  # lines before the first marker belong before it
    for line in (ended.removesuffix(b"\n") for ended in BytesIO(output)):
        if (found := _MARKER.search(line)) and int(found[1]) < len(cases):
            number = int(found[1])
            markers[number].append(_text(line))
            begun = printed[number]
        else:
            begun.append(_rejection_or_line(line))
    last = max((number for number, found in enumerate(markers) if found), default=-1)
    for number, case in enumerate(cases):
        if number > last or (number == last and case.expected and not printed[number]):
            yield ConformanceMismatch(case, (), answered=False)
        elif markers[number] != [marker := _marker(number)]:
            name = f"the event that conform adds before {case.id}"
            before = ConformanceCase(name, "", marker.encode(), (marker,))
            yield ConformanceMismatch(before, tuple(markers[number]))
        elif (given := tuple(printed[number])) != case.expected:
            yield ConformanceMismatch(case, given)


def _rejection_or_line(line: bytes) -> str | ExpectedRejection:
    if not line.startswith(b'{"quarantine"'):
        return _text(line)
    try:
        return ExpectedRejection(msgspec.json.decode(line, type=_Quarantine).quarantine.reason)
    except msgspec.MsgspecError:
        return _text(line)


def _text(line: bytes) -> str:
    """Return the text of a line. A byte that isn't UTF-8 becomes one that no expected line has."""
    return line.decode(errors="surrogateescape")


def _as_printed(line: str | ExpectedRejection) -> str:
    if isinstance(line, ExpectedRejection):
        return f'{{"quarantine":{{"reason":"{line.rejected}"}}}}'
    return line


def _marker(number: int) -> str:
    return (
        f'{{"event_id":{_MARKED}{number:06},"execution_id":1,"event_type":"step.enter","step":"",'
        '"status":"RUNNING","created_at":"2026-01-01T00:00:00.000000Z","context":null,'
        '"worker_id":null,"meta":{"attempts":0}}'
    )


def _shortened(text: str) -> str:
    printable = text.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return printable if len(printable) <= _LONGEST else f"{printable[:_LONGEST]}..."


_MARKED: Final = "1777777777777"
"""The beginning of a marker's id. The number of the vector follows."""
_MARKER: Final = re.compile(rf"(?<![0-9]){_MARKED}([0-9]{{6}})(?![0-9])".encode())
_LONGEST: Final = 400
_BEFORE: Final = 60
_MOST_BYTES: Final = 4 << 20
"""The most output to read, which is twice that of all vectors. A program that never stops writing
would fill the memory."""


class _Reason(msgspec.Struct, frozen=True):
    reason: str


class _Quarantine(msgspec.Struct, frozen=True):
    quarantine: _Reason
