"""Maps each spelling of an event type to its class, and each class to its meaning.

Producers spell one event type in several ways. The meanings are what the projections count.
"""

from typing import Final, Literal, NamedTuple

SPELLINGS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "playbook.initialized",
        "playbook_initialized",
        "playbook.started",
        "playbook_started",
        "execution.started",
        "execution_start",
        "execution.start",
        "execution_started",
    ),
    (
        "playbook.completed",
        "playbook_completed",
        "execution.completed",
        "execution_complete",
        "execution_completed",
    ),
    (
        "playbook.failed",
        "playbook_failed",
        "execution.failed",
        "execution_error",
        "execution_failed",
    ),
    ("playbook.cancelled", "playbook_cancelled", "execution.cancelled", "execution_cancelled"),
    ("step.enter", "step_enter", "step_started", "step.start", "step_start"),
    ("step.exit", "step_completed", "step_complete"),
    ("step.failed", "step_failed"),
    ("step.skipped", "step_skipped"),
    ("command.issued", "command_issued"),
    ("command.claimed", "command_claimed"),
    ("command.started", "action_started", "command_started"),
    ("command.completed", "action_completed"),
    ("command.failed", "action_failed", "command.timed_out", "command.timeout"),
    ("call.done", "action_done", "call_done"),
)
"""One class a line, named by its first spelling. Source: docs/spec/wire-shapes.md#e2."""


BEGIN_CLASS: Final = SPELLINGS[0][0]
"""The class of the event that begins an execution."""


class EventKind(NamedTuple):
    """What an event of a class means for its execution or call.

    An execution begins and ends. A call is issued, claimed and started; `done` is the outcome of
    the call itself and overrides `ended`, the outcome of its command. `outcome` is the outcome that
    the name of the event alone implies.
    """

    event_class: str
    subject: Literal["execution", "call"]
    role: Literal["begins", "ends", "issued", "claimed", "started", "ended", "done"]
    outcome: Literal["", "COMPLETED", "FAILED", "CANCELLED"] = ""


EVENT_KINDS: Final[tuple[EventKind, ...]] = (
    EventKind("playbook.initialized", "execution", "begins"),
    EventKind("playbook.completed", "execution", "ends", "COMPLETED"),
    EventKind("playbook.failed", "execution", "ends", "FAILED"),
    EventKind("playbook.cancelled", "execution", "ends", "CANCELLED"),
    EventKind("command.issued", "call", "issued"),
    EventKind("command.claimed", "call", "claimed"),
    EventKind("command.started", "call", "started"),
    EventKind("command.completed", "call", "ended", "COMPLETED"),
    EventKind("command.failed", "call", "ended", "FAILED"),
    EventKind("command.cancelled", "call", "ended", "CANCELLED"),
    EventKind("call.done", "call", "done", "COMPLETED"),
    EventKind("call.error", "call", "done", "FAILED"),
)
"""The classes that projections read; the table projector.event_kinds holds all their spellings."""

_CLASS_OF: Final[dict[str, str]] = {
    spelling: spellings[0] for spellings in SPELLINGS for spelling in spellings
}


def event_class(event_type: str) -> str:
    """The class of an event type; an unknown type is its own class."""
    known = _CLASS_OF.get(event_type)
    if known is not None:
        return known
    if event_type.startswith("workflow_"):
        return "workflow." + event_type.removeprefix("workflow_")
    return event_type


def spellings_of(kind: EventKind) -> tuple[str, ...]:
    """Every spelling of the kind's class."""
    found = [known for known in SPELLINGS if known[0] == kind.event_class]
    return found[0] if found else (kind.event_class,)
