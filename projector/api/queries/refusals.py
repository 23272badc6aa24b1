"""What was refused: how much, and record by record."""

from datetime import datetime
from typing import Annotated, Literal

from projector.api.answers import Counts, Page, Row
from projector.api.database import Snapshot, Statement
from projector.api.parameters import By, Counted, HourOrDay, ListedWindow, Texts
from projector.api.queries.asking import counts, page
from projector.api.queries.grouping import grouped, total


class QuarantineAsked(Counted, frozen=True, kw_only=True):
    """Parameters."""

    by: Annotated[tuple[Literal["at", "reason", "shape"], ...], By] = ("reason", "shape")
    every: HourOrDay = "hour"
    reason: Texts | None = None
    shape: Texts | None = None


class Quarantine(Row, frozen=True, kw_only=True, omit_defaults=True):
    """refused: records and events that went to quarantine."""

    at: datetime | None = None
    reason: str | None = None
    shape: str | None = None
    refused: int


_QUARANTINE = grouped(
    "projector.quarantine_by_reason", keys=("reason", "shape"), measures=(total("refused"),)
)


async def quarantine_by_reason(snapshot: Snapshot, asked: QuarantineAsked) -> Counts[Quarantine]:
    """What was refused, why, and in which shape?"""
    return await counts(snapshot, _QUARANTINE, asked, Quarantine)


class RefusedAsked(ListedWindow, frozen=True, kw_only=True):
    """Parameters."""

    reason: Texts | None = None
    shape: Texts | None = None
    topic: Texts | None = None


class Refused(Row, frozen=True, kw_only=True):
    """A record, or one event in it.

    sample: how it begins, without its secrets; null where that
    is no text, or holds what may be a secret without an end.
    """

    quarantine_id: str
    quarantined_at: datetime
    reason: str
    detail: str
    sqlstate: str | None
    shape: str
    normalizer_version: int
    topic: str
    generation: int
    partition: int
    source_offset: str
    source_index: int
    recorded_at: datetime | None
    value_bytes: int
    redriven_at: datetime | None
    sample: str | None


_REFUSED = Statement("""
    select   quarantine_id::text, quarantined_at, reason, detail, sqlstate, shape,
             normalizer_version, topic, generation, partition, source_offset::text, source_index,
             recorded_at, value_bytes, redriven_at, sample, quarantined_at as after_at,
             quarantine_id as after_id
    from     projector.quarantine_records
    where    quarantined_at >= :since::timestamptz and quarantined_at < :until::timestamptz
    and      (:reason::text[] is null or reason = any(:reason))
    and      (:shape::text[] is null or shape = any(:shape))
    and      (:topic::text[] is null or topic = any(:topic))
    and      (
                 :after_at::timestamptz is null
                 or (quarantined_at, quarantine_records.quarantine_id)
                    < (:after_at, :after_id::bigint)
             )
    order by quarantined_at desc, quarantine_records.quarantine_id desc
    limit    :limit::integer
""")


async def quarantine_records(snapshot: Snapshot, asked: RefusedAsked) -> Page[Refused]:
    """Which records were refused, why, and how do they begin? The newest first."""
    return await page(
        snapshot, _REFUSED, asked, Refused, after={"after_at": datetime, "after_id": int}
    )
