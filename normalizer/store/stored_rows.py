"""Reads and locks rows of the table `events`, as the transaction of a batch sees them."""

import asyncio
import hashlib
import time
from collections.abc import Iterator, Sequence, Set as AbstractSet
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Final

import asyncpg

from normalizer.core.identity.coordinates import Coordinates
from normalizer.core.identity.digests import MAX_UNHASHED_BYTES, Digest
from normalizer.envelope import Envelope
from normalizer.store.sqlstate import STATEMENT_ERRORS, ErrorCause, classify_database_error

_MAX_GAP_OFFSETS: Final = 5_000
"""Offsets that are closer together than this are searched for with one statement."""
_YIELD_EVERY_S: Final = 0.005
"""How long to work before other tasks may run."""
_KEEPALIVE_EVERY_S: Final = 10.0
"""Run a statement at least this often. After 60 s without one the server would end the transaction.
"""
_MAX_DIGEST_REQUEST_BYTES: Final = 4 * 1024 * 1024
"""How many bytes of values to send to the server together for hashing. A larger value is sent
alone."""

ENVELOPE_COLUMNS_SQL: Final = ", ".join(Envelope.__struct_fields__)
"""The columns of an envelope."""

# Finds the rows with these event ids. The array is in a subselect, which hides the ids from the
# planner. Without it, planning a query with all the ids of a batch takes longer than running it.
_FIND_COORDINATES: Final = """
    select event_id, source_topic, source_incarnation, source_partition, source_offset, source_index
    from   normalizer.events
    where  event_id = any((select $1::bigint[])::bigint[])
"""

_FIND_BATCHES: Final = """
    select event_id, batch_id
    from   normalizer.events
    where  event_id = any((select $1::bigint[])::bigint[])
"""

READ_EVENTS_SQL: Final = f"""
    select   {ENVELOPE_COLUMNS_SQL}
    from     normalizer.events
    where    event_id = any((select $1::bigint[])::bigint[])
    order by event_id
"""  # noqa: S608 - column names of our own

_LOCK_EVENTS: Final = f"{READ_EVENTS_SQL} for update"

_FIND_ASSIGNED: Final = """
    select event_id
    from   normalizer.assigned_ids
    where  (source_topic, source_incarnation, source_partition, source_offset, source_index)
         = ($1::text, $2::integer, $3::integer, $4::bigint, $5::integer)
"""

# The server ends a transaction that's idle for a minute, because its process may be frozen. This
# query shows that ours is still working.
_STILL_HERE: Final = "select"

# `offset 0` keeps the planner from computing the text twice, for its length and for its hash.
_DIGESTS: Final = f"""
    select   octet_length(written),
             case
               when octet_length(written) <= {MAX_UNHASHED_BYTES} then written
               else sha256(written)
             end
    from     unnest($1::jsonb[]) with ordinality as given (value, number)
    cross join lateral (select convert_to(value::text, 'UTF8') offset 0) as one (written)
    order by number
"""  # noqa: S608 - a constant

_ASSIGN_ID: Final = """
    insert into normalizer.assigned_ids
           (event_id, source_topic, source_incarnation, source_partition, source_offset,
            source_index)
    values (normalizer.gen_snowflake(), $1::text, $2::integer, $3::integer, $4::bigint, $5::integer)
    returning event_id
"""

# Finds which records of one partition are stored. The parameters are the topic, the incarnation,
# the partition, the first and the last of the wanted offsets, and the list of all wanted offsets.
# The index is a BRIN index, which finds only ranges of blocks, so looking up each offset separately
# would read the same blocks again and again. `source_offset + 0` keeps the planner from using the
# index for the list. It then uses the index only once, for the range from the first to the last
# offset.
_FIND_BY_COORDINATES: Final = """
    select event_id, source_topic, source_incarnation, source_partition, source_offset, source_index
    from   normalizer.events
    where  source_topic = $1::text and source_incarnation = $2::integer
           and source_partition = $3::integer
           and source_offset between $4::bigint and $5::bigint
           and source_offset + 0 = any($6::bigint[])
"""

_FIND_MERGED_RECORDS: Final = """
    select merge_id, reported.event_id, source_topic, source_incarnation, source_partition,
           reported.source_offset, reported.source_index
    from   normalizer.merged_records
    join   (
               select distinct topic, incarnation, partition, "offset" >> 12 as offset_block
               from   unnest($1::text[], $2::integer[], $3::integer[], $4::bigint[])
                          as requested (topic, incarnation, partition, "offset")
           ) as wanted
           on (source_topic, source_incarnation, source_partition, merged_records.offset_block)
            = (wanted.topic, wanted.incarnation, wanted.partition, wanted.offset_block)
    cross join lateral unnest(source_offsets, source_indexes, event_ids)
                           as reported (source_offset, source_index, event_id)
"""


