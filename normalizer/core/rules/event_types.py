"""Maps each spelling of an event type to its class.

Producers spell the same event type in several ways, for example call.done and action_done. All
spellings with one meaning form a class. The table projector.event_kinds says what each class means
for the projections.
"""

from typing import Final

EVENT_TYPE_SPELLINGS: Final[tuple[tuple[str, ...], ...]] = (
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
"""One class per line, named by its first spelling. Source: docs/spec/wire-shapes.md#e2."""


EXECUTION_BEGIN_CLASS: Final = EVENT_TYPE_SPELLINGS[0][0]
"""The class of the event that begins an execution."""

CALL_EVENT_CLASSES: Final = frozenset(
    (
        *("command.issued", "command.claimed", "command.started"),
        *("command.completed", "command.failed", "command.cancelled", "call.done", "call.error"),
    )
)
"""The classes of events that belong to a call. A test compares them with event_kinds."""

_CLASSES: Final[dict[str, str]] = {
    spelling: spellings[0] for spellings in EVENT_TYPE_SPELLINGS for spelling in spellings
}


def event_class(event_type: str) -> str:
    """Return the class of an event type. An unknown type is its own class."""
    known = _CLASSES.get(event_type)
    if known is not None:
        return known
    if event_type.startswith("workflow_"):
        return "workflow." + event_type.removeprefix("workflow_")
    return event_type
