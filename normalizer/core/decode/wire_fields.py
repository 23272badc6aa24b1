"""Every field that a producer may send and a rule reads, by name."""

from typing import Final

import msgspec
from msgspec import Raw

from normalizer.core.decode.wire_values import ABSENT, Value

FIELD_ALIASES: Final = (
    ("event_type", "name"),
    ("step", "node_name"),
    ("context", "payload"),
    ("created_at", "timestamp", "event_time", "ingest_time"),
)
"""Names of the same field, the strongest first. Source: docs/spec/wire-shapes.md#a1, #a2."""

CANONICAL_NAME_BY_ALIAS: Final = {alias: names[0] for names in FIELD_ALIASES for alias in names}

KEYS_WITH_COLUMN: Final = frozenset(
    (
        *CANONICAL_NAME_BY_ALIAS,
        *("event_id", "execution_id", "status", "worker_id", "meta", "command_id"),
        *("catalog_id", "node_type", "parent_event_id", "parent_execution_id"),
        *("result", "error", "duration"),
    )
)
"""The keys that become columns.

Any other key is stored in `extra` as it was sent, even if a rule reads it (#v1)."""


class NestedFields(msgspec.Struct, frozen=True, gc=False):
    """Every field that a rule reads inside a payload, a meta, or a result."""

    attempt: Value = None
    attempt_number: Value = None
    attempts: Value = None
    child_execution_id: Raw = ABSENT
    command_id: Value = None
    context: Raw = ABSENT
    correlation: Raw = ABSENT
    data: Raw = ABSENT
    duration_ms: Value = None
    error: Raw = ABSENT
    id: Value = None
    max_attempts: Value = None
    message: Value = None
    parent_execution_id: Value = None
    queue_meta: Raw = ABSENT
    response: Raw = ABSENT
    result: Raw = ABSENT
    retry: Raw = ABSENT
    status: Value = None
    step: Value = None
    terminal_state: Value = None
    worker: Raw = ABSENT
    worker_id: Value = None


class SentFields(msgspec.Struct, frozen=True, gc=False):
    """Every top-level field that a rule reads.

    None means that the field is absent or null. For a field that rules read as an object, None can
    also mean that another type was sent. A field of type Raw has the bytes that were sent, or is
    ABSENT.
    """

    attempt: Value = None
    attempt_number: Value = None
    catalog_id: Value = None
    command_id: Value = None
    context: NestedFields | None = None
    correlation: Raw = ABSENT
    created_at: Value = None
    duration: Value = None
    error: Raw = ABSENT
    event_id: Value = None
    event_time: Value = None
    event_type: Value = None
    execution_id: Value = None
    ingest_time: Value = None
    max_attempts: Value = None
    meta: NestedFields | None = None
    name: Value = None
    node_name: Value = None
    node_type: Value = None
    parent_event_id: Value = None
    parent_execution_id: Value = None
    payload: NestedFields | None = None
    result: NestedFields | None = None
    retry_count: Value = None
    status: Value = None
    step: Value = None
    timestamp: Value = None
    trace_component: Raw = ABSENT
    worker_id: Value = None


READ_FIELDS: Final = frozenset(SentFields.__struct_fields__)

EMPTY_NESTED_FIELDS: Final = NestedFields()


class NestedObjects(msgspec.Struct, frozen=True, gc=False):
    """The nested objects in which rules look for an outcome, an error, a duration, or a command.

    The names are paths, so payload_result_context is payload.result.context. `payload` itself is
    the event's context, or its payload if it has no context. In the stored row of a Rust server,
    the payload is in result.context (#s6). That's `stored_payload`, and the objects in it have the
    same names as those in `payload`. `deep` is True if any object besides the payload was decoded,
    which is rare.
    """

    payload: NestedFields
    payload_result: NestedFields = EMPTY_NESTED_FIELDS
    payload_result_context: NestedFields = EMPTY_NESTED_FIELDS
    payload_response: NestedFields = EMPTY_NESTED_FIELDS
    result: NestedFields = EMPTY_NESTED_FIELDS
    stored_payload: NestedFields = EMPTY_NESTED_FIELDS
    stored_payload_result: NestedFields = EMPTY_NESTED_FIELDS
    stored_payload_result_context: NestedFields = EMPTY_NESTED_FIELDS
    stored_payload_response: NestedFields = EMPTY_NESTED_FIELDS
    deep: bool = False


NO_NESTED_OBJECTS: Final = NestedObjects(EMPTY_NESTED_FIELDS)


def canonical_path(path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the path with the strongest name of its field: `context.error` for `payload.error`."""
    return (CANONICAL_NAME_BY_ALIAS.get(path[0], path[0]), *path[1:])
