"""A record that the simulator sends, with the expected outcome of each event in it."""

from typing import Any, Literal

import msgspec

from simulator.rendering import ReportedFields


class SentEvent(msgspec.Struct, frozen=True):
    """An event in a record that is sent.

    `number` tells which reports are of one event. If a report carries the id of its fact, its
    number is that of the fact, so all such reports count as one event. Any other report is a
    separate event with a negative number. `fact` is 0 if the event reports nothing that happened,
    for example in a record that must be rejected. `shares_id` is true if the platform gave this id
    to an earlier event too.
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
    """A record to send, with the expected outcome of each of its events, in order.

    `copy_of_earlier` is true if the same bytes were sent before, at another offset. `kept_headers`
    has the `headers` that the normalizer may store, and a name that occurs more than once has a
    list of values. `trace_id` is the trace id in these headers.
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
