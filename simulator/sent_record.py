"""One record as it is sent, and the expected outcome of each event in it."""

from typing import Any, Literal

import msgspec

from simulator.rendering import ReportedFields


class SentEvent(msgspec.Struct, frozen=True):
    """One event in a record. Reports of one event have the same `number`.

    `number` is the number of the fact if the report carries the fact's id, else it is below zero
    and unique. `fact` 0: nothing on the platform, as in the poison. `shares_id`: the platform gave
    another event the same id before.
    """

    number: int
    fact: int
    reported: ReportedFields
    shares_id: bool = False


class MustReject(msgspec.Struct, frozen=True):
    """A record, or one item of a batch, that must be quarantined, and why."""

    reason: str


class MustIgnore(msgspec.Struct, frozen=True):
    """A record without an event that is no mistake: a tombstone, an empty batch."""

    why: Literal["tombstone", "empty_batch"]


SentOutcome = SentEvent | MustReject | MustIgnore


class SentRecord(msgspec.Struct, kw_only=True):
    """A record to send, and the expected outcome of each event, in order.

    `copy_of_earlier`: the same bytes were sent before, at another offset. `kept_headers`: the
    headers as they may be kept (a list where a name occurs twice), and `trace_id` the trace they
    name.
    """

    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    outcomes: list[SentOutcome]
    headers: list[tuple[str, bytes]] = []
    partition: int = -1
    copy_of_earlier: bool = False
    kept_headers: dict[str, Any] = {}
    trace_id: str | None = None
