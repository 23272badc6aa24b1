"""Recognizes an event's shape, i.e. which producer wrote it, by its top-level keys.

The shape is only stored with the event, for operators. No rule depends on it. This module also
tells wrappers, envelopes, and batches from events by their keys, and the decoder does depend on
that. Source: docs/spec/wire-shapes.md#d1, #d2, #w2, #w4, #w7, #w9.
"""

from collections.abc import Collection, Mapping
from typing import Final, Literal, get_args

from msgspec import Raw

from normalizer.core.decode.wire_values import first_byte

Shape = Literal[
    "python_emit",
    "python_request",
    "python_row",
    "python_legacy",
    "rust_request",
    "rust_row",
    "rust_projector",
    "worker",
    "executor",
    "unknown",
]
"""All shapes. A new one needs a change of the specification (#d2)."""

EventsKey = Literal["events", "records"]

_EVENTS_KEYS: Final[tuple[EventsKey, ...]] = get_args(EventsKey)

SHAPES: Final[tuple[Shape, ...]] = get_args(Shape)

_RUST_REQUEST: Final = frozenset(("result_kind", "result_uri", "event_ids"))
_NOT_WORKER: Final = frozenset(("step", "node_name", "name", "context", "status", "created_at"))
_PYTHON_ROW: Final = frozenset(("event_time", "ingest_time", "stage_id", "frame_id"))
_PYTHON_LEGACY: Final = frozenset(
    (
        *("trace_component", "loop_id", "loop_name", "iterator"),
        *("current_index", "current_item", "items_count"),
    )
)
_PYTHON: Final = _PYTHON_ROW | frozenset(
    (
        *("node_name", "node_id", "node_type", "catalog_id", "parent_event_id"),
        *("parent_execution_id", "duration", "stack_trace", "result", "error", "output_inline"),
        *("output_ref", "output_select", "preview", "payload_data", "correlation"),
        *("trace_component", "timestamp"),
    )
)
_LEGACY_EVENT_TYPES: Final = ("action_", "step_result")
_RUST_FLAGS: Final = frozenset(("actionable", "informative"))
_EXECUTOR: Final = frozenset(("step", "status", "created_at", "context"))


def has_event_type(fields: Collection[str]) -> bool:
    """Return whether a key names the event's type, so that it's neither a wrapper nor a batch.

    For example, workers send `payload` beside `event_type`, and it's a field of the event.
    """
    return "event_type" in fields or "name" in fields


def may_be_foreign_envelope(fields: Collection[str]) -> bool:
    """Return whether these may be the keys of a foreign envelope (#w7, #w9)."""
    return not has_event_type(fields) and (
        "specversion" in fields
        or "op" in fields
        or ("payload" in fields and "schema" in fields)
        or ("payload" in fields and "aggregatetype" in fields and not is_feed_wrapper(fields))
    )


def is_feed_wrapper(fields: Collection[str]) -> bool:
    """Return whether these are the keys of a feed wrapper, if `payload` is an event (#w2)."""
    return (
        "payload" in fields
        and ("global_sequence" in fields or "transaction_id" in fields)
        and not has_event_type(fields)
    )


def holds_event(payload: Mapping[str, object]) -> bool:
    """Return whether an object is an event or a batch, as in a feed wrapper (#w2)."""
    return has_event_type(payload) or find_events_key(payload) is not None


def find_events_key(members: Mapping[str, object]) -> EventsKey | None:
    """Return the key of a batch's events, i.e. the first with a list (#w4), or None."""
    if has_event_type(members):
        return None
    return next((key for key in _EVENTS_KEYS if _is_list(members.get(key))), None)


def _is_list(value: object) -> bool:
    if isinstance(value, Raw):
        return first_byte(value) == b"["
    return isinstance(value, list)


def refine_shape_by_type(shape_from_keys: Shape, event_type: str) -> Shape:
    """Return the shape of an event from the shape of its keys and its type."""
    if shape_from_keys == "python_emit" and event_type.startswith(_LEGACY_EVENT_TYPES):
        return "python_legacy"
    return shape_from_keys


def detect_shape_by_keys(fields: frozenset[str], *, payload_is_object: bool) -> Shape:
    """Return the shape of these keys. A key with null counts as present (#d1)."""
    if "prev_event_id" in fields:
        return "rust_row"
    if not _RUST_REQUEST.isdisjoint(fields):
        return "rust_request"
    if payload_is_object and "event_type" in fields and _NOT_WORKER.isdisjoint(fields):
        return "worker"
    if "timestamp" in fields and "event_id" in fields and "created_at" not in fields:
        return "rust_projector"
    if not _PYTHON.isdisjoint(fields):
        return _python_shape(fields)
    if "name" in fields:
        return "python_request"
    if not _RUST_FLAGS.isdisjoint(fields):
        return "rust_request"
    return "executor" if _EXECUTOR.issubset(fields) else "unknown"


def _python_shape(fields: frozenset[str]) -> Shape:
    if not _PYTHON_ROW.isdisjoint(fields):
        return "python_row"
    return "python_emit" if _PYTHON_LEGACY.isdisjoint(fields) else "python_legacy"
