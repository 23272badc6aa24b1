"""How it stands now: freshness, storms, agreement with the log, jobs."""

from datetime import datetime

from projector.api.answers import Answer, Row
from projector.api.database import Snapshot, Statement
from projector.api.parameters import Parameters, Texts
from projector.api.queries.asking import now


class NothingAsked(Parameters, frozen=True, kw_only=True):
    """No parameters."""


class Partition(Row, frozen=True, kw_only=True):
    """delay_s: from the log's time of the last record to its commit here; silent_s: since then.

    behind_s is both together; the log alone knows whether anything came meanwhile.
    """

    topic: str
    partition: int
    generation: int
    next_offset: str
    records: int
    stored: int
    joined: int
    duplicate: int
    quarantined: int
    ignored: int
    last_recorded_at: datetime | None
    last_committed_at: datetime
    delay_s: float | None
    silent_s: float
    behind_s: float | None


_FRESHNESS = Statement("""
    select   topic, partition, generation, next_offset::text, records, stored, joined, duplicate,
             quarantined, ignored, last_recorded_at, last_committed_at, delay_s, silent_s,
             delay_s + silent_s as behind_s
    from     projector.freshness
    order by topic, partition
""")


async def freshness(snapshot: Snapshot, _asked: NothingAsked) -> Answer[Partition]:
    """How fresh is what every answer shows, by partition? Each is as of its next_offset."""
    return await now(snapshot, _FRESHNESS, {}, Partition)


class StormsAsked(Parameters, frozen=True, kw_only=True):
    """Parameters."""

    step: Texts | None = None


class Storm(Row, frozen=True, kw_only=True):
    """The last 5 minutes against the 60 before them; times_usual is null where there was none."""

    step: str
    minute: datetime
    retries_now: int
    retries_before: int
    per_minute_now: float
    per_minute_before: float
    times_usual: float | None


_STORMS = Statement("""
    select   step, minute, retries_now, retries_before, per_minute_now, per_minute_before,
             times_usual
    from     projector.retry_storms
    where    :step::text[] is null or step = any(:step)
    order by retries_now desc, retries_before desc, step
    limit    500
""")


async def retry_storms(snapshot: Snapshot, asked: StormsAsked) -> Answer[Storm]:
    """Which steps retry more now than usual?"""
    return await now(snapshot, _STORMS, {"step": asked.step}, Storm)


class Agreement(Row, frozen=True, kw_only=True):
    """verdict: match, divergent, or cannot tell."""

    projection: str
    verdict: str
    scope: str
    compared: int
    divergent: int
    archived: int
    detail: str
    verified_at: datetime
    took_s: float
    age_s: float


_AGREEMENT = Statement("""
    select   projection, verdict, scope, compared, divergent, archived, detail, verified_at, took_s,
             age_s
    from     projector.agreement
    order by projection
""")


async def agreement(snapshot: Snapshot, _asked: NothingAsked) -> Answer[Agreement]:
    """Do the views agree with the log? What `projector verify` found last."""
    return await now(snapshot, _AGREEMENT, {}, Agreement)


class Job(Row, frozen=True, kw_only=True):
    """share: how much of its source was read, 0 to 1, where that can be told."""

    job_id: str
    run: int
    kind: str
    asked: str
    state: str
    reason: str
    share: float | None
    records_per_s: float
    left_s: float | None
    held_by_lag_s: float
    held_by_rate_s: float
    records: int
    holes: int
    expired: int
    outcomes: int
    stored: int
    duplicate: int
    joined: int
    quarantined: int
    ignored: int
    changed: int
    unchanged: int
    refused: int
    started_at: datetime
    updated_at: datetime
    ended_at: datetime | None


_JOBS = Statement("""
    select   job_id, run, kind, asked, state, reason, share, records_per_s, left_s, held_by_lag_s,
             held_by_rate_s, records, holes, expired, outcomes, stored, duplicate, joined,
             quarantined, ignored, changed, unchanged, refused, started_at, updated_at, ended_at
    from     projector.jobs
    order by started_at desc, job_id, run desc
    limit    100
""")


async def jobs(snapshot: Snapshot, _asked: NothingAsked) -> Answer[Job]:
    """Which jobs over history run or ran, how far are they, and what came of their records?"""
    return await now(snapshot, _JOBS, {}, Job)
