"""What the log holds against what the tables hold: every record accounted for exactly once."""

from collections.abc import Collection, Mapping
from functools import reduce
from typing import Any, Final

import asyncpg
import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from normalizer.core.identity.coordinates import Coordinates, required_event_id, source_coordinates
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Envelope, Rejected
from tests.support.merging import merge
from tests.support.stack import Topic
from tests.support.table_rows import assert_ledger_holds, canonical, stored_events
from tests.support.waiting import until

_WHERE: Final = (
    *("source_topic", "source_incarnation", "source_partition", "source_offset", "source_index"),
)


async def log_ends(topic: Topic, bootstrap_servers: str) -> dict[int, int]:
    """The end of each partition."""
    async with _consumer(bootstrap_servers) as consumer:
        ends = await consumer.end_offsets(_partitions(topic))
    return {one.partition: end for one, end in ends.items()}


async def until_read(
    connection: asyncpg.Connection, ends: Mapping[int, int], *, deadline_s: float = 60.0
) -> None:
    """Until every partition is read to its end."""
    await until(lambda: read_so_far(connection), is_so=lambda at: at == ends, deadline_s=deadline_s)


async def read_so_far(connection: asyncpg.Connection) -> dict[int, int]:
    """The position of each partition."""
    rows = await connection.fetch(
        "select partition, next_offset from normalizer.source_positions order by partition"
    )
    return {row["partition"]: row["next_offset"] for row in rows}


async def assert_every_record_is_accounted_for(
    connection: asyncpg.Connection,
    topic: Topic,
    bootstrap_servers: str,
    *,
    acknowledged: Collection[tuple[int, int]] = (),
    rejected: Collection[tuple[int, int]] = (),
) -> None:
    """The log and the tables agree. The database rejected these (partition, offset).

    Every record that was acknowledged to the producer is in the log. Each event is a row merged of
    its reports, each rejection is in quarantine, nothing else is there, and the ledger balances.
    """
    log = await _read(topic, bootstrap_servers)
    places = {(record.partition, record.offset) for record in log}
    assert set(acknowledged) <= places, "the broker lost what it had acknowledged"
    reports: dict[int, list[Envelope]] = {}
    rejections: set[Coordinates] = set()
    normalize = Normalizer().normalize
    for record in log:
        for outcome in normalize(record):
            at = (record.partition, record.offset)
            if isinstance(outcome, Envelope) and at not in rejected:
                assert outcome.event_id is not None
                reports.setdefault(outcome.event_id, []).append(canonical(outcome))
            elif isinstance(outcome, (Envelope, Rejected)):
                index = outcome.index if isinstance(outcome, Rejected) else outcome.source_index
                rejections.add((topic.name, 0, *at, index))
    await _assert_positions(connection, log, await log_ends(topic, bootstrap_servers))
    await _assert_events(connection, reports)
    rows = await connection.fetch(
        f"select {', '.join(_WHERE)} from normalizer.quarantine order by quarantine_id"
    )
    assert len(rows) == len(rejections)
    assert {tuple(row) for row in rows} == rejections
    await assert_ledger_holds(connection)


async def _assert_events(
    connection: asyncpg.Connection, reports: Mapping[int, list[Envelope]]
) -> None:
    rows = {required_event_id(row): row for row in await stored_events(connection)}
    reports = _with_taken_ids(rows, reports)
    missing, unknown = reports.keys() - rows.keys(), rows.keys() - reports.keys()
    rejected = await connection.fetch(
        f"select {', '.join(_WHERE)}, reason, detail, sqlstate from normalizer.quarantine "
        "where sqlstate is not null"
    )
    assert not missing, [
        *(one for event_id in missing for one in reports[event_id]),
        *map(dict, rejected),
    ]
    assert not unknown, [rows[event_id] for event_id in unknown]
    for event_id, sent in reports.items():
        row = rows[event_id]
        assert source_coordinates(row) in map(source_coordinates, sent)
        expected = canonical(reduce(merge, sent))
        at = {name: getattr(row, name) for name in _WHERE}
        assert row == msgspec.structs.replace(expected, **at)


def _with_taken_ids(
    rows: Mapping[int, Envelope], reports: Mapping[int, list[Envelope]]
) -> dict[int, list[Envelope]]:
    """The reports, with an id of its own for an event whose derived id another event had taken.

    Derived ids have 22 bits beside the millisecond: of a hundred thousand records sent at full
    speed two may get one id, and the store gives the second the next id of its coordinates.
    """
    found = {event_id: list(sent) for event_id, sent in reports.items()}
    places: dict[Coordinates | None, int] = {
        source_coordinates(one): event_id for event_id, sent in found.items() for one in sent
    }
    for event_id in rows.keys() - reports.keys():
        place = source_coordinates(rows[event_id])
        taken = places.get(place)
        if taken is not None and taken in rows and source_coordinates(rows[taken]) != place:
            found[event_id] = [
                msgspec.structs.replace(one, event_id=event_id)
                for one in found[taken]
                if source_coordinates(one) == place
            ]
            found[taken] = [one for one in found[taken] if source_coordinates(one) != place]
    return found


async def _assert_positions(
    connection: asyncpg.Connection, log: Collection[RawRecord], ends: Mapping[int, int]
) -> None:
    rows = await connection.fetch(
        """
        select   partition, incarnation, next_offset, records, records + holes as covered
        from     normalizer.source_positions order by partition, incarnation
        """
    )
    counted = [
        (one, 0, end, sum(record.partition == one for record in log), end)
        for one, end in sorted(ends.items())
    ]
    assert [tuple(row) for row in rows] == counted


async def _read(topic: Topic, bootstrap_servers: str) -> list[RawRecord]:
    """Every record of the log, as a consumer of its own reads it."""
    partitions = _partitions(topic)
    log: list[RawRecord] = []
    async with _consumer(bootstrap_servers) as consumer:
        ends = await consumer.end_offsets(partitions)
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        while any([await consumer.position(one) < ends[one] for one in partitions]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                log += map(_raw, records)
    return log


def _raw(record: Any) -> RawRecord:
    return RawRecord(
        value=record.value,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        headers=tuple(record.headers),
        recorded_ms=record.timestamp,
    )


def _partitions(topic: Topic) -> list[TopicPartition]:
    return [TopicPartition(topic.name, one) for one in range(topic.partitions)]


def _consumer(bootstrap_servers: str) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="none",
    )
