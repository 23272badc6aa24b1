"""One fact as one producer tells it: the body on the wire, and what a reader must take from it.

`Says` is filled from the fact and from what the producer chose to leave out, never by reading the
body again. Source: wire-shapes, sections 1 to 4.
"""

from random import Random
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from simulator import words
from simulator.facts import Fact
from simulator.mix import Mix

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

EXPLICIT: Final = 2
ONE_BASED: Final = 1
DEFAULTED: Final = 0
FROM_PRODUCER: Final = 2
FROM_ID: Final = 1
FROM_LOG: Final = 0


class Says(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The canonical fields of one telling; None is absent.

    `event_id` None: to be derived from the place in the log. `created_us` None: the log's own time.
    The ranks say how much a value proves when tellings of one event are joined.
    `context` and `result` are as they may be kept; `meta` and `extra` hold at least these.
    `shape` is a prefix of the shape's name.
    """

    execution_id: int
    event_type: str
    kind: str
    shape: str
    step: str = ""
    status: str = ""
    status_rank: int = 0
    attempts: int = 0
    attempts_rank: int = DEFAULTED
    event_id: int | None = None
    created_us: int | None = None
    created_rank: int = FROM_LOG
    worker_id: str | None = None
    command_id: str | None = None
    iteration: int | None = None
    max_attempts: int | None = None
    node_type: str | None = None
    catalog_id: int | None = None
    parent_event_id: int | None = None
    parent_execution_id: int | None = None
    duration: float | None = None
    error: str | None = None
    context: Any = None
    result: Any = None
    meta: dict[str, Any] | None = None
    extra: dict[str, Any] | None = None
    rules: tuple[str, ...] = ()


class Telling(msgspec.Struct):
    """What is written, what it says, and of which fact."""

    body: dict[str, Any]
    says: Says
    fact: Fact


class Pen:
    """The chances a producer takes while writing; one stream of random numbers for all of them."""

    def __init__(self, random: Random, mix: Mix) -> None:
        self.random: Callable[[], float] = random.random
        self.mix = mix

    def chance(self, share: float) -> bool:
        """True at `share`."""
        return self.random() < share

    def pick(self, choices: tuple[T, ...]) -> T:
        """One of them, all as likely."""
        return choices[int(self.random() * len(choices))]

    def top_word(self, fact: Fact, *, silent: bool = True) -> words.Said:
        """A status for the top of an event that is no call.done; `silent` allows none at all."""
        said = self.pick(words.TOP_WORDS[fact.kind, fact.outcome])
        while not silent and not said.word:
            said = self.pick(words.TOP_WORDS[fact.kind, fact.outcome])
        return said

    def nested_word(self, fact: Fact) -> words.Said:
        """A status for the payload of an event whose top has none."""
        choices = words.NESTED_WORDS.get((fact.kind, fact.outcome))
        return self.pick(choices) if choices else words.unsaid(fact.kind, fact.outcome)

    def call_word(self, outcome: str) -> str:
        """What a call's outcome is called; the newest words most often."""
        choices = words.CALL_WORDS[outcome]
        return choices[int(self.random() ** 2 * len(choices))]

    def spelled(self, kind: str, share: float = 0.05) -> str:
        """The event's name, an old one at `share`."""
        if self.random() >= share:
            return kind
        return self.pick(words.SPELLINGS.get(kind, (kind,)))


def telling(body: dict[str, Any], fact: Fact, shape: str, event_type: str) -> Telling:
    """A telling that says who, what and where; its producer adds the rest."""
    says = Says(
        execution_id=fact.execution.execution_id,
        event_type=event_type,
        kind=fact.kind,
        shape=shape,
    )
    return Telling(body, says, fact)


def seconds(duration_ms: int | None) -> float | None:
    """A duration as the envelope has it."""
    return None if duration_ms is None else duration_ms / 1000
