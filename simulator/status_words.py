"""The words that producers use for a status, with the meaning and rank of each.

The normalizer finds the meaning of a word, and the simulator a word for a meaning. Its tables are
written by hand from the spec, so that they can't share a mistake with the normalizer's tables.
Source: docs/spec/wire-shapes.md#s13, #s14, #e2.
"""

from typing import Final, NamedTuple


class StatusWord(NamedTuple):
    """A status as a producer writes it, with its meaning and its rank.

    `word` is None if the producer leaves the status out. If reports of an event disagree, the
    status with the highest rank wins. Rank 2 is a declared failure, rank 1 is any other declared
    status, and rank 0 is a status that follows only from the event's type. `overruled` is true if
    the event's type contradicts the word, for example if it says RUNNING but reports a completion.
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
"""Words for a call's outcome, the likeliest first."""

_ENDED_WELL: Final = (
    StatusWord("COMPLETED", "COMPLETED", 1),
    StatusWord("COMPLETED", "COMPLETED", 1),
    StatusWord("success", "COMPLETED", 1),
    StatusWord("ok", "COMPLETED", 1),
    StatusWord("done", "COMPLETED", 1),
    StatusWord("complete", "COMPLETED", 1),
    StatusWord("completed", "COMPLETED", 1),
    StatusWord("finished", "COMPLETED", 1),
    StatusWord("noop", "NOOP", 1),
    StatusWord("RUNNING", "COMPLETED", 0, overruled=True),
    StatusWord("started", "COMPLETED", 0, overruled=True),
    StatusWord("UNKNOWN", "COMPLETED", 0),
    StatusWord("", "COMPLETED", 0),
    StatusWord(None, "COMPLETED", 0),
)
_ENDED_BADLY: Final = (
    StatusWord("FAILED", "FAILED", 2),
    StatusWord("FAILED", "FAILED", 2),
    StatusWord("failed", "FAILED", 2),
    StatusWord("error", "FAILED", 2),
    StatusWord("ERROR", "FAILED", 2),
    StatusWord("timeout", "FAILED", 2),
    StatusWord("failure", "FAILED", 2),
    StatusWord("rejected", "FAILED", 2),
    StatusWord("timed-out", "FAILED", 2),
    StatusWord("failed_validation", "FAILED", 2),
)
_BADLY_BY_NAME: Final = (
    StatusWord(None, "FAILED", 0),
    StatusWord("RUNNING", "FAILED", 0, overruled=True),
    StatusWord("", "FAILED", 0),
)
_COMPLETED_BY_NAME: Final = (
    StatusWord(None, "COMPLETED", 0),
    StatusWord("", "COMPLETED", 0),
    StatusWord("RUNNING", "COMPLETED", 0, overruled=True),
)
_CANCELLED: Final = (
    StatusWord("CANCELLED", "CANCELLED", 2),
    StatusWord("cancelled", "CANCELLED", 2),
    StatusWord("canceled", "CANCELLED", 2),
    StatusWord("aborted", "CANCELLED", 2),
    StatusWord(None, "CANCELLED", 0),
)
_GOING: Final = (
    StatusWord("RUNNING", "RUNNING", 1),
    StatusWord("running", "RUNNING", 1),
    StatusWord(None, "RUNNING", 0),
)
_BEGUN: Final = (
    StatusWord("STARTED", "STARTED", 1),
    StatusWord("started", "STARTED", 1),
    *_GOING,
)

TOP_WORDS: Final[dict[tuple[str, str], tuple[StatusWord, ...]]] = {
    ("playbook.initialized", ""): (
        StatusWord("INITIALIZED", "INITIALIZED", 1),
        StatusWord("initialized", "INITIALIZED", 1),
        StatusWord("PENDING", "PENDING", 1),
    ),
    ("playbook.started", ""): (*_BEGUN, StatusWord("initiated", "STARTED", 1)),
    ("playbook.completed", "COMPLETED"): _ENDED_WELL,
    ("playbook.failed", "FAILED"): (*_ENDED_BADLY, *_BADLY_BY_NAME),
    ("playbook.cancelled", "CANCELLED"): _CANCELLED,
    ("workflow.started", ""): _BEGUN,
    ("workflow.completed", "COMPLETED"): _ENDED_WELL,
    ("workflow.failed", "FAILED"): (*_ENDED_BADLY, *_BADLY_BY_NAME),
    ("step.enter", ""): (
        *_BEGUN,
        StatusWord("ENTERED", "ENTERED", 1),
        StatusWord("entered", "ENTERED", 1),
    ),
    ("step.exit", "COMPLETED"): (*_ENDED_WELL, StatusWord("case_handled", "CASE_HANDLED", 1)),
    ("step.exit", "FAILED"): _ENDED_BADLY,
    ("step.exit", "CANCELLED"): _CANCELLED[:-1],
    ("step.failed", "FAILED"): (*_ENDED_BADLY, *_BADLY_BY_NAME),
    ("step.skipped", "SKIPPED"): (
        StatusWord("SKIPPED", "SKIPPED", 1),
        StatusWord("skipped", "SKIPPED", 1),
        StatusWord(None, "SKIPPED", 0),
    ),
    ("command.issued", ""): (
        StatusWord("PENDING", "PENDING", 1),
        StatusWord("pending", "PENDING", 1),
        StatusWord("queued", "PENDING", 1),
        StatusWord("CREATED", "PENDING", 1),
        StatusWord(None, "PENDING", 0),
    ),
    ("command.claimed", ""): (
        StatusWord("CLAIMED", "CLAIMED", 1),
        StatusWord("claimed", "CLAIMED", 1),
        *_GOING,
    ),
    ("command.started", ""): _BEGUN,
    ("command.completed", "COMPLETED"): _ENDED_WELL,
    ("command.completed", "FAILED"): (
        StatusWord("timeout", "FAILED", 2),
        StatusWord("error", "FAILED", 2),
    ),
    ("command.failed", "FAILED"): (*_ENDED_BADLY, *_BADLY_BY_NAME),
    ("command.cancelled", "CANCELLED"): _CANCELLED,
    ("call.error", "FAILED"): (*_ENDED_BADLY, *_BADLY_BY_NAME),
    ("subscription.opened", ""): (StatusWord("OPEN", "OPEN", 1), StatusWord("open", "OPEN", 1)),
    ("subscription.delivered", ""): (StatusWord("DELIVERED", "DELIVERED", 1), *_GOING),
    ("subscription.closed", ""): (
        StatusWord("CLOSED", "CLOSED", 1),
        StatusWord("abandoned", "ABANDONED", 1),
    ),
    ("checkpoint.committed", "COMPLETED"): (StatusWord("OK", "COMPLETED", 1),),
    ("step_result", "COMPLETED"): (
        StatusWord("success", "COMPLETED", 1),
        StatusWord("DONE", "COMPLETED", 1),
    ),
    ("metric.reported", ""): (*_GOING, StatusWord("PAUSED", "PAUSED", 1)),
    ("upload_failure", "FAILED"): _BADLY_BY_NAME,
    ("task-finished", "COMPLETED"): _COMPLETED_BY_NAME,
    ("job.Canceled", "CANCELLED"): _CANCELLED,
}
"""By (kind, outcome): the words for the top of an event that is no call.done."""

