"""Strategies: raw events of every shape, with sense and with junk in every field."""

import json
from typing import Any, Final

from hypothesis import strategies as st

from normalizer.core.raw_record import RawRecord

RECORDED_MS: Final = 1_784_000_000_000
"""2026-07-14T03:33:20Z."""


class Lexeme:
    """A number that is written as it says."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def as_json(value: Any) -> bytes:
    """JSON with numbers as they are, and lone surrogates and U+0000 as escapes."""
    if isinstance(value, Lexeme):
        return value.text.encode()
    if isinstance(value, dict):
        members = (as_json(key) + b":" + as_json(item) for key, item in value.items())
        return b"{" + b",".join(members) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(as_json, value)) + b"]"
    return json.dumps(value).encode()


numbers = st.one_of(
    st.integers(-5, 40_000),
    st.integers(-(2**70), 2**70),
    st.sampled_from(
        ["1.0", "2e0", "0.5", "-0", "-0.0", "1e2", "1.50e1", "1e-7", "12e-1", "0e3", "1e307"]
    ).map(Lexeme),
    st.decimals(-(10**12), 10**12, allow_nan=False, places=9).map(lambda d: Lexeme(f"{d:f}")),
)
texts = st.one_of(
    st.text(max_size=8),
    st.text('\0\ud800\udfff\ufffdab \\"/é', max_size=6),
    st.sampled_from(["", "0", "7", "007", "1.5", "unknown", "a:b", "9" * 19, "9" * 25]),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
keys = st.one_of(
    st.sampled_from(
        [
            *("status", "result", "context", "error", "message", "command_id", "step", "worker_id"),
            *("duration_ms", "attempt", "attempts", "retry", "response", "terminal_state", "x", ""),
            *("queue_meta", "correlation", "max_attempts", "worker", "id", "reference", "ref", "a"),
            *("parent_execution_id", "child_execution_id"),
        ]
    ),
    st.text("a\0\ud800\ufffd.[]", max_size=3),
)
words = st.sampled_from(
    [
        *("completed", "COMPLETED", "success", "ok", "noop", "failed", "FAILED", "failed_x"),
        *("error", "timeout", "timed-out", "cancelled", "Canceled", "running", "STARTED", "queued"),
        *("initiated", "UNKNOWN", "unknown", "skipped", "PAUSED", "my word", "Straße", "", "enter"),
    ]
)
times = st.one_of(
    st.datetimes().map(lambda time: time.isoformat()),
    st.sampled_from(
        [
            *("2026-07-10T09:00:00.040482913Z", "2026-07-10 09:00:00+00:00", "2026-07-10"),
            *("2026-07-10t09:00z", "2026-07-10T11:00:00+0200", "1783674000", "1783674000000"),
            *("1999-12-31T23:59:59Z", "2026-02-30", "soon", "", "2026-07-10T09:00:00.000000Z"),
            *(1783674000, 1783674000123, Lexeme("1783674000.1234567"), Lexeme("1783674000e3")),
        ]
    ),
)
ids = st.one_of(
    st.integers(1, 2**63 - 1),
    st.integers(1, 2**63 - 1).map(str),
    st.sampled_from([333895119835287552, "333895119835287552", "cli-local-1", 0, -4, "0", ""]),
    st.sampled_from([2**63, str(2**63), "01HZX", " 5", "-5", None]),
)


OUTCOMES: Final = ("status", "terminal_state", "result", "context", "response")
outcomes = st.recursive(
    words, lambda inner: st.dictionaries(st.sampled_from(OUTCOMES), inner, min_size=1), max_leaves=4
)
"""Outcome words at places where they count."""


def nested(depth: int = 3) -> st.SearchStrategy[Any]:
    """JSON whose keys are those that rules look for."""
    inner = scalars if depth == 0 else nested(depth - 1)
    return st.one_of(
        scalars,
        words,
        st.dictionaries(keys, st.one_of(inner, words), max_size=4),
        st.lists(inner, max_size=3),
    )


trees = nested()
objects = st.one_of(
    outcomes.filter(lambda tree: isinstance(tree, dict)),
    st.dictionaries(keys, st.one_of(trees, words, st.integers(0, 5)), max_size=5),
)
names = st.one_of(
    st.sampled_from(
        [
            *("call.done", "action_done", "step.enter", "step.exit", "command.completed", "x"),
            *("command.issued", "call.error", "playbook_cancelled", "step.skipped", "odd/Name"),
            *("playbook.started", "execution_start"),
        ]
    ),
    st.text(min_size=1, max_size=8),
)


def mostly(sense: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The sensible value, now and then null or any junk."""
    return st.integers(0, 7).flatmap(lambda way: {6: st.none(), 7: trees}.get(way, sense))


