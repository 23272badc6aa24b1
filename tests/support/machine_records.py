"""Records for the state machine of the store, with few ids and words, so that many of them collide.

They're drawn once from a seed, because hypothesis took longer to draw each word of a record than to
write it. In addition there are the records that the simulator's deployments send, one execution
after the other: every server with every worker that it ever ran with, retries that only one of them
numbers, and ids that collide.
"""

import random
from typing import Any, Final

import msgspec
from hypothesis import strategies as st

from simulator.ledger_file import Ledger
from simulator.mix import Mix
from simulator.simulator_run import SimulatorRun
from tests.support.factories import RECORDED_MS, snowflake

_SEED: Final = 1
_RECORDS: Final = 1_000
_EXECUTIONS: Final = (1, 1, 2, 400_000_000_000_000_000)
_EVENT_IDS: Final = (None, None, 5, *(snowflake(number) for number in range(6)))
_TYPES: Final = (
    *("command.issued", "command.claimed", "command.started", "call.done", "call.done"),
    *("command.completed", "command.failed", "call.error", "step.enter"),
    *("playbook.initialized", "playbook.completed", "execution.failed"),
)
_TIMES: Final = ("16:00", "16:00", "16:01", "16:59", "17:01")
_NO_EVENTS: Final = (None, b"{broken", b'{"a":1}', b"[]", b"\xff")


def _value(chance: random.Random) -> bytes | None:
    """One event, several in one request, or what is none."""
    kind = chance.randrange(10)
    if kind == 0:
        return chance.choice(_NO_EVENTS)
    if kind == 1:
        request = {
            "execution_id": str(chance.choice(_EXECUTIONS)),
            "events": [_part(chance) for _ in range(chance.randint(1, 3))],
            "worker_id": "w",
        }
        return msgspec.json.encode(request)
    return msgspec.json.encode(_event(chance))


def _event(chance: random.Random) -> dict[str, Any]:
    """As a worker sends one, with an id of its own or without."""
    event = {
        "event_id": chance.choice(_EVENT_IDS),
        "execution_id": chance.choice(_EXECUTIONS),
        "event_type": chance.choice(_TYPES),
        "step": chance.choice((None, "a", "a", "b")),
        "status": chance.choice((None, "COMPLETED", "FAILED", "RUNNING")),
        "created_at": f"2025-11-24T{chance.choice(_TIMES)}:00Z",
        "context": _context(chance),
        "worker_id": chance.choice((None, "w", "v")),
        "meta": chance.choice((None, {"attempts": chance.randint(0, 2)})),
        "error": chance.choice((None, None, "HTTP 503")),
    }
    return {name: value for name, value in event.items() if value is not None}


def _part(chance: random.Random) -> dict[str, Any]:
    """As a server is sent several in one request."""
    return {
        "name": chance.choice(_TYPES),
        "step": chance.choice(("a", "b")),
        "payload": _context(chance),
    }


def _context(chance: random.Random) -> dict[str, Any]:
    command_id = chance.choice((None, "c1", "c1", "c2"))
    context: dict[str, Any] = {"n": chance.randint(0, 1)}
    return context | ({"command_id": command_id} if command_id else {})


def _drawn() -> list[bytes | None]:
    """The shortest first: a failing example is made of such."""
    chance = random.Random(_SEED)
    return sorted((_value(chance) for _ in range(_RECORDS)), key=lambda value: len(value or b""))


_values: Final = _drawn()
values: Final = st.integers(0, len(_values) - 1).map(lambda number: _values[number])


_SIMULATED: Final = 4_000
_LONGEST_WINDOW: Final = 24


def _ignore(_line: bytes) -> None:
    """Nobody reads the ledger: what must hold is the model's."""


def _simulated() -> list[bytes | None]:
    """Executions do not overlap, so that a window of records holds whole retries."""
    mix = Mix(
        start_us=RECORDED_MS * 1_000,
        in_flight=1,
        failing=0.4,
        colliding=0.02,
        redelivered=0.05,
        reported_twice=0.3,
        disagreeing=0.3,
        event_bytes_high=400,
    )
    run = SimulatorRun(mix=mix, seed=_SEED, events=_SIMULATED)
    return [record.value for record in run.records(Ledger(_ignore))]


_history: Final = _simulated()
windows: Final = st.tuples(st.integers(0, len(_history) - 1), st.integers(1, _LONGEST_WINDOW)).map(
    lambda window: _history[window[0] : sum(window)]
)
"""Consecutive records of the simulator."""
