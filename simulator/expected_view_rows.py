"""The rows that the views must show, as JSON lines of the truth."""

from collections import Counter

import msgspec

EventCountKey = tuple[int, str, str, str, int]
"""The start of its hour in microseconds since 1970, step, event_type, status, attempts."""


class FirstEvent(msgspec.Struct, omit_defaults=True):
    """The earliest event of one kind, and how many there were."""

    at_us: int
    status: str
    events: int = 1


class ExpectedCall(msgspec.Struct, omit_defaults=True, tag="call", tag_field="line"):
    """One try of the command `key`; events without a number are assigned by their time.

    `first_events` is by kind, without completions that only hand over. `status` is its outcome, or
    how far it has come. `platform_outcome` is the outcome on the platform of the try whose end was
    reported: None if no end was.
    """

    execution_id: int
    key: str
    attempts: int
    status: str = ""
    step: str = ""
    worker_id: str | None = None
    iteration: int | None = None
    max_attempts: int | None = None
    duration: float | None = None
    error: str | None = None
    finished_us: int | None = None
    first_events: dict[str, FirstEvent] = {}
    platform_outcome: str | None = None


class ExpectedStep(msgspec.Struct, omit_defaults=True, tag="step", tag_field="line"):
    """One step of one execution: `first_events` by kind, and its calls."""

    execution_id: int
    step: str
    first_events: dict[str, FirstEvent] = {}
    calls: int = 0
    retries: int = 0


class ExpectedExecution(msgspec.Struct, omit_defaults=True, tag="execution", tag_field="line"):
    """One execution as reported: `ended` by outcome, the earliest of which is its `status`.

    `playbook` is what it really runs, '' if no report names it. `platform_outcome` is its outcome
    on the platform: '' if it never ended, None if nothing there knew it or an end was not reported.
    """

    execution_id: int
    status: str = "RUNNING"
    playbook: str = ""
    parent_execution_id: int | None = None
    first_us: int = 0
    last_us: int = 0
    events: int = 0
    attempts: int = 0
    failed_calls: int = 0
    ended: dict[str, FirstEvent] = {}
    platform_outcome: str | None = None


ExpectedLine = ExpectedExecution | ExpectedStep | ExpectedCall


class ExpectedViews(msgspec.Struct):
    """A reported execution, its steps and calls, and how many events of each kind."""

    execution: ExpectedExecution
    steps: list[ExpectedStep]
    calls: list[ExpectedCall]
    counts: Counter[EventCountKey]
