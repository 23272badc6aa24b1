"""The fields in which a producer may report which attempt of a call an event is about.

Producers count differently. `meta.attempts` and `retry_count` are numbers of retries, so the first
attempt is 0. In all other fields the first attempt is 1. Source: docs/spec/wire-shapes.md#n1, #n3.
"""

from typing import Any, Final, Literal, NamedTuple

from simulator.rendering import EXPLICIT, ONE_BASED, ReportedFields


class AttemptField(NamedTuple):
    """One field. `path` is inside the body, its meta, or its payload. Most count from 1."""

    inside: Literal["body", "meta", "payload"]
    path: tuple[str, ...]
    rank: int = ONE_BASED
    as_text: bool = False


META_ATTEMPTS: Final = AttemptField("meta", ("attempts",), EXPLICIT)
META_TEXT: Final = AttemptField("meta", ("attempts",), EXPLICIT, as_text=True)
META_ATTEMPT: Final = AttemptField("meta", ("attempt",))
CORRELATION: Final = AttemptField("body", ("correlation", "attempt"))
META_CORRELATION: Final = AttemptField("meta", ("correlation", "attempt"), as_text=True)
PAYLOAD: Final = AttemptField("payload", ("attempt",))
RETRY: Final = AttemptField("payload", ("retry", "attempt"))
QUEUE: Final = AttemptField("meta", ("queue_meta", "attempts"))
ATTEMPT_NUMBER: Final = AttemptField("body", ("attempt_number",))
META_RETRY: Final = AttemptField("meta", ("retry", "attempt_number"))
DATA: Final = AttemptField("payload", ("data", "attempt_number"))
TOP: Final = AttemptField("body", ("attempt",))
RETRY_COUNT: Final = AttemptField("body", ("retry_count",), EXPLICIT)

EMIT_FIELDS: Final = (
    META_ATTEMPTS,
    META_TEXT,
    META_ATTEMPT,
    CORRELATION,
    META_CORRELATION,
    PAYLOAD,
    QUEUE,
    ATTEMPT_NUMBER,
    META_RETRY,
    DATA,
    TOP,
    RETRY_COUNT,
)
"""The fields of an emit request."""

REQUEST_FIELDS: Final = (META_TEXT, META_ATTEMPT, META_CORRELATION, PAYLOAD, RETRY, QUEUE)
"""The fields of a request or a batch item, which has few keys of its own."""


def write_attempts(
    way: AttemptField,
    attempts: int,
    reported: ReportedFields,
    *,
    body: dict[str, Any],
    meta: dict[str, Any],
    payloads: tuple[dict[str, Any], ...],
) -> None:
    """Write `attempts` into the field `way`, and its rank into `reported`."""
    value: int | str = attempts + (way.rank == ONE_BASED)
    if way.as_text:
        value = str(value)
    for target in {"body": (body,), "meta": (meta,), "payload": payloads}[way.inside]:
        inner = target
        for key in way.path[:-1]:
            inner = inner.setdefault(key, {})
        inner[way.path[-1]] = value
    reported.attempts, reported.attempts_rank = attempts, way.rank
