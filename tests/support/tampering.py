"""For each projection a statement that makes it wrong, behind the back of triggers."""

from typing import Final

TAMPERING: Final[dict[str, str]] = {
    "event_minutes": "update projector.event_minutes set events = events + 1",
    "event_hours": "update projector.event_hours set events = events + 1",
    "arrival_hours": "delete from projector.arrival_hours",
    "coercion_hours": "update projector.coercion_hours set coercions = 7",
    "execution_facts": "update projector.execution_facts set failed_at = null",
    "call_facts": "update projector.call_facts set finished_at = finished_at + interval '1 s'",
    "execution_hours": "delete from projector.execution_hours where outcome <> 'BEGUN'",
    "call_hours": "update projector.call_hours set exhausted = exhausted + 1",
    "call_times": "update projector.call_times set calls = calls + 1",
    "worker_hours": "update projector.worker_hours set duration_us = 1",
    "error_hours": "update projector.error_hours set attempts = attempts + 100",
    "retry_minutes": "delete from projector.retry_minutes",
}