NESTED_WORDS: Final[dict[tuple[str, str], tuple[StatusWord, ...]]] = {
    ("step.enter", ""): (
        StatusWord("started", "STARTED", 1),
        StatusWord("ENTERED", "ENTERED", 1),
        StatusWord("OK", "RUNNING", 0),
        StatusWord("running", "RUNNING", 1),
    ),
    ("step.exit", "COMPLETED"): (
        StatusWord("COMPLETED", "COMPLETED", 1),
        StatusWord("success", "COMPLETED", 1),
        StatusWord("done", "COMPLETED", 1),
        StatusWord("handled_by_rule", "HANDLED_BY_RULE", 1),
    ),
    ("step.exit", "FAILED"): _ENDED_BADLY,
    ("step.exit", "CANCELLED"): _CANCELLED[:-1],
    ("command.completed", "COMPLETED"): (
        StatusWord("success", "COMPLETED", 1),
        StatusWord("COMPLETED", "COMPLETED", 1),
        StatusWord("ok", "COMPLETED", 1),
    ),
    ("command.completed", "FAILED"): (
        StatusWord("timeout", "FAILED", 2),
        StatusWord("error", "FAILED", 2),
    ),
    ("playbook.completed", "COMPLETED"): (
        StatusWord("completed", "COMPLETED", 1),
        StatusWord("COMPLETED", "COMPLETED", 1),
    ),
}
"""The words for payload.status if the top has none."""

_BY_NAME: Final = {
    "CANCELLED": StatusWord(None, "CANCELLED", 0),
    "FAILED": StatusWord(None, "FAILED", 0),
    "COMPLETED": StatusWord(None, "COMPLETED", 0),
    "SKIPPED": StatusWord(None, "SKIPPED", 0),
}

_NAMES_WITHOUT_STATUS: Final = ("checkpoint.committed", "step_result")

EVENT_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "playbook.initialized": ("playbook.initialized", "playbook_initialized"),
    "playbook.started": (
        "playbook.started",
        "playbook_started",
        "execution.started",
        "execution_start",
        "execution.start",
        "execution_started",
    ),
    "playbook.completed": (
        "playbook.completed",
        "playbook_completed",
        "execution.completed",
        "execution_complete",
        "execution_completed",
    ),
    "playbook.failed": (
        "playbook.failed",
        "playbook_failed",
        "execution.failed",
        "execution_error",
        "execution_failed",
    ),
    "playbook.cancelled": (
        "playbook.cancelled",
        "playbook_cancelled",
        "execution.cancelled",
        "execution_cancelled",
    ),
    "workflow.started": ("workflow.started", "workflow_started"),
    "workflow.completed": ("workflow.completed", "workflow_completed"),
    "workflow.failed": ("workflow.failed", "workflow_failed"),
    "step.enter": ("step.enter", "step_enter", "step_started", "step.start", "step_start"),
    "step.exit": ("step.exit", "step_completed", "step_complete"),
    "step.failed": ("step.failed", "step_failed"),
    "step.skipped": ("step.skipped", "step_skipped"),
    "command.issued": ("command.issued", "command_issued"),
    "command.claimed": ("command.claimed", "command_claimed"),
    "command.started": ("command.started", "action_started", "command_started"),
    "command.completed": ("command.completed", "action_completed"),
    "command.failed": (
        "command.failed",
        "action_failed",
        "command.timed_out",
        "command.timeout",
    ),
    "call.done": ("call.done", "action_done", "call_done"),
}
"""Every name of an event that has more than one, the newest first. The first two are one class."""


def implied_status(kind: str, outcome: str) -> StatusWord:
    """The status of an event that declares none: its name decides."""
    if kind == "command.issued":
        return StatusWord(None, "PENDING", 0)
    if kind in _NAMES_WITHOUT_STATUS:
        return StatusWord(None, "RUNNING", 0)
    return _BY_NAME.get(outcome) or StatusWord(None, "RUNNING", 0)
