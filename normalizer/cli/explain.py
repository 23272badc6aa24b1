"""Explains what happened to one record, and by which rules.

It looks up the record in the tables (events, quarantine, gaps). If Kafka still has the record, it
also applies today's rules to it, to show what they'd make of it. The result is text for an
operator, line by line.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

import asyncpg
import msgspec

from normalizer.core.batch import last_record_or_none
from normalizer.core.evidence import Evidence
from normalizer.core.identity.collisions import match_strength, substitute_ids
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.core.record_address import (
    RECORD_ADDRESS_SYNTAX,
    RecordAddress,
    parse_record_address_or_none,
)
from normalizer.envelope import (
    RULES_VERSION,
    Envelope,
    Ignored,
    Normalized,
    Rejected,
    to_canonical,
)
from normalizer.errors import BrokerUnavailableError, ConfigurationError, FatalError
from normalizer.kafka import GrouplessClient, KafkaPartition, find_log_mismatch
from normalizer.store.read_only import read_only_connection

_POSITION: Final = """
    select   incarnation, cluster_id, start_offset, next_offset, last_offset, last_recorded_ms,
             last_crc,
             exists (
                 select from normalizer.source_positions as later
                 where  (later.topic, later.partition) = (position.topic, position.partition)
                 and    later.incarnation > position.incarnation
             ) as is_superseded
    from     normalizer.source_positions as position
    where    topic = $1::text and partition = $2::integer
    and      ($3::integer is null or incarnation = $3::integer)
    order by incarnation desc
    limit    1
"""

_COLUMNS: Final = """
    event_id, execution_id, event_type, step, status, attempts, created_at, command_id, evidence,
    shape, normalizer_version, coercions::text as coercions, source_topic, source_incarnation,
    source_partition, source_offset, source_index, ingested_at
"""

_FIND_EVENTS: Final = f"""
    select   {_COLUMNS}
    from     normalizer.events
    where    source_topic = $1::text and source_incarnation = $2::integer
    and      source_partition = $3::integer and source_offset = $4::bigint
    order by source_index
"""  # noqa: S608 - a constant

_EVENT_BY_ID: Final = f"""
    select {_COLUMNS}
    from   normalizer.events
    where  event_id = $1::bigint
"""  # noqa: S608 - a constant

_REJECTIONS: Final = """
    select   quarantine_id, reason, detail, sqlstate, shape, normalizer_version, source_index,
             redriven_at
    from     normalizer.quarantine
    where    source_topic = $1::text and source_incarnation = $2::integer
    and      source_partition = $3::integer and source_offset = $4::bigint
    order by source_index
"""

_FIND_GAP: Final = """
    select lower(gone) as first_offset, upper(gone) as next_offset, reason
    from   normalizer.gaps
    cross join unnest(missing) as gone
    where  topic = $1::text and incarnation = $2::integer and partition = $3::integer
    and    gone @> $4::bigint
