"""Lists every endpoint: its path, and the function that answers it.

The function's docstring is the question that the endpoint answers, and the types of its parameters
and of its result describe the endpoint in the OpenAPI document. To add an endpoint, write such a
function in queries/, and add its path here.
"""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, get_type_hints

import msgspec

from projector.api.answers import ApiAnswer
from projector.api.parameters import Parameters
from projector.api.queries import (
    attempts_matrix,
    call_lists,
    call_rates,
    call_times,
    current_state,
    error_groups,
    event_detail,
    event_rates,
    execution_detail,
    execution_lists,
    filter_choices,
    loops,
    outcome_counts,
    playbook_detail,
    producer_faults,
    quarantine_lists,
    search,
    stuck_executions,
    tiles,
)

API_PATH: Final = "/api/v1"


class Endpoint(msgspec.Struct, frozen=True):
    """A path below API_PATH and its function, which receives {names} in the path as strings.

    `example` holds the parameters of a typical request.
    """

    path: str
    run: Callable[..., Awaitable[ApiAnswer[Any]]]
    example: dict[str, str] = {}

    @property
    def name(self) -> str:
        """Return the name of the function, as in logs and metrics."""
        return self.run.__name__

    @property
    def summary(self) -> str:
        """Return the question that the endpoint answers."""
        return " ".join((inspect.getdoc(self.run) or "").split())

    @property
    def tag(self) -> str:
        """Return the subject of the endpoint."""
        return next(tag for tag, tagged in ENDPOINTS_BY_TAG.items() if self in tagged)

    @property
    def takes_thresholds(self) -> bool:
        """Return whether its function takes the thresholds from the settings."""
        return "thresholds" in inspect.signature(self.run).parameters

    @property
    def parameters_type(self) -> type[Parameters]:
        """Return the type of the parameters."""
        hints = get_type_hints(self.run, include_extras=True)
        kind: type[Parameters] = hints["params"] if "params" in hints else hints["_params"]
        return kind

    @property
    def answer_type(self) -> Any:
        """Return the type of the answer."""
        return get_type_hints(self.run)["return"]


