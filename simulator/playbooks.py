"""Makes a catalogue of playbooks with their steps. The same seed makes the same catalogue."""

from random import Random
from typing import Final

import msgspec

NODE_TYPES: Final = ("http", "python", "postgres", "duckdb", "shell", "task", "agent")
_SUBJECTS: Final = [
    "billing",
    "weather",
    "orders",
    "parcels",
    "patients",
    "tickets",
    "prices",
    "sensors",
    "reports",
]
_VERBS: Final = ["load", "sync", "check", "enrich", "publish", "archive", "audit", "retry"]
_STEPS: Final = (
    "start",
    "etl:load",
    "fetch_posts",
    "get_weather",
    "transform",
    "insert_rows",
    "per_city",
    "ask_agent",
    "notify",
    "train",
    "save result",
    "end",
)


class Step(msgspec.Struct, frozen=True):
    """One step. `iterations` above 0 makes it a loop, and `child` makes it run another playbook."""

    name: str
    node_type: str
    fails: float
    seconds: float
    iterations: int = 0
    max_attempts: int = 3
    child: bool = False
    skipped: float = 0.0


class Playbook(msgspec.Struct, frozen=True):
    """A path, its version in the catalogue and its steps in order."""

    path: str
    version: str
    catalog_id: int
    steps: tuple[Step, ...]


def catalogue(random: Random, *, failing: float, children: float, size: int = 24) -> list[Playbook]:
    """Make `size` playbooks, whose steps fail at `failing` on average, some much more often."""
    playbooks = []
    for number in range(size):
        subject = _SUBJECTS[number % len(_SUBJECTS)]
        verb = _VERBS[int(random.random() * len(_VERBS))]
        names = _STEPS[: 2 + int(random.random() * (len(_STEPS) - 2))]
        playbooks.append(
            Playbook(
                path=f"demo/{subject}/{verb}_{number}",
                version=str(1 + int(random.random() * 5)),
                catalog_id=552_535_798_579_462_149 + number * 4_194_304,
                steps=tuple(_step(name, random, failing, children) for name in names),
            )
        )
    return playbooks


def _step(name: str, random: Random, failing: float, children: float) -> Step:
    draw = random.random()
    return Step(
        name=name,
        node_type=NODE_TYPES[int(random.random() * len(NODE_TYPES))],
        fails=min(failing * 3 * random.random() ** 2, 0.9),
        seconds=0.2 + 3 * random.random(),
        iterations=2 + int(random.random() * 6) if draw < 0.15 else 0,
        max_attempts=1 + int(random.random() * 4),
        child=0.15 <= draw < 0.15 + children,
        skipped=0.3 if draw > 0.9 else 0.0,
    )
