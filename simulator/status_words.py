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


def _words(
    means: str, rank: int, *words: str | None, overruled: bool = False
) -> tuple[StatusWord, ...]:
    """Words of one meaning. A word that stands twice is drawn twice as often."""
    return tuple(StatusWord(word, means, rank, overruled) for word in words)


_ENDED_WELL: Final = (
    *_words("COMPLETED", 1, "COMPLETED", "COMPLETED", "success", "ok", "done", "complete"),
    *_words("COMPLETED", 1, "completed", "finished"),
    *_words("NOOP", 1, "noop"),
    *_words("COMPLETED", 0, "RUNNING", "started", overruled=True),
    *_words("COMPLETED", 0, "UNKNOWN", "", None),
)
_ENDED_BADLY: Final = (
    *_words("FAILED", 2, "FAILED", "FAILED", "failed", "error", "ERROR", "timeout", "failure"),
    *_words("FAILED", 2, "rejected", "timed-out", "failed_validation"),
)
_BADLY_BY_NAME: Final = (
    *_words("FAILED", 0, None),
    *_words("FAILED", 0, "RUNNING", overruled=True),
    *_words("FAILED", 0, ""),
)
_COMPLETED_BY_NAME: Final = (
    *_words("COMPLETED", 0, None, ""),
    *_words("COMPLETED", 0, "RUNNING", overruled=True),
)
_CANCELLED: Final = (
    *_words("CANCELLED", 2, "CANCELLED", "cancelled", "canceled", "aborted"),
    *_words("CANCELLED", 0, None),
)
_GOING: Final = (*_words("RUNNING", 1, "RUNNING", "running"), *_words("RUNNING", 0, None))
_BEGUN: Final = (*_words("STARTED", 1, "STARTED", "started"), *_GOING)

TOP_WORDS: Final[dict[tuple[str, str], tuple[StatusWord, ...]]] = {
    ("playbook.initialized", ""): (
        *_words("INITIALIZED", 1, "INITIALIZED", "initialized"),
        *_words("PENDING", 1, "PENDING"),
    ),
    ("playbook.started", ""): (*_BEGUN, *_words("STARTED", 1, "initiated")),
    ("playbook.completed", "COMPLETED"): _ENDED_WELL,
    ("playbook.failed", "FAILED"): (*_ENDED_BADLY, *_BADLY_BY_NAME),
    ("playbook.cancelled", "CANCELLED"): _CANCELLED,
    ("workflow.started", ""): _BEGUN,
    ("workflow.completed", "COMPLETED"): _ENDED_WELL,
    ("workflow.failed", "FAILED"): (*_ENDED_BADLY, *_BADLY_BY_NAME),
    ("step.enter", ""): (*_BEGUN, *_words("ENTERED", 1, "ENTERED", "entered")),
    ("step.exit", "COMPLETED"): (*_ENDED_WELL, *_words("CASE_HANDLED", 1, "case_handled")),
    ("step.exit", "FAILED"): _ENDED_BADLY,
    ("step.exit", "CANCELLED"): _CANCELLED[:-1],
    ("step.failed", "FAILED"): (*_ENDED_BADLY, *_BADLY_BY_NAME),
    ("step.skipped", "SKIPPED"): (
        *_words("SKIPPED", 1, "SKIPPED", "skipped"),
        *_words("SKIPPED", 0, None),
    ),
    ("command.issued", ""): (
        *_words("PENDING", 1, "PENDING", "pending", "queued", "CREATED"),
        *_words("PENDING", 0, None),
    ),
    ("command.claimed", ""): (*_words("CLAIMED", 1, "CLAIMED", "claimed"), *_GOING),
    ("command.started", ""): _BEGUN,
    ("command.completed", "COMPLETED"): _ENDED_WELL,
    ("command.completed", "FAILED"): _words("FAILED", 2, "timeout", "error"),
    ("command.failed", "FAILED"): (*_ENDED_BADLY, *_BADLY_BY_NAME),
    ("command.cancelled", "CANCELLED"): _CANCELLED,
    ("call.error", "FAILED"): (*_ENDED_BADLY, *_BADLY_BY_NAME),
    ("subscription.opened", ""): _words("OPEN", 1, "OPEN", "open"),
    ("subscription.delivered", ""): (*_words("DELIVERED", 1, "DELIVERED"), *_GOING),
    ("subscription.closed", ""): (
        *_words("CLOSED", 1, "CLOSED"),
        *_words("ABANDONED", 1, "abandoned"),
    ),
    ("checkpoint.committed", "COMPLETED"): _words("COMPLETED", 1, "OK"),
    ("step_result", "COMPLETED"): _words("COMPLETED", 1, "success", "DONE"),
    ("metric.reported", ""): (*_GOING, *_words("PAUSED", 1, "PAUSED")),
    ("upload_failure", "FAILED"): _BADLY_BY_NAME,
    ("task-finished", "COMPLETED"): _COMPLETED_BY_NAME,
    ("job.Canceled", "CANCELLED"): _CANCELLED,
}
"""By (kind, outcome): the words for the top of an event that is no call.done."""

NESTED_WORDS: Final[dict[tuple[str, str], tuple[StatusWord, ...]]] = {
    ("step.enter", ""): (
        *_words("STARTED", 1, "started"),
        *_words("ENTERED", 1, "ENTERED"),
        *_words("RUNNING", 0, "OK"),
        *_words("RUNNING", 1, "running"),
    ),
    ("step.exit", "COMPLETED"): (
        *_words("COMPLETED", 1, "COMPLETED", "success", "done"),
        *_words("HANDLED_BY_RULE", 1, "handled_by_rule"),
    ),
    ("step.exit", "FAILED"): _ENDED_BADLY,
    ("step.exit", "CANCELLED"): _CANCELLED[:-1],
    ("command.completed", "COMPLETED"): _words("COMPLETED", 1, "success", "COMPLETED", "ok"),
    ("command.completed", "FAILED"): _words("FAILED", 2, "timeout", "error"),
    ("playbook.completed", "COMPLETED"): _words("COMPLETED", 1, "completed", "COMPLETED"),
}
"""The words for payload.status if the top has none."""

_BY_NAME: Final = {
    word: StatusWord(None, word, 0) for word in ("CANCELLED", "FAILED", "COMPLETED", "SKIPPED")
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
