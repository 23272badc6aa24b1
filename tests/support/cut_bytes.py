"""Records with bytes cut out, put in, changed, or doubled, from a seed."""

import random
from typing import Final

PARTS: Final = (
    *(b'"', b",", b"{", b"}", b"[", b"]", b":", b"null", b"true", b"0", b"-", b"1.5", b"1e5"),
    *(b" ", b"\\n", b'\\"', b"\xc3\xa9", b"\xff", b"\x00"),
)
MEMBERS: Final = (
    *(b'"status":"failed",', b'"event_id":"x",', b'"meta":{"attempts":3},', b'"step":5,'),
    *(b'"created_at":"2025-06-01 10:00:00",', b'"duration":0.1,', b'"node_name":"b",'),
    *(b'"execution_id":"77",', b'"error":{"message":"m"},', b'"command_id":"1:a:2:i7",'),
    *(b'"name":"z",', b'"payload":{"status":"error"},', b'"transaction_id":7,', b'"events":[],'),
    *(b'"timestamp":1748736000.5,', b'"retry_count":"2",', b'"prev_event_id":1,'),
    *(b'"result":{"status":"ok","context":{"attempt":2}},', b'"context":{"duration_ms":-1},'),
)
"""What may stand where members begin."""


def with_changed_bytes(value: bytes, rng: random.Random) -> bytes:
    """The value with one to three changes."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        value = _changed(value, rng)
    return value


def _changed(value: bytes, rng: random.Random) -> bytes:
    first, length = rng.randrange(len(value) + 1), rng.randrange(1, 40)
    match rng.randrange(5):
        case 0:
            return value[:first] + rng.choice(PARTS) + value[first:]
        case 1:
            places = [at + 1 for at, byte in enumerate(value) if byte in b",{"]
            at = rng.choice(places or [first])
            return value[:at] + rng.choice(MEMBERS) + value[at:]
        case 2:
            return value[:first] + value[first + rng.randrange(1, 8) :]
        case 3:
            byte = bytes([rng.choice(b'0123456789"aZ,:{}[]-. e')])
            return value[:first] + byte + value[first + 1 :]
        case _:
            return value[: first + length] + value[first:]
