"""A sound telling in, the same telling with one odd thing about it out.

Each oddity is one row of wire-shapes, section 9 (or one sentence of section 4), and changes what is
written and what it says together. One that does not fit a telling leaves it alone.
"""

from collections.abc import Callable
from typing import Any, Final

from simulator import ids, times, words
from simulator.contents import REDACTED
from simulator.telling import FROM_PRODUCER, ONE_BASED, Pen, Says, Telling

Oddity = Callable[[Telling], None]

_NO_TIMES: Final[tuple[Any, ...]] = ("soon", "2025-13-01T00:00:00Z", "1999-12-31", -1, {}, True)


def make_odd(told: Telling, pen: Pen) -> None:
    """Do one odd thing, if it fits."""
    pen.pick(ODDITIES)(told)


def other_name(told: Telling) -> None:
    """A1: both names of the event, differing: event_type wins."""
    body, says = told.body, told.says
    if "event_type" in body and "name" not in body:
        body["name"] = "step.guessed"
        _lost(says, "name", "step.guessed")
        _named(says)


def same_name(told: Telling) -> None:
    """A1: both names of the event, equal: a matter of spelling."""
    body, says = told.body, told.says
    if "event_type" in body and "name" not in body:
        body["name"] = body["event_type"]
        _named(says)


def other_step(told: Telling) -> None:
    """A2: step and node_name differ: step wins."""
    body, says = told.body, told.says
    if "node_name" in body and "step" not in body and says.step:
        body["step"] = body["node_name"]
        body["node_name"] = "guessed"
        _lost(says, "node_name", "guessed")


def other_payload(told: Telling) -> None:
    """Both names of the context, differing: context wins."""
    body, says = told.body, told.says
    if body.get("context") is not None and "payload" not in body:
        body["payload"] = {"guessed": 1}
        _lost(says, "payload", {"guessed": 1})


def null_context(told: Telling) -> None:
    """A1: one name of the context is there with null: the other one wins."""
    body = told.body
    if body.get("context") is not None and "payload" not in body:
        body["payload"] = body["context"]
        body["context"] = None


def other_time(told: Telling) -> None:
    """A2: two names of the time, differing: created_at wins."""
    body, says = told.body, told.says
    if _is_emit(told) and "created_at" in body and "duration" not in body:
        later = times.micros_z(told.fact.at_us + 61_000_000)[0]
        body["event_time"] = later
        _lost(says, "event_time", later)


def unreadable_time(told: Telling) -> None:
    """A time that nobody can read is as if absent: the next name counts."""
    body, says = told.body, told.says
    if _is_emit(told) and "created_at" in body and "duration" not in body:
        body["created_at"] = _one_of(told, *_NO_TIMES)
        body["event_time"], says.created_us = times.micros_z(told.fact.at_us)
        _coerced(says, "created_at_unreadable")


def bare_date(told: Telling) -> None:
    """A date alone is its midnight."""
    body, says = told.body, told.says
    if _is_emit(told) and says.created_rank == FROM_PRODUCER and told.fact.call is None:
        text = str(times.micros_z(told.fact.at_us)[0])[:10]
        body["created_at"] = text
        says.created_us = told.fact.at_us // times.DAY_US * times.DAY_US


def bad_catalog(told: Telling) -> None:
    """I4: a secondary id that is none is absent."""
    body, says = told.body, told.says
    if says.catalog_id is not None and "catalog_id" in body:
        body["catalog_id"] = _one_of(told, -5, 1.5, [1], {"id": 1}, True)
        says.catalog_id = None
        _coerced(says, "invalid_secondary_id")


def opaque_catalog(told: Telling) -> None:
    """I4: an opaque secondary id is hashed like an execution's."""
    body, says = told.body, told.says
    if says.catalog_id is not None and "catalog_id" in body:
        body["catalog_id"] = f"cat-{told.fact.number}"
        says.catalog_id = ids.opaque(f"cat-{told.fact.number}")
        _coerced(says, "opaque_id")


def opaque_parent(told: Telling) -> None:
    """The same for the event that caused it."""
    body, says = told.body, told.says
    if says.parent_event_id is not None and "parent_event_id" in body:
        body["parent_event_id"] = f"evt-{told.fact.number}"
        says.parent_event_id = ids.opaque(f"evt-{told.fact.number}")
        _coerced(says, "opaque_id")


def meta_no_object(told: Telling) -> None:
    """N2: meta that is no object goes to extra."""
    body, says = told.body, told.says
    if told.fact.call is None and not says.attempts_rank:
        body["meta"] = _one_of(told, "a note", [1, 2], 7)
        says.meta, says.extra = {}, says.extra | {"meta": body["meta"]}
        _coerced(says, "meta_not_object")


def number_as_step(told: Telling) -> None:
    """P1: a number is its text."""
    body, says = told.body, told.says
    if told.fact.kind.startswith("subscription.") and "step" in body:
        body["step"], says.step = 7, "7"


def status_no_text(told: Telling) -> None:
    """S5: a status that is no string is absent, and kept."""
    body, says = told.body, told.says
    if "status" in body or told.fact.kind == "call.done" or says.shape in ("worker", "executor"):
        return
    body["status"] = _one_of(told, 7, ["OK"], {"code": 0}, False)
    says.extra = says.extra | {"status": body["status"]}
    _coerced(says, "status_not_text")


def unknown_outcome(told: Telling) -> None:
    """S5: a word that means nothing on a call.done: what lies inside is asked."""
    body, says = told.body, told.says
    if told.fact.kind == "call.done" and says.shape == "executor":
        body["status"] = "HANDED_BACK"
        says.rules = tuple(rule for rule in says.rules if rule != "status_overruled")
        _coerced(says, "status_unmapped")