_OVERVIEW: Final = (
    Endpoint("/search", search.search, example={"q": "fetch"}),
    Endpoint("/tiles", tiles.tiles, example={"last": "24h"}),
    Endpoint("/attempts-matrix", attempts_matrix.attempts_matrix, example={"last": "24h"}),
    Endpoint("/attempts-by-status", event_rates.attempts_by_status, example={"by": "attempts"}),
    Endpoint("/choices", filter_choices.choices, example={"last": "7d"}),
)
_EXECUTIONS: Final = (
    Endpoint("/execution-outcomes", outcome_counts.execution_outcomes, example={"every": "hour"}),
    Endpoint("/executions", execution_lists.executions, example={"status": "COMPLETED"}),
    Endpoint("/playbook-versions", playbook_detail.playbook_versions, example={"last": "7d"}),
    Endpoint(
        "/versions-of-playbook",
        playbook_detail.versions_of_playbook,
        example={"playbook": "team1/flow_1"},
    ),
    Endpoint(
        "/errors-by-version",
        playbook_detail.errors_by_version,
        example={"playbook": "team1/flow_1"},
    ),
    Endpoint(
        "/steps-by-version",
        playbook_detail.steps_by_version,
        example={"playbook": "team1/flow_1"},
    ),
    Endpoint("/deployments", playbook_detail.deployments, example={"last": "7d"}),
    Endpoint("/stuck-executions", stuck_executions.stuck_executions),
    Endpoint("/stuck-by-age", stuck_executions.stuck_by_age),
    Endpoint("/stuck-by-reason", stuck_executions.stuck_by_reason),
    Endpoint("/executions-without-end", stuck_executions.executions_without_end),
    Endpoint("/contradicting-executions", execution_lists.contradicting_executions),
    Endpoint("/completed-with-failures", execution_lists.completed_with_failures),
    Endpoint("/executions/{execution_id}", execution_detail.execution),
    Endpoint("/executions/{execution_id}/tree", execution_detail.execution_tree),
    Endpoint("/executions/{execution_id}/calls", execution_detail.execution_calls),
    Endpoint("/executions/{execution_id}/loops", loops.execution_loops),
    Endpoint("/executions/{execution_id}/events", execution_detail.execution_events),
    Endpoint(
        "/executions/{execution_id}/rejected-records", execution_detail.execution_rejected_records
    ),
    Endpoint("/executions/{execution_id}/events/{event_id}", event_detail.execution_event),
)
_CALLS: Final = (
    Endpoint("/calls", call_lists.calls, example={"failed": "true", "attempts": "0"}),
    Endpoint("/open-calls", call_lists.open_calls, example={"waits_for": "claim"}),
    Endpoint("/open-calls-by-step", call_lists.open_calls_by_step),
    Endpoint("/open-loops", loops.open_loops, example={"last": "7d"}),
    Endpoint("/calls-without-command", producer_faults.calls_without_command),
    Endpoint("/call-outcomes-by-attempt", call_rates.call_outcomes_by_attempt),
    Endpoint("/call-durations-by-attempt", call_times.call_durations_by_attempt),
    Endpoint("/call-queue-waits", call_times.call_queue_waits, example={"by": "step"}),
)
_RETRIES: Final = (
    Endpoint("/error-rate-by-attempt", call_rates.error_rate_by_attempt),
    Endpoint("/first-attempt-success", call_rates.first_attempt_success),
    Endpoint("/retry-recovery", call_rates.retry_recovery),
    Endpoint("/retry-exhaustion", call_rates.retry_exhaustion),
    Endpoint("/attempts-per-success", call_rates.attempts_per_success),
    Endpoint("/retry-backoffs", call_times.retry_backoffs, example={"by": "step"}),
    Endpoint("/retries-by-minute", event_rates.retries_by_minute, example={"last": "2h"}),
    Endpoint("/retry-storms", current_state.retry_storms),
)
_ERRORS: Final = (
    Endpoint("/error-groups", error_groups.error_groups, example={"last": "1h"}),
    Endpoint("/error-group", error_groups.error_group, example={"error_class": "HTTP 500"}),
    Endpoint("/failures-by-error", call_rates.failures_by_error, example={"by": "error_class"}),
    Endpoint("/worker-failures", call_rates.worker_failures, example={"last": "24h"}),
)
_LOG: Final = (
    Endpoint("/freshness", current_state.freshness),
    Endpoint("/events-per-second", event_rates.events_per_second, example={"last": "2h"}),
    Endpoint("/gaps", current_state.gaps, example={"last": "30d"}),
    Endpoint("/quarantine-by-reason", quarantine_lists.quarantine_by_reason),
    Endpoint("/quarantine-records", quarantine_lists.quarantine_records, example={"last": "7d"}),
    Endpoint("/quarantine-records/{quarantine_id}", quarantine_lists.quarantine_record),
    Endpoint("/coercions-by-rule", event_rates.coercions_by_rule),
    Endpoint("/defaults-by-shape", event_rates.defaults_by_shape),
    Endpoint("/drift", producer_faults.drift, example={"last": "30d"}),
    Endpoint("/late-arrivals", event_rates.late_arrivals),
    Endpoint("/agreement", current_state.agreement),
    Endpoint("/jobs", current_state.jobs),
)
ENDPOINTS_BY_TAG: Final = {
    "overview": _OVERVIEW,
    "executions": _EXECUTIONS,
    "calls": _CALLS,
    "retries": _RETRIES,
    "errors": _ERRORS,
    "log and quarantine": _LOG,
}
"""The endpoints by subject."""

ENDPOINTS: Final = tuple(endpoint for tagged in ENDPOINTS_BY_TAG.values() for endpoint in tagged)
