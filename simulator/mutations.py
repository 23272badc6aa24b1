"""A sound telling in, the same telling with one odd thing about it out.

Each oddity is one rule of docs/spec/wire-shapes.md, and changes what is
written and what it says together. One that does not fit a telling leaves it alone.
"""

from collections.abc import Callable
from typing import Any, Final

from simulator import ids, status_words, time_formats
from simulator.payloads import REDACTED
from simulator.rendering import (
    FROM_PRODUCER,
    ONE_BASED,
    RenderChoices,
    RenderedEvent,
    ReportedFields,
)

Mutation = Callable[[RenderedEvent], None]

_NO_TIMES: Final[tuple[Any, ...]] = ("soon", "2025-13-01T00:00:00Z", "1999-12-31", -1, {}, True)


def mutate(rendered: RenderedEvent, choices: RenderChoices) -> None:
    """Do one odd thing, if it fits."""
    choices.pick(MUTATIONS)(rendered)


def other_name(rendered: RenderedEvent) -> None:
    """#a1: both names of the event, differing: event_type wins."""
    body, reported = rendered.body, rendered.reported
    if "event_type" in body and "name" not in body:
        body["name"] = "step.guessed"
        _dropped(reported, "name", "step.guessed")
        _named(reported)


def same_name(rendered: RenderedEvent) -> None:
    """#a1: both names of the event, equal: a matter of spelling."""
    body, reported = rendered.body, rendered.reported
    if "event_type" in body and "name" not in body:
        body["name"] = body["event_type"]
        _named(reported)


def other_step(rendered: RenderedEvent) -> None:
    """#a2: step and node_name differ: step wins."""
    body, reported = rendered.body, rendered.reported
    if "node_name" in body and "step" not in body and reported.step:
        body["step"] = body["node_name"]
        body["node_name"] = "guessed"
        _dropped(reported, "node_name", "guessed")


def other_payload(rendered: RenderedEvent) -> None:
    """Both names of the context, differing: context wins."""
    body, reported = rendered.body, rendered.reported
    if body.get("context") is not None and "payload" not in body:
        body["payload"] = {"guessed": 1}
        _dropped(reported, "payload", {"guessed": 1})


def null_context(rendered: RenderedEvent) -> None:
    """#a1: one name of the context is there with null: the other one wins."""
    body = rendered.body
    if body.get("context") is not None and "payload" not in body:
        body["payload"] = body["context"]
        body["context"] = None


def other_time(rendered: RenderedEvent) -> None:
    """#a2: two names of the time, differing: created_at wins."""
    body, reported = rendered.body, rendered.reported
    if _is_emit(rendered) and "created_at" in body and "duration" not in body:
        later = time_formats.micros_z(rendered.fact.at_us + 61_000_000)[0]
        body["event_time"] = later
        _dropped(reported, "event_time", later)


def unreadable_time(rendered: RenderedEvent) -> None:
    """A time that nobody can read is as if absent: the next name counts."""
    body, reported = rendered.body, rendered.reported
    if _is_emit(rendered) and "created_at" in body and "duration" not in body:
        body["created_at"] = _one_of(rendered, *_NO_TIMES)
        body["event_time"], reported.created_us = time_formats.micros_z(rendered.fact.at_us)
        _coerced(reported, "created_at_unreadable")


def bare_date(rendered: RenderedEvent) -> None:
    """A date alone is its midnight."""
    body, reported = rendered.body, rendered.reported
    if _is_emit(rendered) and reported.created_rank == FROM_PRODUCER and rendered.fact.call is None:
        text = str(time_formats.micros_z(rendered.fact.at_us)[0])[:10]
        body["created_at"] = text
        reported.created_us = rendered.fact.at_us // time_formats.DAY_US * time_formats.DAY_US


def bad_catalog(rendered: RenderedEvent) -> None:
    """#i4: a secondary id that is none is absent."""
    body, reported = rendered.body, rendered.reported
    if reported.catalog_id is not None and "catalog_id" in body:
        body["catalog_id"] = _one_of(rendered, -5, 1.5, [1], {"id": 1}, True)
        reported.catalog_id = None
        _coerced(reported, "invalid_secondary_id")


def opaque_catalog(rendered: RenderedEvent) -> None:
    """#i4: an opaque secondary id is hashed like an execution's."""
    body, reported = rendered.body, rendered.reported
    if reported.catalog_id is not None and "catalog_id" in body:
        body["catalog_id"] = f"cat-{rendered.fact.number}"
        reported.catalog_id = ids.opaque(f"cat-{rendered.fact.number}")
        _coerced(reported, "opaque_id")


