"""Changes a correct report in one way that real producers do, such as a status in lower case.

Each change tests a rule of docs/spec/wire-shapes.md. It edits the body of the report, and also the
fields that a reader must get from the report, so that the expected result stays right. A change
that doesn't fit a report leaves it as it is.
"""

from collections.abc import Callable
from typing import Any, Final

from simulator import ids, time_formats
from simulator.content_mutations import (
    add_output_keys,
    choose_one,
    command_in_result,
    duration_in_result,
    error_in_result,
    error_object,
    is_emit,
    mark_as_request,
    meta_no_object,
    negative_duration,
    nested_command,
    no_worker,
    note_coercion,
    note_dropped,
    number_as_step,
    number_as_worker,
    secret_keys,
    status_in_result,
    status_no_text,
    unknown_keys,
    unknown_outcome,
    zero_tries,
)
from simulator.rendering import (
    FROM_PRODUCER,
    RenderChoices,
    RenderedEvent,
)

Mutation = Callable[[RenderedEvent], None]

_NO_TIMES: Final[tuple[Any, ...]] = ("soon", "2025-13-01T00:00:00Z", "1999-12-31", -1, {}, True)


def mutate(rendered: RenderedEvent, choices: RenderChoices) -> None:
    """Add one oddity, if it fits."""
    choices.pick(MUTATIONS)(rendered)


def other_name(rendered: RenderedEvent) -> None:
    """#a1: both names of the event, differing: event_type wins."""
    body, reported = rendered.body, rendered.reported
    if "event_type" in body and "name" not in body:
        body["name"] = "step.guessed"
        note_dropped(reported, "name", "step.guessed")
        mark_as_request(reported)


def same_name(rendered: RenderedEvent) -> None:
    """#a1: both names of the event, equal: a matter of spelling."""
    body, reported = rendered.body, rendered.reported
    if "event_type" in body and "name" not in body:
        body["name"] = body["event_type"]
        mark_as_request(reported)


def other_step(rendered: RenderedEvent) -> None:
    """#a2: step and node_name differ: step wins."""
    body, reported = rendered.body, rendered.reported
    if "node_name" in body and "step" not in body and reported.step:
        body["step"] = body["node_name"]
        body["node_name"] = "guessed"
        note_dropped(reported, "node_name", "guessed")


def other_payload(rendered: RenderedEvent) -> None:
    """Both names of the context, differing: context wins."""
    body, reported = rendered.body, rendered.reported
    if body.get("context") is not None and "payload" not in body:
        body["payload"] = {"guessed": 1}
        note_dropped(reported, "payload", {"guessed": 1})


def null_context(rendered: RenderedEvent) -> None:
    """#a1: one name of the context is there with null: the other one wins."""
    body = rendered.body
    if body.get("context") is not None and "payload" not in body:
        body["payload"] = body["context"]
        body["context"] = None


def other_time(rendered: RenderedEvent) -> None:
    """#a2: two names of the time, differing: created_at wins."""
    body, reported = rendered.body, rendered.reported
    if is_emit(rendered) and "created_at" in body and "duration" not in body:
        later = time_formats.micros_z(rendered.fact.at_us + 61_000_000)[0]
        body["event_time"] = later
        note_dropped(reported, "event_time", later)


def unreadable_time(rendered: RenderedEvent) -> None:
    """A time that nobody can read counts as absent: the next name counts."""
    body, reported = rendered.body, rendered.reported
    if is_emit(rendered) and "created_at" in body and "duration" not in body:
        body["created_at"] = choose_one(rendered, *_NO_TIMES)
        body["event_time"], reported.created_us = time_formats.micros_z(rendered.fact.at_us)
        note_coercion(reported, "created_at_unreadable")


def bare_date(rendered: RenderedEvent) -> None:
    """A date without a time is its midnight."""
    body, reported = rendered.body, rendered.reported
    if is_emit(rendered) and reported.created_rank == FROM_PRODUCER and rendered.fact.call is None:
        text = str(time_formats.micros_z(rendered.fact.at_us)[0])[:10]
        body["created_at"] = text
        reported.created_us = rendered.fact.at_us // time_formats.DAY_US * time_formats.DAY_US


def bad_catalog(rendered: RenderedEvent) -> None:
    """#i4: a secondary id that can't be an id is read as none."""
    body, reported = rendered.body, rendered.reported
    if reported.catalog_id is not None and "catalog_id" in body:
        body["catalog_id"] = choose_one(rendered, -5, 1.5, [1], {"id": 1}, True)
        reported.catalog_id = None
        note_coercion(reported, "invalid_secondary_id")


def opaque_catalog(rendered: RenderedEvent) -> None:
    """#i4: an opaque secondary id is hashed like an execution's."""
    body, reported = rendered.body, rendered.reported
    if reported.catalog_id is not None and "catalog_id" in body:
        body["catalog_id"] = f"cat-{rendered.fact.number}"
        reported.catalog_id = ids.hash_opaque_id(f"cat-{rendered.fact.number}")
        note_coercion(reported, "opaque_id")


def opaque_parent(rendered: RenderedEvent) -> None:
    """The same for the id of the parent event."""
    body, reported = rendered.body, rendered.reported
    if reported.parent_event_id is not None and "parent_event_id" in body:
        body["parent_event_id"] = f"evt-{rendered.fact.number}"
        reported.parent_event_id = ids.hash_opaque_id(f"evt-{rendered.fact.number}")
        note_coercion(reported, "opaque_id")


def leading_zero(rendered: RenderedEvent) -> None:
    """#i1: leading zeros of an id mean nothing."""
    text = str(rendered.reported.event_id)
    if "event_id" in rendered.body and rendered.reported.event_id is not None and len(text) < 19:
        rendered.body["event_id"] = f"0{text}"


MUTATIONS: Final[tuple[Mutation, ...]] = (
    other_name,
    same_name,
    other_step,
    other_payload,
    null_context,
    other_time,
    unreadable_time,
    bare_date,
    bad_catalog,
    opaque_catalog,
    opaque_parent,
    meta_no_object,
    number_as_step,
    status_no_text,
    unknown_outcome,
    negative_duration,
    no_worker,
    number_as_worker,
    status_in_result,
    error_in_result,
    duration_in_result,
    error_object,
    leading_zero,
    unknown_keys,
    secret_keys,
    add_output_keys,
    nested_command,
    command_in_result,
    zero_tries,
)
