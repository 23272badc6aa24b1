"""Counts rejected records by reason and wire shape, and lists them."""

from typing import Annotated, Final, Literal

from projector.api.answers import ApiRow, GroupedAnswer, PagedAnswer, Timestamp
from projector.api.parameters import (
    By,
    GroupedParams,
    Ids,
    MinuteToDay,
    PagedWindowParams,
    Reasons,
    Shapes,
    Texts,
)
from projector.api.queries.grouping import GrainStatements, grouping_statement, sum_column
from projector.api.queries.run_query import run_grouped, run_paged
from projector.api.snapshots import Snapshot, Statement


class QuarantineParams(GroupedParams, frozen=True, kw_only=True):
    """Parameters."""

    by: Annotated[tuple[Literal["at", "reason", "shape"], ...], By] = ("reason", "shape")
    every: MinuteToDay = "hour"
    reason: Reasons | None = None
    shape: Shapes | None = None


class Quarantine(ApiRow, frozen=True, kw_only=True, omit_defaults=True):
    """`rejected` is the number of records and events that went to quarantine."""

    at: Timestamp | None = None
    reason: str | None = None
    shape: str | None = None
    rejected: int


REJECTED_RECORDS_SOURCE: Final = """
    (
        select quarantined_at, reason, shape, 1 as rejected
        from   projector.quarantine_records
        where  quarantined_at >= :since::timestamptz and quarantined_at < :until::timestamptz
    ) as rejections
"""
"""Rejected records, to count them by minute."""


def _counted(source: str, time: str) -> Statement:
    return grouping_statement(
        source, keys=("reason", "shape"), measures=(sum_column("rejected"),), time=time
    )


_QUARANTINE = GrainStatements(
    hours=_counted("projector.quarantine_by_reason", "hour"),
    minutes=_counted(REJECTED_RECORDS_SOURCE, "quarantined_at"),
    slow_minutes=True,
)


async def quarantine_by_reason(
    snapshot: Snapshot, params: QuarantineParams
) -> GroupedAnswer[Quarantine]:
    """How many records were rejected, by reason and shape?"""
    return await run_grouped(snapshot, _QUARANTINE, params, Quarantine)


class QuarantineRecordsParams(PagedWindowParams, frozen=True, kw_only=True):
    """Parameters."""

    reason: Reasons | None = None
    shape: Shapes | None = None
    topic: Texts | None = None
    execution: Ids | None = None


class QuarantinedRecord(ApiRow, frozen=True, kw_only=True):
    """A rejected record, or a rejected event of a batch whose other events may be stored.

    `sample` is the beginning of the record's bytes as text. It's null if the bytes aren't text, or
    if anything in the whole record could be a secret. `execution_id` is read from the record's
    value, or else from its key, and is null if neither can be read.
    """

    quarantine_id: str
    quarantined_at: Timestamp
    reason: str
    detail: str
    sqlstate: str | None
    shape: str
    normalizer_version: int
    topic: str
    incarnation: int
    partition: int
    source_offset: str
    source_index: int
    recorded_at: Timestamp | None
    value_bytes: int
    redriven_at: Timestamp | None
    sample: str | None
    execution_id: str | None


QUARANTINED_RECORD_COLUMNS = """
    quarantine_id::text, quarantined_at, reason, detail, sqlstate, shape, normalizer_version, topic,
    incarnation, partition, source_offset::text, source_index, recorded_at, value_bytes,
    redriven_at, sample, execution_id::text
"""
_REFUSED = Statement(f"""
    select   {QUARANTINED_RECORD_COLUMNS}, quarantined_at as after_at, quarantine_id as after_id
    from     projector.quarantine_records
    where    quarantined_at >= :since::timestamptz and quarantined_at < :until::timestamptz
    and      (:reason::text[] is null or reason = any(:reason))
    and      (:shape::text[] is null or shape = any(:shape))
    and      (:topic::text[] is null or topic = any(:topic))
    and      (:execution::bigint[] is null or execution_id = any(:execution))
    and      (
                 :after_at::timestamptz is null
                 or (quarantined_at, quarantine_records.quarantine_id)
                    < (:after_at, :after_id::bigint)
             )
    order by quarantined_at desc, quarantine_records.quarantine_id desc
    limit    :limit::integer
""")  # noqa: S608 - constants of this package


async def quarantine_records(
    snapshot: Snapshot, params: QuarantineRecordsParams
) -> PagedAnswer[QuarantinedRecord]:
    """Which records were rejected, why, and what are their first bytes? The newest first."""
    return await run_paged(snapshot, _REFUSED, params, QuarantinedRecord)
