"""Generates hostile records from a seed: PostgreSQL must accept all that the rules accept.

Each value is a well-formed event with one change, or bytes made of pieces of JSON.
"""

import random
from collections.abc import Callable, Iterator
from typing import Final

NUMBERS: Final = (
    *("0", "-0", "-0.0", "0e-3", "0E+5", "1.50", "1.50e1", "1e-2", "123e-2", "-1e2"),
    *("1e307", "1e308", "1e-399", "1e-400", "1e401", "-1e999999999", "1.5e305", "1e0400"),
    *("9" * 308, "9" * 309, f"0.{'1' * 399}", f"0.{'1' * 400}", f"{'1' * 208}e99"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775809", "1" * 40),
    *("01", "1.", ".5", "+1", "1e", "-", "0x10", "NaN", "Infinity", "-Infinity", "1_000"),
)
STRINGS: Final = (
    *(r'"\u0000"', r'"a\u0000b"', r'"\ud800"', r'"\udc00\ud800"', r'"\ud83d\ude00"'),
    *(r'"\uD83D"', r'"\ud83d\u0041"', r'"\\u0000"', r'"\\\u0000"', r'"\/"', r'"\b\f\n\r\t"'),
    *(r'"\x"', r'"\u12G4"', r'"\u"', '"\x01"', '"\n"', '"\t"', '"\x7f"', '"\u2028\ufeff\uffff"'),
    *('"\U0010ffff\ufdd0"', '"', '"a', r'"a\"', '"\0"', '""', '"é"', r'"\u00e9"', '"🎈"'),
)
SECRETS: Final = (
    *('{"password":"hunter2"}', '{"pass\\u0077ord":"hunter2"}', '{"api-key":["hunter2"]}'),
    *('{"clientSecret":{"a":"hunter2"}}', '{"pin":1234}', '{"author":"jane"}'),
    *(
        '"https://user:hunter2@host/"',
        r'"https:\/\/user:hunter2@host\/"',
        '"Bearer hunter2hunter2"',
    ),
    '"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"',
)
SCALARS: Final = ("null", "true", "false", "{}", "[]", '"x"', "1", '{"a":1,"a":2}')

_FIELDS: Final = (
    *("event_id", "execution_id", "event_type", "name", "step", "node_name", "status"),
    *("created_at", "timestamp", "event_time", "ingest_time", "context", "payload", "worker_id"),
    *("meta", "command_id", "catalog_id", "node_type", "parent_event_id", "parent_execution_id"),
    *("result", "error", "duration", "max_attempts", "attempt_number", "retry_count"),
    *("correlation", "trace_component", "events", "global_sequence", "transaction_id"),
    *("prev_event_id", "actionable", "x", "a\\u0000", "\\ud800", "extra", "coercions"),
)


def hostile_values(seed: int, count: int) -> Iterator[bytes]:
    """This many values, the same for the same seed."""
    rng = random.Random(seed)
    ways: tuple[Callable[[random.Random], bytes], ...] = (
        *(_event,) * 6,
        *(_batch, _wrapped, _doubled, _deep, _soup, _broken),
    )
    for _ in range(count):
        yield rng.choice(ways)(rng)


def _value(rng: random.Random, depth: int = 0) -> str:
    kind = rng.random()
    if kind < 0.2:
        return rng.choice(NUMBERS)
    if kind < 0.45:
        return rng.choice(STRINGS)
    if kind < 0.55:
        return rng.choice(SECRETS)
    if kind < 0.7 or depth > 3:
        return rng.choice(SCALARS)
    if kind < 0.85:
        return f"[{','.join(_value(rng, depth + 1) for _ in range(rng.randint(0, 3)))}]"
    members = (f"{_key(rng)}:{_value(rng, depth + 1)}" for _ in range(rng.randint(0, 4)))
    return f"{{{','.join(members)}}}"


def _key(rng: random.Random) -> str:
    if rng.random() < 0.8:
        return f'"{rng.choice(("status", "result", "context", "error", *_FIELDS))}"'
    text = rng.choice(STRINGS)
    return text if text.endswith('"') and len(text) > 1 else '"k"'


def _object(rng: random.Random) -> str:
    members = {
        '"execution_id"': "1001",
        '"event_type"': rng.choice(('"call.done"', '"step.enter"', '"x"')),
        '"event_id"': "5",
    }
    for _ in range(rng.randint(1, 4)):
        members[f'"{rng.choice(_FIELDS)}"'] = _value(rng)
    return f"{{{','.join(f'{key}:{value}' for key, value in members.items())}}}"


def _event(rng: random.Random) -> bytes:
    return _object(rng).encode()


def _batch(rng: random.Random) -> bytes:
    items = ",".join(rng.choice((_object, _value))(rng) for _ in range(rng.randint(0, 4)))
    return f'{{"execution_id":7,"context":{_value(rng)},"events":[{items}]}}'.encode()


def _wrapped(rng: random.Random) -> bytes:
    return f'{{"global_sequence":1,"y":{_value(rng)},"payload":{_quoted(_object(rng))}}}'.encode()


def _doubled(rng: random.Random) -> bytes:
    return _quoted(_object(rng)).encode()


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _deep(rng: random.Random) -> bytes:
    depth = rng.choice((100, 125, 126, 127, 256, 257, 1000, 20_000))
    opening, closing = rng.choice((("[", "]"), ('{"a":', "}")))
    inner = rng.choice(("", _value(rng))) if opening == "[" else _value(rng)
    return (
        f'{{"execution_id":1,"event_type":"x","context":{opening * depth}{inner}{closing * depth}}}'
    ).encode()


def _soup(rng: random.Random) -> bytes:
    parts = ("{", "}", "[", "]", ",", ":", '"', "\\", "1", "e", "null", " ", "\ufeff", "\\u0000")
    return "".join(rng.choice(parts) for _ in range(rng.randint(0, 30))).encode()


def _broken(rng: random.Random) -> bytes:
    value = bytearray(_object(rng).encode())
    for _ in range(rng.randint(1, 3)):
        value[rng.randrange(len(value))] = rng.randrange(256)
    return bytes(value)
