"""Turns a fact into the event that a producer sends, and into the fields that a reader must get.

The expected fields (`ReportedFields`) are computed from the fact, and from what the producer chose
to leave out. They're never read back from the event, because then a mistake in the event would also
be in the expected fields, and nobody would notice it. Source: docs/spec/wire-shapes.md#v1,
docs/spec/envelope.md#c9.
"""

from collections.abc import Callable
from random import Random
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from simulator import status_words
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


class ReportedFields(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The fields that a reader must get from a report. None means that the report has no value.

    Without `event_id`, the reader must derive an id from the record's coordinates in Kafka, and
    without `created_us` it must take the record's time. The ranks say how well a value is known, so
    that the best one wins when several reports of an event are merged. `pending` is true if the
    call was only handed over to another system. `call_index` is filled in when the ledger is
    written.

    Some fields are only a lower bound: `meta` and `extra` must have at least these keys, and
    `shape` is the beginning of the shape's name. `context` and `result` are as they may be stored,
    without secrets. `rules` are the names of all coercions.
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
    call_index: int = 0
    context: Any = None
    result: Any = None
    meta: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    rules: tuple[str, ...] = ()


class RenderedEvent(msgspec.Struct):
    """The body that is written, its fields, and its fact."""

    body: dict[str, Any]
    reported: ReportedFields
    fact: Fact


class RenderChoices:
    """The random choices of a producer, from one stream of random numbers."""

    def __init__(self, random: Random, mix: Mix) -> None:
        self.random: Callable[[], float] = random.random
        self.mix = mix

    def pick(self, choices: tuple[T, ...]) -> T:
        """One of the options, all equally likely."""
        return choices[int(self.random() * len(choices))]

    def top_word(self, fact: Fact, *, silent: bool = True) -> status_words.StatusWord:
        """Pick a top-level status for an event that isn't a call.done.

        With `silent`, maybe none.
        """
        word = self.pick(status_words.TOP_WORDS[fact.kind, fact.outcome])
        while not silent and not word.word:
            word = self.pick(status_words.TOP_WORDS[fact.kind, fact.outcome])
        return word

    def nested_word(self, fact: Fact) -> status_words.StatusWord:
        """A status for the payload of an event whose top has none."""
        choices = status_words.NESTED_WORDS.get((fact.kind, fact.outcome))
        return (
            self.pick(choices) if choices else status_words.implied_status(fact.kind, fact.outcome)
        )

    def call_word(self, outcome: str) -> str:
        """Return the word for a call's outcome, the newest words most often."""
        choices = status_words.CALL_WORDS[outcome]
        return choices[int(self.random() ** 2 * len(choices))]

    def spelled(self, kind: str, share: float = 0.05) -> str:
        """The event's name, an old one with probability `share`."""
        if self.random() >= share:
            return kind
        return self.pick(status_words.EVENT_NAMES.get(kind, (kind,)))


def start_event(body: dict[str, Any], fact: Fact, shape: str, event_type: str) -> RenderedEvent:
    """Start a report with ids and names. Its producer adds the rest."""
    reported = ReportedFields(
        execution_id=fact.execution.execution_id,
        event_type=event_type,
        kind=fact.kind,
        shape=shape,
        pending=fact.pending,
        rules=("opaque_id",) if fact.execution.opaque else (),
    )
    return RenderedEvent(body, reported, fact)


def report_status(
    reported: ReportedFields, word: status_words.StatusWord, *, alone: bool = False
) -> str | None:
    """Set the expected status of an event that isn't a call.done, and return the word to write.

    `alone` means that the word is written only at the top of the event. For some events, COMPLETED
    at the top says no more than the event's name does, so it gets the lowest rank.
    """
    reported.status = word.means
    reported.status_rank = _rank(reported, word.rank, alone=alone)
    if word.overruled:
        reported.rules = (*reported.rules, "status_overruled")
    return word.word


def write_status(rendered: RenderedEvent, word: status_words.StatusWord) -> str | None:
    """Write the status of an event that isn't a call.done at its top, and nowhere else."""
    written = report_status(rendered.reported, word, alone=True)
    if written is not None:
        rendered.body["status"] = written
    return written


def report_outcome(
    reported: ReportedFields, fact: Fact, top: str | None, *, alone: bool = False
) -> str | None:
    """Set the real outcome of a call.done as its expected status, and return `top`.

    `top` is the word to write at the top of the event. It may be less specific than the outcome, or
    even say the opposite. In that case the reader must find the outcome below the top, and record a
    coercion. `alone` means that nothing below the top says how the call ended.
    """
    reported.status = fact.outcome
    rank = 1 if fact.outcome == "COMPLETED" else 2
    reported.status_rank = _rank(reported, rank, alone=alone)
    if top in _WEAK or (top == "COMPLETED" and fact.outcome != "COMPLETED"):
        reported.rules = (*reported.rules, "status_overruled")
    return top


def _rank(reported: ReportedFields, rank: int, *, alone: bool) -> int:
    """#s7: COMPLETED at the top of what is named completed says no more than the name."""
    says_the_name = reported.status == "COMPLETED" and reported.kind in _NAMED_COMPLETED
    return 0 if alone and says_the_name else rank


_WEAK: Final = frozenset(("RUNNING", "STARTED"))
_NAMED_COMPLETED: Final = frozenset(("call.done", "command.completed", "step.exit"))


def report_ids(reported: ReportedFields, fact: Fact) -> None:
    """The step, and the ids of the event and its catalog entry."""
    reported.step, reported.event_id = fact.step, fact.event_id
    reported.catalog_id = fact.execution.catalog_id


def report_call(reported: ReportedFields, fact: Fact) -> None:
    """The command, its error and its duration, if the producer reports all of them."""
    call = fact.call
    if call is None:
        return
    reported.command_id, reported.iteration = call.command_id, call.iteration
    if fact.kind in WITH_ERROR and fact.error is not None:
        reported.error = fact.error[1]
    if fact.kind == "call.done" and fact.duration_ms is not None:
        reported.duration = fact.duration_ms / 1000


def report_time_of_id(reported: ReportedFields, fact: Fact) -> None:
    """Report the time inside the id, if there is one, or else the log's."""
    made_ms = minted_ms(fact.event_id, doubled=fact.execution.deployment.ids == "doubled")
    reported.created_us = None if made_ms is None else made_ms * 1000
    reported.created_rank = FROM_LOG if made_ms is None else FROM_ID


class PayloadForm(NamedTuple):
    """The content and the error of a fact: as they are sent, or as they may be kept."""

    data: msgspec.Raw
    error: str | None


def sent_and_kept(
    rendered: RenderedEvent, build: Callable[[PayloadForm], dict[str, Any]]
) -> tuple[Any, Any]:
    """Build part of an event twice: as the producer sends it, and as a database may store it.

    The two differ if the content has something that mustn't be stored, for example a password,
    which is redacted. `build` is called with each form of the content. If both forms are the same,
    it's called once and its result is returned twice. The rules that change the content are added
    to the report's `rules`.
    """
    content, error = rendered.fact.content, rendered.fact.error
    sent = build(
        PayloadForm(
            _NULL if content is None else content.sent,
            None if error is None else error[0],
        )
    )
    if content is not None and content.rules:
        rendered.reported.rules = (*rendered.reported.rules, *content.rules)
    same_content = content is None or content.sent is content.kept
    same_error = error is None or error[0] is error[1]
    if same_content and same_error:
        return sent, sent
    kept = PayloadForm(
        _NULL if content is None else content.kept,
        None if error is None else error[1],
    )
    return sent, build(kept)


def server_context(fact: Fact) -> dict[str, Any]:
    """The context that the server adds to its own events."""
    match fact.kind:
        case "playbook.started" | "playbook.initialized":
            return {"path": fact.execution.playbook, "version": fact.execution.version}
        case "subscription.delivered":
            return {"subscription_id": f"sub-{fact.execution.number}", "attempts": 4}
        case "step.enter" | "step.exit" | "step.failed" | "step.skipped":
            return {"step": fact.step}
        case _:
            return {}
