"""Shows the present state: freshness, gaps, retry storms, agreement, and jobs."""

from projector.api.answers import ApiAnswer, ApiRow, PagedAnswer, Timestamp
from projector.api.parameters import (
    PagedWindowParams,
    Parameters,
    Texts,
)
from projector.api.queries.query_answers import run_paged, run_query
from projector.api.snapshots import Snapshot, Statement


class PartitionFreshness(ApiRow, frozen=True, kw_only=True):
    """How far a partition has been read, and whether its process is alive.

    `state` sums it up: caught_up, reading, behind, dead, broker_away, stopped, or unclaimed. The
    views include every record that the partition had at the time `as_of`. `behind_s` is the number
    of seconds from `as_of` to the last heartbeat. `delay_s` says how many seconds after its
    timestamp the last record was committed to the database, and `silent_s` how many seconds ago
    that was.
    """

    topic: str
    partition: int
    incarnation: int | None
    state: str
    next_offset: str | None
    log_end: str | None
    unread: int | None
    as_of: Timestamp | None
    behind_s: float | None
    heartbeat_at: Timestamp | None
    end_seen_at: Timestamp | None
    records: int | None
    stored: int | None
    merged: int | None
    duplicate: int | None
    quarantined: int | None
    ignored: int | None
    last_recorded_at: Timestamp | None
    last_committed_at: Timestamp | None
    delay_s: float | None
    silent_s: float | None


_FRESHNESS = Statement("""
    select   topic, partition, incarnation, state, next_offset::text, log_end::text, unread, as_of,
             behind_s, heartbeat_at, end_seen_at, records, stored, merged, duplicate, quarantined,
             ignored, last_recorded_at, last_committed_at, delay_s, silent_s
    from     projector.freshness
    order by topic, partition
""")


_STATES = Statement("select state from projector.freshness")


async def freshness(snapshot: Snapshot, _params: Parameters) -> ApiAnswer[PartitionFreshness]:
    """How fresh are the views, by partition? They include all records below next_offset."""
    return await run_query(snapshot, _FRESHNESS, {}, PartitionFreshness)


async def partition_states(snapshot: Snapshot) -> list[str]:
    """Return the state of each partition, for metrics."""
    return [row["state"] for row in await snapshot.untyped_rows(_STATES, {})]


class StormsParams(Parameters, frozen=True, kw_only=True):
    step: Texts | None = None


class Storm(ApiRow, frozen=True, kw_only=True):
    """The retries of a step in the last 5 minutes, and in the 60 minutes before (the baseline).

    A ratio is the number of retries per first attempt, for example 0.5 if every second call is
    retried once. `ratio_vs_baseline` says how many times higher the ratio is now than in the
    baseline. It's null if nothing was retried in the baseline. `ratio_baseline` is null if no call
    ended in the baseline.
    """

    step: str
    storm: bool
    minute: Timestamp
    first_tries_now: int
    retries_now: int
    first_tries_baseline: int
    retries_baseline: int
    per_minute_now: float
    per_minute_baseline: float
    ratio_now: float
    ratio_baseline: float | None
    ratio_vs_baseline: float | None


_STORMS = Statement("""
    select   step, storm, minute, first_tries_now, retries_now, first_tries_baseline,
             retries_baseline, per_minute_now, per_minute_baseline, ratio_now, ratio_baseline,
             ratio_vs_baseline
    from     projector.retry_storms
    where    :step::text[] is null or step = any(:step)
    order by storm desc, retries_now desc, retries_baseline desc, step
    limit    500
""")


async def retry_storms(snapshot: Snapshot, params: StormsParams) -> ApiAnswer[Storm]:
    """Which steps retry more now than in the hour before?"""
    return await run_query(snapshot, _STORMS, {"step": params.step}, Storm)


class Agreement(ApiRow, frozen=True, kw_only=True):
    """The latest result of `projector verify` for a projection.

    `verdict` is match, divergent, or inconclusive. A match with 0 `compared` rows means that there
    was nothing to compare. The comparison was limited to the hours from `compared_since` to
    `compared_until`, and null means no limit on that side. `all_verified_at`, `range_verified_at`,
    and `sample_verified_at` are null if that kind of comparison has never run.
    """

    projection: str
    verdict: str
    scope: str
    compared_since: Timestamp | None
    compared_until: Timestamp | None
    compared: int
    divergent: int
    divergent_since: Timestamp | None
    archived: int
    detail: str
    verified_at: Timestamp | None
    took_s: float | None
    age_s: float | None
    all_verified_at: Timestamp | None
    range_verified_at: Timestamp | None
    sample_verified_at: Timestamp | None


_AGREEMENT = Statement("""
    select   projection, verdict, scope, compared_since, compared_until, compared, divergent,
             divergent_since, archived, detail, verified_at, took_s, age_s, all_verified_at,
             range_verified_at, sample_verified_at
    from     projector.agreement
    order by projection
""")


async def agreement(snapshot: Snapshot, _params: Parameters) -> ApiAnswer[Agreement]:
    """Do the projections agree with the events? Open divergences, and the last comparisons."""
    return await run_query(snapshot, _AGREEMENT, {}, Agreement)


class JobRow(ApiRow, frozen=True, kw_only=True):
    """A run of a job, such as a backfill.

    `progress_ratio` is the fraction of its source that the run has read, from 0 to 1. It's null if
    that isn't known.
    """

    job_id: str
    run: int
    kind: str
    spec: str
    state: str
    reason: str
    progress_ratio: float | None
    records_per_s: float
    remaining_s: float | None
    throttled_by_lag_s: float
    throttled_by_rate_s: float
    records: int
    holes: int
    expired: int
    outcomes: int
    stored: int
    duplicate: int
    merged: int
    quarantined: int
    ignored: int
    changed: int
    unchanged: int
    rejected: int
    started_at: Timestamp
    updated_at: Timestamp
    ended_at: Timestamp | None


_JOBS = Statement("""
    select   job_id, run, kind, spec, state, reason, progress_ratio, records_per_s, remaining_s,
             throttled_by_lag_s, throttled_by_rate_s, records, holes, expired,
             outcomes, stored, duplicate, merged, quarantined, ignored, changed, unchanged,
             rejected, started_at, updated_at, ended_at
    from     projector.jobs
    order by started_at desc, job_id, run desc
    limit    100
""")


async def jobs(snapshot: Snapshot, _params: Parameters) -> ApiAnswer[JobRow]:
    """Which jobs ran or run, how far are they, and what are the outcomes of their records?"""
    return await run_query(snapshot, _JOBS, {}, JobRow)


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