def negative_duration(told: Telling) -> None:
    """U1: less than no time is no time."""
    body, says = told.body, told.says
    if _is_emit(told) and "duration" in body:
        body["duration"] = -1.5
        says.duration = None
        _coerced(says, "duration_invalid")


def no_worker(told: Telling) -> None:
    """K1: an empty worker is none."""
    if told.fact.worker is None and told.says.shape not in ("worker", "rust_row"):
        told.body["worker_id"] = ""


def number_as_worker(told: Telling) -> None:
    """K1: a number is its text."""
    if told.fact.worker is None and told.says.shape not in ("worker", "rust_row"):
        told.body["worker_id"], told.says.worker_id = 17, "17"


def status_in_result(told: Telling) -> None:
    """S3: neither the top nor the context has a status, the result has."""
    body, says, fact = told.body, told.says, told.fact
    choices = words.NESTED_WORDS.get((fact.kind, fact.outcome))
    if _is_emit(told) and "status" not in body and "result" not in body and choices:
        said = _one_of(told, *choices)
        body["result"] = says.result = {"status": said.word}
        says.status, says.status_rank = said.means, said.rank


def error_in_result(told: Telling) -> None:
    """X2: the error lies in the result."""
    body, says, fact = told.body, told.says, told.fact
    if _is_emit(told) and "error" in body and body.get("result") and fact.error is not None:
        del body["error"]
        body["result"] = body["result"] | {"error": fact.error[0]}
        says.result = says.result | {"error": fact.error[1]}


def duration_in_result(told: Telling) -> None:
    """U1: the duration lies in the result, in milliseconds."""
    body, says, fact = told.body, told.says, told.fact
    if (
        _is_emit(told)
        and "duration" in body
        and "result" in body.get("result", {}).get("context", {})
    ):
        del body["duration"]
        for result in {id(one): one for one in (body["result"], says.result)}.values():
            result["context"]["result"]["duration_ms"] = fact.duration_ms


def error_object(told: Telling) -> None:
    """X2: an error without a message is its own JSON."""
    body, says = told.body, told.says
    if _is_emit(told) and "error" in body:
        body["error"] = {"kind": "tool", "code": 7}
        says.error = '{"code":7,"kind":"tool"}'


def leading_zero(told: Telling) -> None:
    """I1: leading zeros of an id mean nothing."""
    text = str(told.says.event_id)
    if "event_id" in told.body and told.says.event_id is not None and len(text) < 19:
        told.body["event_id"] = f"0{text}"


def unknown_keys(told: Telling) -> None:
    """Keys that nobody knows, some of which look like attempts: kept."""
    if told.says.shape == "worker":
        return
    kept = {"x_region": {"zone": 3}, "outbox_attempts": 9, "http_retries": 4}
    told.body.update(kept)
    told.says.extra = told.says.extra | kept


def secret_keys(told: Telling) -> None:
    """Secrets outside of the context: at the top, and in meta."""
    body, says = told.body, told.says
    if says.shape == "worker":
        return
    body |= {"session_token": "st-778899", "author": "jane"}
    says.extra = says.extra | {"session_token": REDACTED, "author": "jane"}
    if isinstance(body.get("meta"), dict):
        body["meta"] = body["meta"] | {"webhookSecret": ["a", "b"], "total_tokens": 7}
        says.meta = says.meta | {"webhookSecret": REDACTED, "total_tokens": 7}


def outputs(told: Telling) -> None:
    """What an emit request may carry besides: kept."""
    if not _is_emit(told):
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
    told.body.update(kept)
    told.says.extra = told.says.extra | kept


def nested_command(told: Telling) -> None:
    """K2: the command's id lies in the result inside the payload, or in its context."""
    body, says = told.body, told.says
    name = "context" if "context" in body else "payload"
    if told.fact.kind != "call.done" or says.shape != "rust_request":
        return
    for payload in {id(one): one for one in (body[name], says.context)}.values():
        result = payload["result"]
        place = _one_of(told, result, result["context"])
        place["command_id"] = payload.pop("command_id")


def command_in_result(told: Telling) -> None:
    """K2: the command's id lies in the result beside the context."""
    body, says = told.body, told.says
    if _is_emit(told) and says.command_id is not None and body.get("result"):
        command = body["context"].pop("command_id")
        body["result"] = body["result"] | {"command_id": command}
        says.result = says.result | {"command_id": command}


def zero_tries(told: Telling) -> None:
    """N1: a zero where tries are counted from 1 is a first try."""
    meta, says = told.body.get("meta"), told.says
    if isinstance(meta, dict) and meta.get("attempt") == 1 and says.attempts_rank == ONE_BASED:
        meta["attempt"] = says.meta["attempt"] = 0


ODDITIES: Final[tuple[Oddity, ...]] = (
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


def _one_of(told: Telling, *values: Any) -> Any:
    return values[told.fact.number % len(values)]


def _is_emit(told: Telling) -> bool:
    """An emit request: a Python body that is no stored row."""
    return told.says.shape == "python" and "node_id" in told.body and "frame_id" not in told.body


def _named(says: Says) -> None:
    """`name` makes a Python request of what nothing else marks."""
    if says.shape in ("worker", "executor", ""):
        says.shape = "python_request"


def _lost(says: Says, name: str, value: object) -> None:
    says.extra = says.extra | {name: value}
    _coerced(says, "alias_conflict")


def _coerced(says: Says, rule: str) -> None:
    if rule not in says.rules:
        says.rules = (*says.rules, rule)
