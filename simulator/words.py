"""The words producers say, each with what it means and how much it proves.

The normalizer asks "what does this word mean?"; a producer asks "how do I say it?". So these tables
are the other way round, and written by hand from the spec. Source: wire-shapes, section 4.
"""

from typing import Final, NamedTuple


class Said(NamedTuple):
    """A status as written (None: not at all), what it means, and its rank when tellings join.

    rank: 2 a failure declared, 1 another declared word, 0 only the event's name. `overruled`: the
    word says something, and something else is meant; that is a coercion.
    """

    word: str | None
    means: str
    rank: int
    overruled: bool = False


CALL_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "COMPLETED": (
        "success",
        "completed",
        "ok",
        "COMPLETED",
        "complete",
        "succeeded",
        "successful",
        "done",
        "finished",
        "passed",
        "noop",
        "break",
        "partial",
        "Success",
        "OK",
    ),
    "FAILED": ("failed", "FAILED", "fail", "failure", "rejected", "failed_validation", "Failed"),
    "ERROR": ("error", "timeout", "ERROR", "errored", "exception", "err", "timed_out", "timed-out"),
    "CANCELLED": (
        "cancelled",
        "CANCELLED",
        "canceled",
        "cancel",
        "aborted",
        "terminated",
        "killed",
    ),
}
"""What a call's outcome is called, the likeliest words first."""

_ENDED_WELL: Final = (
    Said("COMPLETED", "COMPLETED", 1),
    Said("COMPLETED", "COMPLETED", 1),
    Said("success", "COMPLETED", 1),
    Said("ok", "COMPLETED", 1),
    Said("done", "COMPLETED", 1),
    Said("complete", "COMPLETED", 1),
    Said("completed", "COMPLETED", 1),
    Said("finished", "COMPLETED", 1),
    Said("noop", "NOOP", 1),
    Said("RUNNING", "COMPLETED", 0, overruled=True),
    Said("started", "COMPLETED", 0, overruled=True),
    Said("UNKNOWN", "COMPLETED", 0),
    Said("", "COMPLETED", 0),
    Said(None, "COMPLETED", 0),
)
_ENDED_BADLY: Final = (
    Said("FAILED", "FAILED", 2),
    Said("FAILED", "FAILED", 2),
    Said("failed", "FAILED", 2),
    Said("error", "FAILED", 2),
    Said("ERROR", "FAILED", 2),
    Said("timeout", "FAILED", 2),
    Said("failure", "FAILED", 2),
    Said("rejected", "FAILED", 2),
    Said("timed-out", "FAILED", 2),
    Said("failed_validation", "FAILED", 2),
)
_BADLY_BY_NAME: Final = (
    Said(None, "FAILED", 0),
    Said("RUNNING", "FAILED", 0, overruled=True),
    Said("", "FAILED", 0),
)
_COMPLETED_BY_NAME: Final = (
    Said(None, "COMPLETED", 0),
    Said("", "COMPLETED", 0),
    Said("RUNNING", "COMPLETED", 0, overruled=True),
)
_CANCELLED: Final = (
    Said("CANCELLED", "CANCELLED", 2),
    Said("cancelled", "CANCELLED", 2),
    Said("canceled", "CANCELLED", 2),
    Said("aborted", "CANCELLED", 2),
    Said(None, "CANCELLED", 0),
)
_GOING: Final = (
    Said("RUNNING", "RUNNING", 1),
    Said("running", "RUNNING", 1),
    Said(None, "RUNNING", 0),
)
_BEGUN: Final = (
    Said("STARTED", "STARTED", 1),
    Said("started", "STARTED", 1),
    *_GOING,
)

