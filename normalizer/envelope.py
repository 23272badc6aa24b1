"""The canonical event: its fields, and its bytes. A library for producers too."""

from datetime import datetime
from typing import Final

import msgspec

from normalizer.errors import Reason

RULES_VERSION: Final = 1
"""Stored with every row (`normalizer_version`). Raise it whenever a rule changes its answer."""


class Envelope(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One canonical event with its provenance; the fields are the columns of `events`, in order.

    JSON columns (context, result, meta, extra, coercions, headers) are UTF-8 JSON bytes that
    Postgres can hold: a producer's own bytes wherever nothing had to be mended or redacted.
    None is absent. `event_id` is None only for an event without an id and without a place in a log;
    `created_at` only where neither producer, snowflake id nor log gave a time.
    """

    event_id: int | None
    execution_id: int
    event_type: str
    step: str
    status: str
    attempts: int
    max_attempts: int | None
    created_at: datetime | None
    worker_id: str | None
    command_id: str | None
    iteration: int | None
    node_type: str | None
    catalog_id: int | None
    parent_event_id: int | None
    parent_execution_id: int | None
    duration: float | None
    error: str | None
    context: bytes | None
    result: bytes | None
    meta: bytes
    extra: bytes | None
    coercions: bytes | None
    evidence: int
    shape: str
    normalizer_version: int
    source_topic: str | None
    source_generation: int
    source_partition: int
    source_offset: int
    source_index: int
    headers: bytes | None
    trace_id: str | None
    recorded_at: datetime | None


class Rejected(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A record, or one event of a batch, that was refused: goes to quarantine.

    `detail` is our own sentence, never content; `shape` is '' where it could not be told;
    `sqlstate` is set when it was the database that refused.
    """

    reason: Reason
    detail: str
    shape: str = ""
    index: int = 0
    sqlstate: str | None = None


class Ignored(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A record that holds no event and is no mistake: a tombstone, or a batch of none."""

    why: str


Outcome = Envelope | Rejected | Ignored