"""

_GAPS: Final = {
    "hole": "the log had no record there (for example a transaction marker, an aborted record, or "
    "compaction)",
    "expired": "Kafka's retention deleted it before it was read",
    "skipped": "an operator skipped it",
}
_ATTEMPTS: Final = (
    "the default, because none was given",
    "a number that counts from 1, minus one",
    "the producer",
)
_STATUS: Final = (
    "the event's name, and no word says otherwise",
    "a status word of the producer",
    "a failure, declared or nested",
)
_CREATED_AT: Final = ("the log's time, or none", "the time inside the event id", "the producer")


def parse_required_record_address(text: str) -> RecordAddress:
    """Parse the coordinates of a record. Raises ConfigurationError."""
    place = parse_record_address_or_none(text)
    if place is None:
        raise ConfigurationError(f"expected {RECORD_ADDRESS_SYNTAX}; got {text!r}")
    return place


async def explain(
    database_url: str,
    log: GrouplessClient | None,
    at: RecordAddress,
    *,
    incarnation: int | None = None,
    normalizer: Normalizer,
) -> list[str]:
    """Return lines that explain what happened to the record.

    Raises StoreUnavailableError and FatalError.
    """
    async with read_only_connection(database_url) as connection:
        position = await connection.fetchrow(_POSITION, at.topic, at.partition, incarnation)
        number = position["incarnation"] if position else incarnation or 0
        record, seen = await _read_from_topic(log, at, position)
        outcomes: tuple[Normalized, ...] = ()
        if record is not None:
            record = msgspec.structs.replace(record, incarnation=number)
            outcomes = normalizer.normalize(record)
        key = (at.topic, number, at.partition, at.offset)
        outcome_lines = await _outcome_lines(connection, key, position, outcomes)
    return [
        f"{at.topic}[{at.partition}]@{at.offset}, incarnation {number}",
        *outcome_lines,
        f"in the log: {seen}",
        *_by_todays_rules(outcomes),
    ]


async def _read_from_topic(
    log: GrouplessClient | None, at: RecordAddress, position: asyncpg.Record | None
) -> tuple[RawRecord | None, str]:
    """Return the record as Kafka has it now, or None, and a sentence about it."""
    if position is None:
        return None, "not read, because the service has no position there to compare it with"
    if log is None:
        return None, "not read, because KAFKA_BOOTSTRAP_SERVERS is not set"
    partition = KafkaPartition(at.topic, at.partition)
    if position["is_superseded"]:
        return None, (
            "not read, because the topic was recreated, and a later incarnation is there now"
        )
    try:
        if partition not in await log.partitions(at.topic):
            return None, "the partition doesn't exist now"
        other_log = await find_log_mismatch(
            log,
            partition,
            (position["cluster_id"], await log.cluster_id()),
            next_offset=position["next_offset"],
            last=last_record_or_none(
                position["last_offset"], position["last_recorded_ms"], position["last_crc"]
            ),
        )
        if other_log:
            return None, f"not read: {other_log.why}"
        bounds = (await log.offset_bounds([partition]))[partition]
        if at.offset >= bounds.end:
            return None, f"not there, because the log ends at {bounds.end}"
        if at.offset < bounds.start:
            return None, f"expired, because the log begins at {bounds.start}"
        record = await log.record_at(partition, at.offset)
    except BrokerUnavailableError as error:
        return None, f"not read: {error}"
    if record is None:
        return None, "no committed record at this offset"
    size = "no value" if record.value is None else f"{record.value_bytes} bytes"
    return record, f"still there: {size}, recorded {_format_time(record.recorded_ms)}"


async def _outcome_lines(
    connection: asyncpg.Connection,
    key: tuple[str, int, int, int],
    position: asyncpg.Record | None,
    outcomes: tuple[Normalized, ...],
) -> list[str]:
    """Describe the record's rows in the tables.

    There may be rows although the service never read the record, because a job stored them.
    """
    topic, _, partition, offset = key
    events = await connection.fetch(_FIND_EVENTS, *key)
    rejections = await connection.fetch(_REJECTIONS, *key)
    lines = [line for event in events for line in _stored(event)]
    lines += [_rejected(rejection) for rejection in rejections]
    if position is None:
        if lines:
            return lines
        raise FatalError(
            f"{topic}[{partition}] was never read into this database. Run `normalizer position "
            "show` to list the partitions that have been read"
        )
    if offset >= position["next_offset"]:
        return lines or [f"not read yet: the position is {position['next_offset']}"]
    if offset < position["start_offset"]:
        return lines or [f"before the first offset that was read: {position['start_offset']}"]
    known = {row["source_index"] for row in (*events, *rejections)}
    for outcome in outcomes:
        if isinstance(outcome, Envelope) and outcome.source_index not in known:
            lines += await _reported_before(connection, outcome)
    if lines:
        return lines
    if gap := await connection.fetchrow(_FIND_GAP, *key):
        between = f"offsets {gap['first_offset']} to {gap['next_offset']}"
        return [f"no record: {between} are a gap: {_GAPS[gap['reason']]}"]
    why = "it was ignored, or it repeated another record's event, or its row was deleted"
    return [f"read, but has no row of its own: {why} (by retention, or by forget)"]


async def _reported_before(connection: asyncpg.Connection, event: Envelope) -> list[str]:
    """Find the row of another record that this record's event was merged into or repeats."""
    assert event.event_id is not None
    ids = [event.event_id, *substitute_ids(event.event_id, event.execution_id)]
    rows = [row for one in ids if (row := await connection.fetchrow(_EVENT_BY_ID, one))]
    best = max(rows, key=lambda row: match_strength(_named(row), event), default=None)
    if best is None or not match_strength(_named(best), event):
        return [f"event {event.source_index} has no row: id {event.event_id} is not stored"]
    return [
        f"event {event.source_index} was reported before: duplicate of, or merged into,",
        *_stored(best),
    ]


def _named(row: asyncpg.Record) -> Envelope:
    """Return the fields that distinguish the row's event from others with the same id."""
    names = ("execution_id", "event_type", "status", "step", "command_id")
    return Envelope(**{name: row[name] for name in names})


def _stored(row: asyncpg.Record) -> Iterator[str]:
    evidence = Evidence.unpack(row["evidence"])
    place = f"{row['source_topic']}[{row['source_partition']}]@{row['source_offset']}"
    yield (
        f"event {row['source_index']} of {place} is stored as {row['event_id']}: "
        f"{row['event_type']} of execution {row['execution_id']}, step {row['step'] or '(none)'}"
    )
    yield f"  shape {row['shape']} (no rule depends on it)"
    yield f"  rules version {row['normalizer_version']}"
    yield f"  attempts {row['attempts']}: from {_ATTEMPTS[evidence.attempts]}"
    yield f"  status {row['status']}: from {_STATUS[evidence.status]}"
    created_at = f"{row['created_at']:%Y-%m-%d %H:%M:%S.%f}Z"
    yield f"  created_at {created_at}: from {_CREATED_AT[evidence.created_at]}"
    if row["coercions"]:
        yield f"  coercions {row['coercions']}"


def _rejected(row: asyncpg.Record) -> str:
    code = f" (SQLSTATE {row['sqlstate']})" if row["sqlstate"] else ""
    was = "was" if row["redriven_at"] else "is"
    return (
        f"event {row['source_index']} {was} in quarantine as entry {row['quarantine_id']}: "
        f"{row['reason']}: {row['detail']}{code}"
    )


def _by_todays_rules(outcomes: Iterable[Normalized]) -> Iterator[str]:
    for outcome in outcomes:
        match outcome:
            case Envelope():
                line = to_canonical(outcome).decode()
                yield f"today's rules (version {RULES_VERSION}) make of it: {line}"
            case Rejected():
                yield f"today's rules reject it: {outcome.reason}: {outcome.detail}"
            case Ignored():
                yield f"today's rules ignore it: {outcome.why}"


def _format_time(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "at no time"
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%S}Z"
