"""The law of the store: whatever happens in whatever order, every outcome is counted once.

A failure prints its steps, and its seed. STORE_MACHINE_SEED=... does the same examples again and
looks for the fewest steps that fail, which takes minutes.
"""

import asyncio
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.support.machine_database import MachineDatabase
from tests.support.results import PrintLine, write_row
from tests.support.stack import Database
from tests.support.store_machine import StoreMachine

EXAMPLES: Final = 25
SOAK_EXAMPLES: Final = 20_000

_SEED: Final = os.environ.get("STORE_MACHINE_SEED")
_PHASES: Final = [Phase.generate] if _SEED is None else [Phase.generate, Phase.shrink]

_settings: Final = settings(
    max_examples=EXAMPLES,
    stateful_step_count=6,
    deadline=None,
    database=None,
    print_blob=False,
    phases=_PHASES,
    suppress_health_check=list(HealthCheck),
)


@contextmanager
def opened(database: Database) -> Iterator[MachineDatabase]:
    """On a loop of its own: hypothesis cannot wait for a coroutine."""
    loop = asyncio.new_event_loop()
    opening = MachineDatabase.opened(database, loop)
    try:
        made = loop.run_until_complete(opening.__aenter__())
        try:
            yield made
        finally:
            loop.run_until_complete(opening.__aexit__(None, None, None))
    finally:
        loop.close()


def run_examples(database: MachineDatabase, number: int) -> None:
    factory = partial(StoreMachine, database)
    try:
        run_state_machine_as_test(
            seed(number)(factory),  # type: ignore[arg-type]
            settings=_settings,
        )
    except BaseException as failure:
        failure.add_note(f"STORE_MACHINE_SEED={number}")
        raise


def first_seed() -> int:
    return random.randrange(1 << 32) if _SEED is None else int(_SEED)


@pytest.mark.timeout(600)
def test_any_steps_leave_every_outcome_counted_once(database: Database, say: PrintLine) -> None:
    number = first_seed()
    say(f"STORE_MACHINE_SEED={number}")
    with opened(database) as made:
        run_examples(made, number)


@pytest.mark.soak
@pytest.mark.timeout(21_600)
def test_twenty_thousand_examples_leave_every_outcome_counted_once(
    database: Database, say: PrintLine
) -> None:
    first = first_seed()
    began_s = time.monotonic()
    with opened(database) as made:
        for number in range(first, first + SOAK_EXAMPLES // EXAMPLES):
            say(f"STORE_MACHINE_SEED={number}")
            run_examples(made, number)
    took = f"{(time.monotonic() - began_s) / 60:.0f} min"
    write_row(
        "store-machine",
        f"first seed {first}",
        f"{SOAK_EXAMPLES:,} examples, each as expected, in {took}",
        'make soak ARGS="-k twenty_thousand_examples"',
    )
