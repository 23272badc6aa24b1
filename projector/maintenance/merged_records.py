"""Deletes the entries of merged_records whose events are all deleted.

The table says which records reported an event that another record had already stored. Once that
event is deleted, nobody needs the entry any more: if the record is read again, it's ignored as
expired, or stored as a new event. The search for such entries reads the whole table, so this step
runs only once a day.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any, Final

import asyncpg

_ROWS_PER_PAGE: Final = 1_000
IDS_PER_PAGE: Final = 20_000
"""Event ids per page. A row has one for each merged event of its batch."""

_SCAN_EVERY: Final = timedelta(days=1)


async def delete_orphaned_merged_records(
    connection: asyncpg.Connection, *, dry_run: bool
) -> AsyncIterator[str]:
    """Delete rows without stored events, page by page in the order of their key."""
    if dry_run or not await connection.fetchval(_SCANNED_LONG_AGO, _SCAN_EVERY):
        return
    gone = 0
    last: Sequence[Any] = ("", 0, 0, 0, 0)
    while page := await connection.fetch(_PAGE, *last, _ROWS_PER_PAGE, IDS_PER_PAGE):
        *last, _ = page[-1]
        event_ids = {event_id for *_, row_event_ids in page for event_id in row_event_ids}
        left = {event_id for (event_id,) in await connection.fetch(_STORED, event_ids)}
        over = [key for *key, row_event_ids in page if left.isdisjoint(row_event_ids)]
        if over:
            await connection.execute(_DELETE, *zip(*over, strict=True))
            gone += len(over)
    await connection.execute(_NOTE_SCANNED)
    if gone:
        yield f"deleted {gone:,} merged records whose events are deleted"


_SCANNED_LONG_AGO: Final = """
    select full_scan_at < now() - $1::interval
    from   maintenance_state
    where  subject = 'merged_records'
"""

_NOTE_SCANNED: Final = (
    "update maintenance_state set full_scan_at = now() where subject = 'merged_records'"
)

# Always takes the first row, however many ids it has.
_PAGE: Final = """
    select   source_topic, source_incarnation, source_partition, offset_block, merge_id, event_ids
    from     (
                 select *, sum(cardinality(event_ids)) over key - cardinality(event_ids) as before
                 from   (
                            select   *
                            from     normalizer.merged_records
                            where    (source_topic, source_incarnation, source_partition,
                                      offset_block, merge_id)
                                     > ($1::text, $2::integer, $3::integer, $4::bigint, $5::bigint)
                            order by source_topic, source_incarnation, source_partition,
                                     offset_block, merge_id
                            limit    $6::integer
                        ) as following
                 window key as (
                     order by source_topic, source_incarnation, source_partition, offset_block,
                              merge_id
                 )
             ) as weighed
    where    before < $7::bigint
    order by source_topic, source_incarnation, source_partition, offset_block, merge_id
"""

_STORED: Final = """
    select event_id
    from   normalizer.events
    where  event_id = any((select $1::bigint[])::bigint[])
"""

_DELETE: Final = """
    delete from normalizer.merged_records as old
    using  unnest($1::text[], $2::integer[], $3::integer[], $4::bigint[], $5::bigint[])
               as over (topic, incarnation, partition, offset_block, merge_id)
    where  (old.source_topic, old.source_incarnation, old.source_partition, old.offset_block,
            old.merge_id)
           = (over.topic, over.incarnation, over.partition, over.offset_block, over.merge_id)
"""