def opaque_parent(rendered: RenderedEvent) -> None:
    """The same for the event that caused it."""
    body, reported = rendered.body, rendered.reported
    if reported.parent_event_id is not None and "parent_event_id" in body:
        body["parent_event_id"] = f"evt-{rendered.fact.number}"
        reported.parent_event_id = ids.opaque(f"evt-{rendered.fact.number}")
        _coerced(reported, "opaque_id")


def meta_no_object(rendered: RenderedEvent) -> None:
    """#n2: meta that is no object goes to extra."""
    body, reported = rendered.body, rendered.reported
    if rendered.fact.call is None and not reported.attempts_rank:
        body["meta"] = _one_of(rendered, "a note", [1, 2], 7)
        reported.meta, reported.extra = {}, reported.extra | {"meta": body["meta"]}
        _coerced(reported, "meta_not_object")


def number_as_step(rendered: RenderedEvent) -> None:
    """#p1: a number is its text."""
    body, reported = rendered.body, rendered.reported
    if rendered.fact.kind.startswith("subscription.") and "step" in body:
        body["step"], reported.step = 7, "7"


def status_no_text(rendered: RenderedEvent) -> None:
    """#s5: a status that is no string is absent, and kept."""
    body, reported = rendered.body, rendered.reported
    if (
        "status" in body
        or rendered.fact.kind == "call.done"
        or reported.shape in ("worker", "executor")
    ):
        return
    body["status"] = _one_of(rendered, 7, ["OK"], {"code": 0}, False)
    reported.extra = reported.extra | {"status": body["status"]}
    _coerced(reported, "status_not_text")


def unknown_outcome(rendered: RenderedEvent) -> None:
    """#s5: a word that means nothing on a call.done: what lies inside is asked."""
    body, reported = rendered.body, rendered.reported
    if rendered.fact.kind == "call.done" and reported.shape == "executor":
        body["status"] = "HANDED_BACK"
        reported.rules = tuple(rule for rule in reported.rules if rule != "status_overruled")
        _coerced(reported, "status_unmapped")


def negative_duration(rendered: RenderedEvent) -> None:
    """#u1: less than no time is no time."""
    body, reported = rendered.body, rendered.reported
    if _is_emit(rendered) and "duration" in body:
        body["duration"] = -1.5
        reported.duration = None
        _coerced(reported, "duration_invalid")


def no_worker(rendered: RenderedEvent) -> None:
    """#k1: an empty worker is none."""
    if rendered.fact.worker is None and rendered.reported.shape not in ("worker", "rust_row"):
        rendered.body["worker_id"] = ""


def number_as_worker(rendered: RenderedEvent) -> None:
    """#k1: a number is its text."""
    if rendered.fact.worker is None and rendered.reported.shape not in ("worker", "rust_row"):
        rendered.body["worker_id"], rendered.reported.worker_id = 17, "17"


def status_in_result(rendered: RenderedEvent) -> None:
    """#s3: neither the top nor the context has a status, the result has."""
    body, reported, fact = rendered.body, rendered.reported, rendered.fact
    choices = status_words.NESTED_WORDS.get((fact.kind, fact.outcome))
    if _is_emit(rendered) and "status" not in body and "result" not in body and choices:
        word = _one_of(rendered, *choices)
        body["result"] = reported.result = {"status": word.word}
        reported.status, reported.status_rank = word.means, word.rank


def error_in_result(rendered: RenderedEvent) -> None:
    """#x2: the error lies in the result."""
    body, reported, fact = rendered.body, rendered.reported, rendered.fact
    if _is_emit(rendered) and "error" in body and body.get("result") and fact.error is not None:
        del body["error"]
        body["result"] = body["result"] | {"error": fact.error[0]}
        reported.result = reported.result | {"error": fact.error[1]}


def duration_in_result(rendered: RenderedEvent) -> None:
    """#u1: the duration lies in the result, in milliseconds."""
    body, reported, fact = rendered.body, rendered.reported, rendered.fact
    if (
        _is_emit(rendered)
        and "duration" in body
        and "result" in body.get("result", {}).get("context", {})
    ):
        del body["duration"]
        for result in {id(one): one for one in (body["result"], reported.result)}.values():
            result["context"]["result"]["duration_ms"] = fact.duration_ms