class PostgresStoredEvents:
    """The rows of `events`, as a transaction sees them.

    The transaction reads committed rows only, so a row may appear between two of these statements.
    A new row that another writer inserts first makes COPY fail with a race.
    """

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._paused_s = self._said_s = time.monotonic()

    async def find_coordinates_of_ids(self, event_ids: Sequence[int]) -> dict[int, Coordinates]:
        """Return the coordinates of the stored rows of these ids.

        Ids without a row are left out.
        """
        if not event_ids:
            return {}
        rows = await self._connection.fetch(_FIND_COORDINATES, event_ids)
        return {row[0]: tuple(row)[1:] for row in rows}

    async def select_for_update(self, event_ids: Sequence[int]) -> dict[int, Envelope]:
        """Lock and return the stored rows of these ids, in ascending order.

        Ids without a row are left out.
        """
        if not event_ids:
            return {}
        rows = await self._connection.fetch(_LOCK_EVENTS, event_ids)
        return {row["event_id"]: Envelope(**row) for row in rows}

    async def find_row_ids_at(
        self, coordinates_set: AbstractSet[Coordinates]
    ) -> dict[Coordinates, int]:
        """Return the id of the row in which each of these records is stored or merged.

        Records that were never stored are missing from the result, and so are records whose row has
        been deleted.
        """
        if not coordinates_set:
            return {}
        found = await self.find_row_ids_merged_into(coordinates_set)
        for run in _runs(coordinates_set - found.keys()):
            rows = await self._connection.fetch(_FIND_BY_COORDINATES, *run)
            for event_id, *coordinates in rows:
                found[tuple(coordinates)] = event_id
        return found

    async def find_row_ids_merged_into(
        self, coordinates_set: AbstractSet[Coordinates]
    ) -> dict[Coordinates, int]:
        """Return the id of the row that each of these records was merged into.

        Records that weren't merged are missing from the result, and so are records whose row has
        been deleted.
        """
        columns = [list(column) for column in zip(*coordinates_set, strict=True)]
        merged_from = [
            (merge_id, event_id, coordinates)
            for merge_id, event_id, *key in await self._connection.fetch(
                _FIND_MERGED_RECORDS, *columns[:4]
            )
            if (coordinates := tuple(key)) in coordinates_set
        ]
        if not merged_from:
            return {}
        ids = sorted({event_id for _, event_id, _ in merged_from})
        batches = dict(await self._connection.fetch(_FIND_BATCHES, ids))
        return {
            coordinates: event_id
            for merge_id, event_id, coordinates in merged_from
            # Merges and batches are numbered from the same sequence. If the row's batch has the
            # higher number, the row was deleted after the merge and then stored again. The record
            # was merged into the deleted row, so leave it out.
            if batches.get(event_id, merge_id) < merge_id
        }

    async def digest_as_jsonb(self, values: Sequence[bytes]) -> list[Digest]:
        """Return the length and sha256 of each value's text as jsonb. Reads no stored row."""
        return [
            digest
            for some in _chunked_by_bytes(values)
            for digest in await self._load_digests(list(some))
        ]

    async def _load_digests(self, values: Sequence[bytes]) -> list[Digest]:
        """Return the digests. A value that isn't valid jsonb gets a unique one.

        Its row is rejected later.
        """
        try:
            async with self._connection.transaction():
                found = await self._connection.fetch(_DIGESTS, values)
        except STATEMENT_ERRORS as error:
            if classify_database_error(error, copying=False) is not ErrorCause.RECORD:
                raise
            if len(values) == 1:
                return [(len(values[0]), b"\0" + hashlib.sha256(values[0]).digest())]
            return [digest for one in values for digest in await self._load_digests([one])]
        return [(row[0], row[1]) for row in found]

    async def find_assigned_id(self, coordinates: Coordinates) -> int | None:
        """Return the id that was assigned to the event at these coordinates, or None."""
        found: int | None = await self._connection.fetchval(_FIND_ASSIGNED, *coordinates)
        return found

    async def assign_id(self, coordinates: Coordinates) -> int:
        """Return a new id from gen_snowflake(), and store it with the coordinates."""
        event_id: int = await self._connection.fetchval(_ASSIGN_ID, *coordinates)
        return event_id

    async def let_other_tasks_run(self) -> None:
        """Let other tasks run every 5 ms, and keep the transaction alive.

        For that it runs a statement every 10 s.
        """
        now_s = time.monotonic()
        if now_s >= self._paused_s + _YIELD_EVERY_S:
            await asyncio.sleep(0)
            self._paused_s = time.monotonic()
        if now_s >= self._said_s + _KEEPALIVE_EVERY_S:
            await self._connection.execute(_STILL_HERE)
            self._said_s = now_s


def _chunked_by_bytes(values: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Split the values into chunks of _MAX_DIGEST_REQUEST_BYTES."""
    first, size = 0, 0
    for at, value in enumerate(values):
        if size and size + len(value) > _MAX_DIGEST_REQUEST_BYTES:
            yield values[first:at]
            first, size = at, 0
        size += len(value)
    yield values[first:]


def _runs(
    coordinates_set: AbstractSet[Coordinates],
) -> Iterator[tuple[str | None, int, int, int, int, Sequence[int]]]:
    """Group the offsets into runs, so that one statement can search each run.

    Each run is yielded as topic, incarnation, partition, its first and last offset, and the offsets
    to find. Many short runs cost many searches of the index. In a long run, the server also reads
    the rows between the wanted ones. As a compromise, a gap of more than _MAX_GAP_OFFSETS begins a
    new run.
    """
    ordered = sorted({(coordinates[:3], coordinates[3]) for coordinates in coordinates_set})
    for source, offsets in groupby(ordered, key=itemgetter(0)):
        run = [offset for _, offset in offsets]
        cuts = [at for at in range(1, len(run)) if run[at] - run[at - 1] > _MAX_GAP_OFFSETS]
        for first, after in pairwise((0, *cuts, len(run))):
            yield (*source, run[first], run[after - 1], run[first:after])
