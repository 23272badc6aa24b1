"""Builds the JSON Schema of a canonical line, i.e. of a canonical event as JSON."""

from typing import Final

from normalizer.envelope import CALL_DONE_EVENT_TYPES, CALL_OUTCOMES, MAX_ATTEMPTS, MAX_ID


def json_schema() -> dict[str, object]:
    """Return the JSON Schema (draft 2020-12) of a canonical line."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Canonical event",
        "description": "One event of a workflow, in the same form from every producer: the nine "
        "fields of noetl-events 0.1 ExecutorEvent, then extensions where they are known.",
        "type": "object",
        "properties": _PROPERTIES,
        "required": [*_REQUIRED],
        "additionalProperties": False,
        "if": {
            "properties": {"event_type": {"enum": [*CALL_DONE_EVENT_TYPES]}},
            "required": ["event_type"],
        },
        "then": {"properties": {"status": {"enum": [*CALL_OUTCOMES]}}},
    }


_DIGITS: Final = "It doesn't fit a double, so read it as a 64-bit integer."
_ID: Final = {"type": "integer", "minimum": 1, "maximum": MAX_ID, "description": _DIGITS}
_WORD: Final = {"type": "string", "minLength": 1}
_PROPERTIES: Final[dict[str, object]] = {
    "event_id": _ID
    | {
        "description": f"{_DIGITS} Missing only in the filter's lines, where an event has no "
        "coordinates in a log."
    },
    "execution_id": _ID,
    "event_type": _WORD | {"description": "The normalizer rejects more than 200 bytes of UTF-8."},
    "step": {
        "type": "string",
        "not": {"const": "unknown"},
        "description": "At most 1,000 bytes. '' if the producer gave none.",
    },
    "status": _WORD | {"description": "At most 100 bytes."},
    "created_at": {
        "type": "string",
        "format": "date-time",
        "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$",
        "description": "UTC. Missing only in the filter's lines, where nobody gave a time.",
    },
    "context": {
        "description": "What the producer sent as context or payload: any JSON of at most 126 "
        "levels, with numbers below 1e308. The same limits hold for every value here."
    },
    "worker_id": {
        "type": ["string", "null"],
        "minLength": 1,
        "description": "At most 1,000 bytes.",
    },
    "meta": {
        "type": "object",
        "properties": {
            "attempts": {
                "type": "integer",
                "minimum": 0,
                "maximum": MAX_ATTEMPTS,
                "description": "How many retries came before this try. 0 is the first try.",
            }
        },
        "required": ["attempts"],
    },
    "command_id": _WORD | {"description": "At most 1,000 bytes."},
    "catalog_id": _ID,
    "node_type": _WORD,
    "parent_event_id": _ID,
    "parent_execution_id": _ID,
    "result": {
        "not": {"type": "null"},
        "description": "Any JSON, if the shape has a separate result.",
    },
    "error": _WORD,
    "duration": {"type": "number", "minimum": 0, "description": "Seconds."},
}
_REQUIRED: Final = (
    "execution_id",
    "event_type",
    "step",
    "status",
    "context",
    "worker_id",
    "meta",
)
