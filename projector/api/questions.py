"""Every question that can be asked, by its path."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, get_type_hints

import msgspec

from projector.api.answers import Answer
from projector.api.parameters import Parameters
from projector.api.queries import (
    calls,
    events,
    execution,
    executions,
    outcomes,
    refusals,
    standing,
    stuck,
    times,
    tries,
)

ROOT: Final = "/api/v1"


class Question(msgspec.Struct, frozen=True):
    """A path below ROOT and the function that answers it; {names} in the path go to it as texts."""

    path: str
    ask: Callable[..., Awaitable[Answer[Any]]]

    @property
    def name(self) -> str:
        """The function's name: what logs and metrics call the question."""
        return self.ask.__name__

    @property
    def asks(self) -> str:
        """The question in words."""
        return " ".join((inspect.getdoc(self.ask) or "").split())

    @property
    def parameters(self) -> type[Parameters]:
        """The type of what can be asked."""
        hints = get_type_hints(self.ask, include_extras=True)
        kind: type[Parameters] = hints["asked"] if "asked" in hints else hints["_asked"]
        return kind

    @property
    def answer(self) -> Any:
        """The type of the answer."""
        return get_type_hints(self.ask)["return"]


QUESTIONS: Final = (
    Question("/execution-outcomes", outcomes.execution_outcomes),
    Question("/call-outcomes-by-attempt", calls.call_outcomes_by_attempt),
    Question("/error-rate-by-attempt", calls.error_rate_by_attempt),
    Question("/first-attempt-success", calls.first_attempt_success),
    Question("/retry-recovery", calls.retry_recovery),
    Question("/retry-exhaustion", calls.retry_exhaustion),
    Question("/attempts-per-success", calls.attempts_per_success),
    Question("/call-durations-by-attempt", times.call_durations_by_attempt),
    Question("/call-queue-waits", times.call_queue_waits),
    Question("/retry-backoffs", times.retry_backoffs),
    Question("/failures-by-error", calls.failures_by_error),
    Question("/error-groups", calls.error_groups),
    Question("/worker-failures", calls.worker_failures),
    Question("/retries-by-minute", events.retries_by_minute),
    Question("/retry-storms", standing.retry_storms),
    Question("/events-per-second", events.events_per_second),
    Question("/attempts-by-status", events.attempts_by_status),
    Question("/quarantine-by-reason", refusals.quarantine_by_reason),
    Question("/quarantine-records", refusals.quarantine_records),
    Question("/coercions-by-rule", events.coercions_by_rule),
    Question("/defaults-by-shape", events.defaults_by_shape),
    Question("/late-arrivals", events.late_arrivals),
    Question("/gaps", events.gaps),
    Question("/freshness", standing.freshness),
    Question("/agreement", standing.agreement),
    Question("/jobs", standing.jobs),
    Question("/choices", events.choices),
    Question("/executions", executions.executions),
    Question("/stuck-executions", stuck.stuck_executions),
    Question("/stuck-by-age", stuck.stuck_by_age),
    Question("/executions-without-end", stuck.executions_without_end),
    Question("/contradicting-executions", executions.contradicting_executions),
    Question("/completed-with-failures", executions.completed_with_failures),
    Question("/calls", tries.calls),
    Question("/open-calls", tries.open_calls),
    Question("/executions/{execution_id}", execution.execution),
    Question("/executions/{execution_id}/calls", execution.execution_calls),
    Question("/executions/{execution_id}/events", execution.execution_events),
    Question("/executions/{execution_id}/events/{event_id}", execution.execution_event),
)
