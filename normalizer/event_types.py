"""Event type in, its spelling class out: the producers write one thing in several ways."""

from typing import Final

SPELLINGS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "playbook.initialized",
        "playbook_initialized",
        "playbook.started",
        "playbook_started",
        "execution.started",
        "execution_start",
    ),
    (
        "playbook.completed",
        "playbook_completed",
        "execution.completed",
        "execution_complete",
    ),
    ("playbook.failed", "playbook_failed", "execution.failed", "execution_error"),
    ("playbook.cancelled", "playbook_cancelled", "execution.cancelled"),
    ("step.enter", "step_enter", "step_started"),
    ("step.exit", "step_completed", "step_complete"),
    ("step.failed", "step_failed"),
    ("step.skipped", "step_skipped"),
    ("command.started", "action_started"),
    ("command.completed", "action_completed"),
    ("command.failed", "action_failed"),
    ("call.done", "action_done", "call_done"),
)
"""One class a line; the first spelling names it. Source: wire-shapes, section 4."""

_CLASS_OF: Final[dict[str, str]] = {
    spelling: spellings[0] for spellings in SPELLINGS for spelling in spellings
}


def event_class(event_type: str) -> str:
    """The name of the event type's spelling class; a word without one is its own class."""
    known = _CLASS_OF.get(event_type)
    if known is not None:
        return known
    if event_type.startswith("workflow_"):
        return "workflow." + event_type.removeprefix("workflow_")
    return event_type
