"""`python -m tests.support.core_outcomes SEED COUNT`: what this core makes of records, a line each.

A third of the records is the simulator's, a third the simulator's with something changed, a third
hostile. Each line is a digest of the record and one of its outcomes; the first names the core.
Two cores run in two processes: one process has one.
"""

import random
import sys
from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from typing import Final

import msgspec

from normalizer.compiled.core_finder import running_core
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from simulator.mix import Mix
from simulator.topic_records import records
from tests.support.hostile_records import hostile_values

_PARTS: Final = (
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b'"',
        b"\\",
        b"null",
        b"true",
        b"1e300",
        b"-0.0",
        b"9" * 19,
    ),
    *(b'"password":"hunter2hunter2",', b'"\\u0000"', b"\\ud800", b"\xff", b"\xef\xbb\xbf", b" "),
    *(b'"status":"failed",', b'"attempt":3,', b'"meta":null,', b'"context":7,', b'"event_id":"x",'),
)


def corpus(seed: int, count: int) -> Iterator[RawRecord]:
    """This many records, the same for the same seed."""
    rng = random.Random(seed)
    hostile = hostile_values(seed, count)
    sent = records(Mix(), seed)
    for offset, one in enumerate(islice(sent, (count + 2) // 3)):
        plain = RawRecord(
            one.value,
            "noetl.events",
            offset=3 * offset,
            key=one.key,
            headers=tuple(one.headers),
            recorded_ms=one.timestamp_ms,
        )
        yield plain
        changed = None if one.value is None else _changed(rng, one.value)
        yield msgspec.structs.replace(plain, value=changed, offset=3 * offset + 1)
        yield msgspec.structs.replace(plain, value=next(hostile), offset=3 * offset + 2, headers=())


def _changed(rng: random.Random, value: bytes) -> bytes:
    """Cut, put in, or doubled somewhere; once to three times."""
    for _ in range(rng.randint(1, 3)):
        first, last = sorted((rng.randint(0, len(value)), rng.randint(0, len(value))))
        way = rng.random()
        if way < 0.5:
            value = value[:first] + rng.choice(_PARTS) + value[first:]
        elif way < 0.7:
            value = value[:first] + value[min(last, first + 12) :]
        elif way < 0.9:
            value = value[:first] + rng.choice(_PARTS) + value[min(last, first + 6) :]
        else:
            value = value[:last] + value[first:last] + value[last:]
    return value


def main(seed: int, count: int) -> None:
    """Print the lines."""
    normalize = Normalizer(("iban",)).normalize
    out = sys.stdout
    out.write(f"{running_core().kind}\n")
    for record in islice(corpus(seed, count), count):
        outcomes = repr(normalize(record)).encode(errors="surrogatepass")
        out.write(f"{_digest(repr(record).encode())} {_digest(outcomes)}\n")


def _digest(text: bytes) -> str:
    return sha256(text).hexdigest()[:16]


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
