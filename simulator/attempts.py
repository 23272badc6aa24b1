"""The places in which a producer may say how many retries came before.

Source: wire-shapes, section 4, attempts: `meta.attempts` and `retry_count` count retries, all
other places count tries.
"""

from typing import Any, Final, Literal, NamedTuple

from simulator.telling import EXPLICIT, ONE_BASED, Says


class Way(NamedTuple):
    """One place; `path` inside the body, its meta or its payload. Most count from 1."""

    inside: Literal["body", "meta", "payload"]
    path: tuple[str, ...]
    rank: int = ONE_BASED
    as_text: bool = False


META: Final = Way("meta", ("attempts",), EXPLICIT)
META_TEXT: Final = Way("meta", ("attempts",), EXPLICIT, as_text=True)
META_ATTEMPT: Final = Way("meta", ("attempt",))
CORRELATION: Final = Way("body", ("correlation", "attempt"))
META_CORRELATION: Final = Way("meta", ("correlation", "attempt"), as_text=True)
PAYLOAD: Final = Way("payload", ("attempt",))
RETRY: Final = Way("payload", ("retry", "attempt"))
QUEUE: Final = Way("meta", ("queue_meta", "attempts"))
NUMBER: Final = Way("body", ("attempt_number",))
RETRY_COUNT: Final = Way("body", ("retry_count",), EXPLICIT)

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


def tell(
    way: Way,
    attempts: int,
    says: Says,
    *,
    body: dict[str, Any],
    meta: dict[str, Any],
    payloads: tuple[dict[str, Any], ...],
) -> None:
    """Write `attempts` where `way` says, and what it proves into `says`."""
    value: int | str = attempts + (way.rank == ONE_BASED)
    if way.as_text:
        value = str(value)
    for target in {"body": (body,), "meta": (meta,), "payload": payloads}[way.inside]:
        inner = target
        for key in way.path[:-1]:
            inner = inner.setdefault(key, {})
        inner[way.path[-1]] = value
    says.attempts, says.attempts_rank = attempts, way.rank
