"""One fact as one producer tells it: the body on the wire, and what a reader must take from it.

`Says` is filled from the fact and from what the producer chose to leave out, never by reading the
body again. Source: wire-shapes, sections 1 to 4.
"""

from collections.abc import Callable
from random import Random
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from simulator import words
from simulator.facts import Fact
from simulator.ids import minted_ms
from simulator.mix import Mix

EXPLICIT: Final = 2
ONE_BASED: Final = 1
DEFAULTED: Final = 0
FROM_PRODUCER: Final = 2
FROM_ID: Final = 1
FROM_LOG: Final = 0

WITH_ERROR: Final = frozenset(("call.done", "call.error", "command.failed", "command.cancelled"))
"""Kinds that carry an error, if there is one."""

_NULL: Final = msgspec.Raw(b"null")

T = TypeVar("T")


class Says(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The canonical fields of one telling; None is absent.

    `event_id` None: to be derived from the place in the log. `created_us` None: the log's own time.
    The ranks say how much a value proves when tellings of one event are joined. `pending`: a
    completion that only hands over. `context` and `result` are as they may be kept; `meta` and
    `extra` hold at least these, `rules` are all coercions. `shape` starts the shape's name.
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
    pending: bool = False
    context: Any = None
    result: Any = None
    meta: dict[str, Any] = {}
    extra: dict[str, Any] = {}
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
    """A telling that says who and what; its producer adds the rest."""
    says = Says(
        execution_id=fact.execution.execution_id,
        event_type=event_type,
        kind=fact.kind,
        shape=shape,
        pending=fact.pending,
        rules=("opaque_id",) if fact.execution.opaque else (),
    )
    return Telling(body, says, fact)


def say_status(says: Says, said: words.Said) -> str | None:
    """The status of an event that is no call.done; returns the word to write."""
    says.status, says.status_rank = said.means, said.rank
    if said.overruled:
        says.rules = (*says.rules, "status_overruled")
    return said.word


def say_outcome(says: Says, fact: Fact, top: str | None) -> str | None:
    """The status of a call.done: what really came of the call, wherever a producer put the word.

    `top` is the word at the top, which may say less, or the opposite. Returns it.
    """
    says.status = fact.outcome
    says.status_rank = 1 if fact.outcome == "COMPLETED" else 2
    if top in _WEAK or (top == "COMPLETED" and fact.outcome != "COMPLETED"):
        says.rules = (*says.rules, "status_overruled")
    return top


_WEAK: Final = frozenset(("RUNNING", "STARTED"))


def say_call(says: Says, fact: Fact) -> None:
    """The command, its error and its duration, where the producer tells all of them."""
    call = fact.call
    if call is None:
        return
    says.command_id, says.iteration = call.command_id, call.iteration
    if fact.kind in WITH_ERROR and fact.error is not None:
        says.error = fact.error[1]
    if fact.kind == "call.done" and fact.duration_ms is not None:
        says.duration = fact.duration_ms / 1000


def say_time_of_id(says: Says, fact: Fact) -> None:
    """No time but the one inside the id, if there is one; else the log's."""
    made_ms = minted_ms(fact.event_id, doubled=fact.execution.deployment.ids == "doubled")
    says.created_us = None if made_ms is None else made_ms * 1000
    says.created_rank = FROM_LOG if made_ms is None else FROM_ID


class Side(NamedTuple):
    """The content and the error of a fact: as they are sent, or as they may be kept."""

    data: msgspec.Raw
    error: str | None


def both_sides(told: Telling, build: Callable[[Side], dict[str, Any]]) -> tuple[Any, Any]:
    """What `build` makes of the fact's content as sent and as kept; one object if they agree.

    Whatever was changed in the content is among the telling's `rules` then.
    """
    content, error = told.fact.content, told.fact.error
    sent = build(
        Side(
            _NULL if content is None else content.sent,
            None if error is None else error[0],
        )
    )
    if content is not None and content.rules:
        told.says.rules = (*told.says.rules, *content.rules)
    same_content = content is None or content.sent is content.kept
    same_error = error is None or error[0] is error[1]
    if same_content and same_error:
        return sent, sent
    kept = Side(
        _NULL if content is None else content.kept,
        None if error is None else error[1],
    )
    return sent, build(kept)


def place_of(fact: Fact) -> dict[str, Any]:
    """What the server says in the context of its own events."""
    match fact.kind:
        case "playbook.started" | "playbook.initialized":
            return {"path": fact.execution.playbook, "version": fact.execution.version}
        case "subscription.delivered":
            return {"subscription_id": f"sub-{fact.execution.number}", "attempts": 4}
        case "step.enter" | "step.exit" | "step.failed" | "step.skipped":
            return {"step": fact.step}
        case _:
            return {}
