"""Lists gaps: offsets of a Kafka partition that have no record."""

from projector.api.answers import ApiRow, PagedAnswer, Timestamp
from projector.api.parameters import (
    PagedWindowParams,
)
from projector.api.queries.run_query import run_paged
from projector.api.snapshots import Snapshot, Statement


class Gap(ApiRow, frozen=True, kw_only=True):
    """Offsets without a record, from `first_offset` (included) to `next_offset` (not included)."""

    topic: str
    incarnation: int
    partition: int
    first_offset: str
    next_offset: str
    offsets: int
    reason: str
    found_at: Timestamp


_GAPS = Statement("""
    select   topic, incarnation, partition, first_offset::text, next_offset::text, offsets, reason,
             found_at, topic as after_topic, incarnation as after_incarnation,
             partition as after_partition, first_offset as after_offset, found_at as after_at
    from     projector.gaps
    where    found_at >= :since::timestamptz and found_at < :until::timestamptz
    and      (
                 :after_at::timestamptz is null
                 or (found_at, topic, incarnation, partition, first_offset)
                    < (:after_at, :after_topic::text, :after_incarnation::integer,
                       :after_partition::integer, :after_offset::bigint)
             )
    order by found_at desc, topic desc, incarnation desc, partition desc, gaps.first_offset desc
    limit    :limit::integer
""")


async def gaps(snapshot: Snapshot, params: PagedWindowParams) -> PagedAnswer[Gap]:
    """Which offsets have no record, and why?"""
    return await run_paged(snapshot, _GAPS, params, Gap)