def error_object(rendered: RenderedEvent) -> None:
    """#x2: an error without a message is its own JSON."""
    body, reported = rendered.body, rendered.reported
    if _is_emit(rendered) and "error" in body:
        body["error"] = {"kind": "tool", "code": 7}
        reported.error = '{"code":7,"kind":"tool"}'


def leading_zero(rendered: RenderedEvent) -> None:
    """#i1: leading zeros of an id mean nothing."""
    text = str(rendered.reported.event_id)
    if "event_id" in rendered.body and rendered.reported.event_id is not None and len(text) < 19:
        rendered.body["event_id"] = f"0{text}"


def unknown_keys(rendered: RenderedEvent) -> None:
    """Keys that nobody knows, some of which look like attempts: kept."""
    if rendered.reported.shape == "worker":
        return
    kept = {"x_region": {"zone": 3}, "outbox_attempts": 9, "http_retries": 4}
    rendered.body.update(kept)
    rendered.reported.extra = rendered.reported.extra | kept


def secret_keys(rendered: RenderedEvent) -> None:
    """Secrets outside of the context: at the top, and in meta."""
    body, reported = rendered.body, rendered.reported
    if reported.shape == "worker":
        return
    body |= {"session_token": "st-778899", "author": "jane"}
    reported.extra = reported.extra | {"session_token": REDACTED, "author": "jane"}
    if isinstance(body.get("meta"), dict):
        body["meta"] = body["meta"] | {"webhookSecret": ["a", "b"], "total_tokens": 7}
        reported.meta = reported.meta | {"webhookSecret": REDACTED, "total_tokens": 7}


def outputs(rendered: RenderedEvent) -> None:
    """What an emit request may carry besides: kept."""
    if not _is_emit(rendered):
        return
    kept: dict[str, Any] = {
        "output_inline": {"rows": 3},
        "output_ref": "noetl://execution/1/output/2",
        "output_select": ["rows"],
        "preview": {"first": [1, 2]},
        "payload_data": {"inputs": {"city": "Bonn"}, "actionable": False},
        "actionable": False,
        "informative": True,
    }
    rendered.body.update(kept)
    rendered.reported.extra = rendered.reported.extra | kept


def nested_command(rendered: RenderedEvent) -> None:
    """#k2: the command's id lies in the result inside the payload, or in its context."""
    body, reported = rendered.body, rendered.reported
    name = "context" if "context" in body else "payload"
    if rendered.fact.kind != "call.done" or reported.shape != "rust_request":
        return
    for payload in {id(one): one for one in (body[name], reported.context)}.values():
        result = payload["result"]
        target = _one_of(rendered, result, result["context"])
        target["command_id"] = payload.pop("command_id")


def command_in_result(rendered: RenderedEvent) -> None:
    """#k2: the command's id lies in the result beside the context."""
    body, reported = rendered.body, rendered.reported
    if _is_emit(rendered) and reported.command_id is not None and body.get("result"):
        command = body["context"].pop("command_id")
        body["result"] = body["result"] | {"command_id": command}
        reported.result = reported.result | {"command_id": command}


def zero_tries(rendered: RenderedEvent) -> None:
    """#n1: a zero where tries are counted from 1 is a first try."""
    meta, reported = rendered.body.get("meta"), rendered.reported
    if isinstance(meta, dict) and meta.get("attempt") == 1 and reported.attempts_rank == ONE_BASED:
        meta["attempt"] = reported.meta["attempt"] = 0


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
    outputs,
    nested_command,
    command_in_result,
    zero_tries,
)


def _one_of(rendered: RenderedEvent, *values: Any) -> Any:
    return values[rendered.fact.number % len(values)]


def _is_emit(rendered: RenderedEvent) -> bool:
    """An emit request: a Python body that is no stored row."""
    return (
        rendered.reported.shape == "python"
        and "node_id" in rendered.body
        and "frame_id" not in rendered.body
    )


def _named(reported: ReportedFields) -> None:
    """`name` makes a Python request of what nothing else marks."""
    if reported.shape in ("worker", "executor", ""):
        reported.shape = "python_request"


def _dropped(reported: ReportedFields, name: str, value: object) -> None:
    reported.extra = reported.extra | {name: value}
    _coerced(reported, "alias_conflict")


def _coerced(reported: ReportedFields, rule: str) -> None:
    if rule not in reported.rules:
        reported.rules = (*reported.rules, rule)