TOP_WORDS: Final[dict[tuple[str, str], tuple[Said, ...]]] = {
    ("playbook.initialized", ""): (
        Said("INITIALIZED", "INITIALIZED", 1),
        Said("initialized", "INITIALIZED", 1),
        Said("PENDING", "PENDING", 1),
    ),
    ("playbook.started", ""): (*_BEGUN, Said("initiated", "STARTED", 1)),
    ("playbook.completed", "COMPLETED"): _ENDED_WELL,
    ("playbook.failed", "FAILED"): (*_ENDED_BADLY, *_BADLY_BY_NAME),
    ("playbook.cancelled", "CANCELLED"): _CANCELLED,
    ("workflow.started", ""): _BEGUN,
    ("workflow.completed", "COMPLETED"): _ENDED_WELL,
    ("workflow.failed", "FAILED"): (*_ENDED_BADLY, *_BADLY_BY_NAME),
    ("step.enter", ""): (*_BEGUN, Said("ENTERED", "ENTERED", 1), Said("entered", "ENTERED", 1)),
    ("step.exit", "COMPLETED"): (*_ENDED_WELL, Said("case_handled", "CASE_HANDLED", 1)),
    ("step.exit", "FAILED"): _ENDED_BADLY,
    ("step.exit", "CANCELLED"): _CANCELLED[:-1],
    ("step.failed", "FAILED"): (*_ENDED_BADLY, *_BADLY_BY_NAME),
    ("step.skipped", "SKIPPED"): (
        Said("SKIPPED", "SKIPPED", 1),
        Said("skipped", "SKIPPED", 1),
        Said(None, "SKIPPED", 0),
    ),
    ("command.issued", ""): (
        Said("PENDING", "PENDING", 1),
        Said("pending", "PENDING", 1),
        Said("queued", "PENDING", 1),
        Said("CREATED", "PENDING", 1),
        Said(None, "PENDING", 0),
    ),
    ("command.claimed", ""): (
        Said("CLAIMED", "CLAIMED", 1),
        Said("claimed", "CLAIMED", 1),
        *_GOING,
    ),
    ("command.started", ""): _BEGUN,
    ("command.completed", "COMPLETED"): _ENDED_WELL,
    ("command.completed", "FAILED"): (Said("timeout", "FAILED", 2), Said("error", "FAILED", 2)),
    ("command.failed", "FAILED"): (*_ENDED_BADLY, *_BADLY_BY_NAME),
    ("command.cancelled", "CANCELLED"): _CANCELLED,
    ("call.error", "FAILED"): (*_ENDED_BADLY, *_BADLY_BY_NAME),
    ("subscription.opened", ""): (Said("OPEN", "OPEN", 1), Said("open", "OPEN", 1)),
    ("subscription.delivered", ""): (Said("DELIVERED", "DELIVERED", 1), *_GOING),
    ("subscription.closed", ""): (Said("CLOSED", "CLOSED", 1), Said("abandoned", "ABANDONED", 1)),
    ("checkpoint.committed", "COMPLETED"): (Said("OK", "COMPLETED", 1),),
    ("step_result", "COMPLETED"): (Said("success", "COMPLETED", 1), Said("DONE", "COMPLETED", 1)),
    ("metric.reported", ""): (*_GOING, Said("PAUSED", "PAUSED", 1)),
    ("upload_failure", "FAILED"): _BADLY_BY_NAME,
    ("task-finished", "COMPLETED"): _COMPLETED_BY_NAME,
    ("job.Canceled", "CANCELLED"): _CANCELLED,
}
"""By (kind, outcome): the words that may stand at the top of an event that is no call.done."""

NESTED_WORDS: Final[dict[tuple[str, str], tuple[Said, ...]]] = {
    ("step.enter", ""): (
        Said("started", "STARTED", 1),
        Said("ENTERED", "ENTERED", 1),
        Said("OK", "RUNNING", 0),
        Said("running", "RUNNING", 1),
    ),
    ("step.exit", "COMPLETED"): (
        Said("COMPLETED", "COMPLETED", 1),
        Said("success", "COMPLETED", 1),
        Said("done", "COMPLETED", 1),
        Said("handled_by_rule", "HANDLED_BY_RULE", 1),
    ),
    ("step.exit", "FAILED"): _ENDED_BADLY,
    ("step.exit", "CANCELLED"): _CANCELLED[:-1],
    ("command.completed", "COMPLETED"): (
        Said("success", "COMPLETED", 1),
        Said("COMPLETED", "COMPLETED", 1),
        Said("ok", "COMPLETED", 1),
    ),
    ("command.completed", "FAILED"): (Said("timeout", "FAILED", 2), Said("error", "FAILED", 2)),
    ("command.failed", "FAILED"): (Said("failed", "FAILED", 2), Said("error", "FAILED", 2)),
    ("playbook.completed", "COMPLETED"): (
        Said("completed", "COMPLETED", 1),
        Said("COMPLETED", "COMPLETED", 1),
    ),
}
"""The words that may stand in payload.status where the top has none."""

_BY_NAME: Final = {
    "CANCELLED": Said(None, "CANCELLED", 0),
    "FAILED": Said(None, "FAILED", 0),
    "COMPLETED": Said(None, "COMPLETED", 0),
    "SKIPPED": Said(None, "SKIPPED", 0),
}

_NAMES_THAT_SAY_NOTHING: Final = ("checkpoint.committed", "step_result")

SPELLINGS: Final[dict[str, tuple[str, ...]]] = {
    "playbook.initialized": ("playbook.initialized", "playbook_initialized"),
    "playbook.started": (
        "playbook.started",
        "playbook_started",
        "execution.started",
        "execution_start",
    ),
    "playbook.completed": (
        "playbook.completed",
        "playbook_completed",
        "execution.completed",
        "execution_complete",
    ),
    "playbook.failed": (
        "playbook.failed",
        "playbook_failed",
        "execution.failed",
        "execution_error",
    ),
    "playbook.cancelled": ("playbook.cancelled", "playbook_cancelled", "execution.cancelled"),
    "workflow.started": ("workflow.started", "workflow_started"),
    "workflow.completed": ("workflow.completed", "workflow_completed"),
    "workflow.failed": ("workflow.failed", "workflow_failed"),
    "step.enter": ("step.enter", "step_enter", "step_started"),
    "step.exit": ("step.exit", "step_completed", "step_complete"),
    "step.failed": ("step.failed", "step_failed"),
    "step.skipped": ("step.skipped", "step_skipped"),
    "command.started": ("command.started", "action_started"),
    "command.completed": ("command.completed", "action_completed"),
    "command.failed": ("command.failed", "action_failed"),
    "call.done": ("call.done", "action_done", "call_done"),
}
"""Every name of an event that has more than one: one spelling class each, the newest first."""


def unsaid(kind: str, outcome: str) -> Said:
    """What an event means that declares nothing: its name alone speaks."""
    if kind == "command.issued":
        return Said(None, "PENDING", 0)
    if kind in _NAMES_THAT_SAY_NOTHING:
        return Said(None, "RUNNING", 0)
    return _BY_NAME.get(outcome) or Said(None, "RUNNING", 0)
