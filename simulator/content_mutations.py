"""Oddities in the contents of a report: meta, status, error, duration, worker, command."""

from typing import Any

from simulator import status_words
from simulator.payloads import REDACTED
from simulator.rendering import (
    ONE_BASED,
    RenderedEvent,
    ReportedFields,
)


def meta_no_object(rendered: RenderedEvent) -> None:
    """#n2: meta that isn't an object goes to extra."""
    body, reported = rendered.body, rendered.reported
    if rendered.fact.call is None and not reported.attempts_rank:
        body["meta"] = choose_one(rendered, "a note", [1, 2], 7)
        reported.meta, reported.extra = {}, reported.extra | {"meta": body["meta"]}
        note_coercion(reported, "meta_not_object")


def number_as_step(rendered: RenderedEvent) -> None:
    """#p1: a step that is a number is read as its text."""
    body, reported = rendered.body, rendered.reported
    if rendered.fact.kind.startswith("subscription.") and "step" in body:
        body["step"], reported.step = 7, "7"


def status_no_text(rendered: RenderedEvent) -> None:
    """#s5: a status that isn't a string is read as none, and kept in extra."""
    body, reported = rendered.body, rendered.reported
    if (
        "status" in body
        or rendered.fact.kind == "call.done"
        or reported.shape in ("worker", "executor")
    ):
        return
    body["status"] = choose_one(rendered, 7, ["OK"], {"code": 0}, False)
    reported.extra = reported.extra | {"status": body["status"]}
    note_coercion(reported, "status_not_text")


def unknown_outcome(rendered: RenderedEvent) -> None:
    """#s5: a word that means nothing on a call.done: the nested status counts."""
    body, reported = rendered.body, rendered.reported
    if rendered.fact.kind == "call.done" and reported.shape == "executor":
        body["status"] = "HANDED_BACK"
        reported.rules = tuple(rule for rule in reported.rules if rule != "status_overruled")
        note_coercion(reported, "status_unmapped")


def negative_duration(rendered: RenderedEvent) -> None:
    """#u1: a negative duration is read as none."""
    body, reported = rendered.body, rendered.reported
    if is_emit(rendered) and "duration" in body:
        body["duration"] = -1.5
        reported.duration = None
        note_coercion(reported, "duration_invalid")


def no_worker(rendered: RenderedEvent) -> None:
    """#k1: an empty worker is read as none."""
    if rendered.fact.worker is None and rendered.reported.shape not in ("worker", "rust_row"):
        rendered.body["worker_id"] = ""


def number_as_worker(rendered: RenderedEvent) -> None:
    """#k1: a worker that is a number is read as its text."""
    if rendered.fact.worker is None and rendered.reported.shape not in ("worker", "rust_row"):
        rendered.body["worker_id"], rendered.reported.worker_id = 17, "17"


def status_in_result(rendered: RenderedEvent) -> None:
    """#s3: neither the top nor the context has a status, the result has."""
    body, reported, fact = rendered.body, rendered.reported, rendered.fact
    choices = status_words.NESTED_WORDS.get((fact.kind, fact.outcome))
    if is_emit(rendered) and "status" not in body and "result" not in body and choices:
        word = choose_one(rendered, *choices)
        body["result"] = reported.result = {"status": word.word}
        reported.status, reported.status_rank = word.means, word.rank


def error_in_result(rendered: RenderedEvent) -> None:
    """#x2: the error lies in the result."""
    body, reported, fact = rendered.body, rendered.reported, rendered.fact
    if is_emit(rendered) and "error" in body and body.get("result") and fact.error is not None:
        del body["error"]
        body["result"] = body["result"] | {"error": fact.error[0]}
        reported.result = reported.result | {"error": fact.error[1]}


def duration_in_result(rendered: RenderedEvent) -> None:
    """#u1: the duration lies in the result, in milliseconds."""
    body, reported, fact = rendered.body, rendered.reported, rendered.fact
    if (
        is_emit(rendered)
        and "duration" in body
        and "result" in body.get("result", {}).get("context", {})
    ):
        del body["duration"]
        for result in {id(one): one for one in (body["result"], reported.result)}.values():
            result["context"]["result"]["duration_ms"] = fact.duration_ms


def error_object(rendered: RenderedEvent) -> None:
    """#x2: an error without a message is its own JSON."""
    body, reported = rendered.body, rendered.reported
    if is_emit(rendered) and "error" in body:
        body["error"] = {"kind": "tool", "code": 7}
        reported.error = '{"code":7,"kind":"tool"}'


def unknown_keys(rendered: RenderedEvent) -> None:
    """Unknown keys, some of which look like attempts: a reader keeps them in extra."""
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


def add_output_keys(rendered: RenderedEvent) -> None:
    """Additional keys of an emit request, which a reader keeps in extra."""
    if not is_emit(rendered):
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
        target = choose_one(rendered, result, result["context"])
        target["command_id"] = payload.pop("command_id")


def command_in_result(rendered: RenderedEvent) -> None:
    """#k2: the command's id is in the result, next to the context."""
    body, reported = rendered.body, rendered.reported
    if is_emit(rendered) and reported.command_id is not None and body.get("result"):
        command = body["context"].pop("command_id")
        body["result"] = body["result"] | {"command_id": command}
        reported.result = reported.result | {"command_id": command}


def zero_tries(rendered: RenderedEvent) -> None:
    """#n1: a 0 in a field that counts tries from 1 means the first try."""
    meta, reported = rendered.body.get("meta"), rendered.reported
    if isinstance(meta, dict) and meta.get("attempt") == 1 and reported.attempts_rank == ONE_BASED:
        meta["attempt"] = reported.meta["attempt"] = 0


def choose_one(rendered: RenderedEvent, *values: Any) -> Any:
    """One of the values, by the number of the fact."""
    return values[rendered.fact.number % len(values)]


def is_emit(rendered: RenderedEvent) -> bool:
    """An emit request: a Python body that is no stored row."""
    return (
        rendered.reported.shape == "python"
        and "node_id" in rendered.body
        and "frame_id" not in rendered.body
    )


def mark_as_request(reported: ReportedFields) -> None:
    """`name` identifies a Python request that nothing else identifies."""
    if reported.shape in ("worker", "executor", "unknown"):
        reported.shape = "python_request"


def note_dropped(reported: ReportedFields, name: str, value: object) -> None:
    """Note that the value of an alias goes to extra, as a conflict."""
    reported.extra = reported.extra | {name: value}
    note_coercion(reported, "alias_conflict")


def note_coercion(reported: ReportedFields, rule: str) -> None:
    """Note a coercion by the rule."""
    if rule not in reported.rules:
        reported.rules = (*reported.rules, rule)
