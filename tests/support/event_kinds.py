"""What an event of each class means for its execution or call: what the projections count.

The database has it in projector.event_kinds, in every spelling; deploy/calls.py has its part.
"""

from typing import Final, Literal, NamedTuple

from normalizer.core.event_types import SPELLINGS


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
"""The classes that projections read."""


def spellings_of(kind: EventKind) -> tuple[str, ...]:
    """Every spelling of the kind's class."""
    found = [known for known in SPELLINGS if known[0] == kind.event_class]
    return found[0] if found else (kind.event_class,)