FIELDS: Final[dict[str, st.SearchStrategy[Any]]] = {
    "event_id": st.one_of(ids, st.none()),
    "step": mostly(texts),
    "node_name": mostly(texts),
    "status": mostly(words),
    "created_at": mostly(times),
    "timestamp": mostly(times),
    "event_time": mostly(times),
    "ingest_time": mostly(times),
    "context": mostly(objects),
    "payload": mostly(objects),
    "worker_id": mostly(texts),
    "meta": mostly(objects),
    "command_id": mostly(
        st.one_of(texts, st.sampled_from(["1:a:2", "1:a:b:2:i3", "7"]), st.integers(1, 2**62))
    ),
    "catalog_id": mostly(ids),
    "node_type": mostly(texts),
    "parent_event_id": mostly(ids),
    "parent_execution_id": mostly(ids),
    "result": mostly(objects),
    "error": mostly(st.one_of(texts, objects)),
    "duration": mostly(numbers),
    "max_attempts": mostly(st.integers(0, 5)),
    "attempt_number": mostly(numbers),
    "retry_count": mostly(numbers),
    "correlation": mostly(objects),
    "trace_component": mostly(
        st.fixed_dictionaries({"worker": st.fixed_dictionaries({"id": texts})})
    ),
    "prev_event_id": mostly(ids),
    "actionable": mostly(st.booleans()),
    "result_kind": mostly(st.just("data")),
    "event_ids": mostly(st.lists(ids, max_size=2)),
    "node_id": mostly(texts),
    "name": mostly(names),
    "report": trees,
    "wrapper.foo": trees,
    "a.b": trees,
    "conflicting_values": trees,
}


COMMON: Final = ("status", "context", "payload", "meta", "result", "created_at", "duration")


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    """The fields of one event that is not rejected for its ids or its name."""
    common = draw(st.sets(st.sampled_from(COMMON)))
    chosen = sorted(common | draw(st.sets(st.sampled_from(sorted(FIELDS)), max_size=5)))
    event = {
        "execution_id": draw(
            st.one_of(st.integers(1, 2**63 - 1), st.sampled_from(["cli-local-1", "0042", 2**64]))
        ),
        "event_type": draw(names),
        **{name: draw(FIELDS[name]) for name in chosen},
    }
    if isinstance(event.get("name"), str) and event["name"] and draw(st.booleans()):
        event["event_type"] = None
    return event


headers = st.lists(
    st.tuples(
        st.one_of(st.text(max_size=4), st.sampled_from(["traceparent", "a\0", "password", "x"])),
        st.one_of(
            st.none(),
            st.binary(max_size=4),
            st.sampled_from(
                [b"base64:/w==", b"base64:/x==", b"base64:YQ==", b"a\0b", b"00-" + b"1" * 32]
            ),
            st.just(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ),
    ),
    max_size=3,
).map(tuple)


@st.composite
def records(draw: st.DrawFn) -> RawRecord:
    """A record of one event or a batch of them, plain, doubly encoded, or in a feed wrapper."""
    event = draw(events())
    if draw(st.integers(0, 5)) == 0:
        items = draw(st.lists(st.one_of(events(), trees), max_size=3))
        shared = {
            name: value for name, value in event.items() if name not in {"event_type", "name"}
        }
        event = {**shared, "events": items}
    value = as_json(event)
    match draw(st.integers(0, 7)):
        case 0:
            value = as_json(value.decode())
        case 1:
            wrapper = draw(st.dictionaries(st.sampled_from(sorted(FIELDS)), trees, max_size=3))
            for name in ("event_type", "name", "payload"):
                wrapper.pop(name, None)
            value = as_json({"global_sequence": 4, **wrapper, "payload": value.decode()})
        case 2:
            value = b"\xef\xbb\xbf" + value
        case _:
            pass
    topic = draw(st.sampled_from(["noetl.events", "noetl.events", "noetl.events", None]))
    return RawRecord(
        value=value,
        topic=topic,
        incarnation=draw(st.integers(0, 2)),
        partition=draw(st.integers(0, 3)),
        offset=draw(st.integers(0, 2**40)),
        headers=draw(headers),
        recorded_ms=draw(st.sampled_from([RECORDED_MS] * 5 + [None])) if topic else None,
    )
