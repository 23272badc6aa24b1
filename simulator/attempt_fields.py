"""The places in which a producer may say how many retries came before.

Source: docs/spec/wire-shapes.md#n1, #n3: `meta.attempts` and `retry_count` count retries, all
other places count tries.
"""

from typing import Any, Final, Literal, NamedTuple

from simulator.rendering import EXPLICIT, ONE_BASED, ReportedFields


class AttemptField(NamedTuple):
    """One place; `path` inside the body, its meta or its payload. Most count from 1."""

    inside: Literal["body", "meta", "payload"]
    path: tuple[str, ...]
    rank: int = ONE_BASED
    as_text: bool = False


META: Final = AttemptField("meta", ("attempts",), EXPLICIT)
META_TEXT: Final = AttemptField("meta", ("attempts",), EXPLICIT, as_text=True)
META_ATTEMPT: Final = AttemptField("meta", ("attempt",))
CORRELATION: Final = AttemptField("body", ("correlation", "attempt"))
META_CORRELATION: Final = AttemptField("meta", ("correlation", "attempt"), as_text=True)
PAYLOAD: Final = AttemptField("payload", ("attempt",))
RETRY: Final = AttemptField("payload", ("retry", "attempt"))
QUEUE: Final = AttemptField("meta", ("queue_meta", "attempts"))
NUMBER: Final = AttemptField("body", ("attempt_number",))
RETRY_COUNT: Final = AttemptField("body", ("retry_count",), EXPLICIT)

EVERYWHERE: Final = (
    META,
    META_TEXT,
    META_ATTEMPT,
    CORRELATION,
    META_CORRELATION,
    PAYLOAD,
    QUEUE,
    NUMBER,
    RETRY_COUNT,
)
"""Where an emit request says it."""

INSIDE: Final = (META_TEXT, META_ATTEMPT, META_CORRELATION, PAYLOAD, RETRY, QUEUE)
"""Where a request or a batch item says it, whose own keys are few."""


def write_attempts(
    way: AttemptField,
    attempts: int,
    reported: ReportedFields,
    *,
    body: dict[str, Any],
    meta: dict[str, Any],
    payloads: tuple[dict[str, Any], ...],
) -> None:
    """Write `attempts` where `way` says, and what it proves into `reported`."""
    value: int | str = attempts + (way.rank == ONE_BASED)
    if way.as_text:
        value = str(value)
    for target in {"body": (body,), "meta": (meta,), "payload": payloads}[way.inside]:
        inner = target
        for key in way.path[:-1]:
            inner = inner.setdefault(key, {})
        inner[way.path[-1]] = value
    reported.attempts, reported.attempts_rank = attempts, way.rank
