"""Compares the versions of playbooks, and lists when each version was first used."""

from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Final, Generic, TypeVar

from msgspec import Meta

from projector.api.answers import ApiAnswer, ApiRow, Timestamp
from projector.api.parameters import Text, Texts, WindowParams, round_to_grain
from projector.api.queries.query_answers import run_query
from projector.api.snapshots import Snapshot, Statement

MAX_COUNTED_CALLS: Final = 10_000
"""Calls are read one by one, so only those of the newest executions count."""
_MAX_WINDOW: Final = timedelta(days=7)
"""Executions and calls are counted one by one, so only the end of a longer window counts."""

_R = TypeVar("_R", bound=ApiRow)


class VersionsParams(WindowParams, frozen=True, kw_only=True):
    """Parameters. The window applies to the first event, in whole hours.

    Only the last 7 days of a longer window count.
    """

    playbook: Texts | None = None


class PlaybookVersion(ApiRow, frozen=True, kw_only=True):
    """Executions of one version. `mean_duration_s` is about those that ended."""

    playbook: str
    version: str | None
    executions: int
    completed: int
    failed: int
    cancelled: int
    mean_duration_s: float | None
    first_hour: Timestamp
    last_hour: Timestamp


# The view playbook_versions would group by hour, too.
_ALL_VERSIONS: Final = Statement("""
    select   playbook, version, count(*) as executions,
             count(*) filter (where status = 'COMPLETED') as completed,
             count(*) filter (where status = 'FAILED') as failed,
             count(*) filter (where status = 'CANCELLED') as cancelled,
             avg(duration_s) as mean_duration_s, min(hour) as first_hour, max(hour) as last_hour
    from     projector.executions
    where    hour >= :since::timestamptz and hour < :until::timestamptz
    and      (:playbook::text[] is null or playbook = any(:playbook))
    group by playbook, version
    order by last_hour desc, playbook, version
    limit    500
""")


async def playbook_versions(
    snapshot: Snapshot, params: VersionsParams
) -> ApiAnswer[PlaybookVersion]:
    """How do the versions of playbooks compare, in at most 7 days? The latest first."""
    since, until = params.rounded_bounds(snapshot.read_at)
    since = round_to_grain(max(since, until - _MAX_WINDOW), "hour")
    values = {"since": since, "until": until, "playbook": params.playbook}
    return await run_query(snapshot, _ALL_VERSIONS, values, PlaybookVersion)


class PlaybookParams(WindowParams, frozen=True, kw_only=True):
    """Parameters.

    Only the last 7 days of a longer window count. Of those, only the newest executions count, up to
    the one with the 10,000th call.
    """

    playbook: Annotated[Text, Meta(description="The playbook.")]
    version: Texts | None = None

    def values(self, now: datetime) -> dict[str, Any]:
        """Return the values of the statements' parameters."""
        since, until = self.rounded_bounds(now)
        return {
            "playbook": self.playbook,
            "version": self.version,
            "since": max(round_to_grain(since, "hour"), until - _MAX_WINDOW),
            "until": until,
            "most": MAX_COUNTED_CALLS,
        }


class VersionRow(ApiRow, frozen=True, kw_only=True):
    """A version of a playbook, with figures about its executions that began in the window.

    `completed_rate` is the fraction of ended executions that completed. `first_attempt_rate` is the
    fraction of finished first attempts that succeeded. `p50_s` and `p95_s` are the median and the
    95th percentile of the duration of ended executions, in seconds.
    """

    version: str | None
    executions: int
    completed: int
    failed: int
    cancelled: int
    completed_rate: float | None
    calls: int
    failed_calls: int
    first_calls: int
    first_succeeded: int
    first_attempt_rate: float | None
    p50_s: float | None
    p95_s: float | None
    first_at: Timestamp
    last_at: Timestamp


class PlaybookAnswer(ApiAnswer[_R], Generic[_R], frozen=True, kw_only=True):
    """Figures about a playbook's executions that began at or after `since`.

    If `truncated` is true, the window has earlier executions too, but they have too many calls to
    count, so the figures leave them out.
    """

    of_the_clock: ClassVar = ApiAnswer.of_the_clock | {"since"}

    since: Timestamp
    truncated: bool


# Goes back in time from the newest executions, and finds the hour in which they become too many to
# count. The query reads only counters. Executions from before that hour aren't read at all.
_TOO_MANY: Final = Statement("""
    select max(hour)
    from   (
               select   hour, sum(sum(executions)) over (order by hour desc) as total
               from     projector.execution_outcomes
               where    hour >= :since::timestamptz and hour < :until::timestamptz
               and      playbook = :playbook::text and outcome = 'BEGUN'
               group by hour
           ) as begun
    where  total > :most::bigint
""")
# An execution without a call counts as one call. `offset 0` in the subquery makes PostgreSQL look
# up the calls of one execution after another, so it reads no more calls than needed.
_OF_PLAYBOOK: Final = """
    newest as materialized (
        select execution_id, version, status, first_at, ended_at, duration_s
        from   projector.executions
        where  hour >= projector.to_hour(:since::timestamptz) and hour < :until::timestamptz
        and    first_at >= :since and first_at < :until
        and    playbook = :playbook::text
        and    (:version::text[] is null or version = any(:version))
        order by first_at desc, execution_id desc
        limit  :most::bigint + 1
    ),
    bound as materialized (
        select (
                   select    newest.first_at
                   from      newest
                   left join lateral (
                       select 1
                       from   projector.calls
                       where  execution_id = newest.execution_id
                       offset 0
                   ) as call on true
                   offset    :most
                   limit     1
               ) as first_at
    ),
    begun as materialized (
        select *
        from   newest
        where  first_at >= coalesce((select first_at from bound), '-infinity')
    )
"""
_VERSIONS: Final = Statement(f"""
    with {_OF_PLAYBOOK},
    called as (
        select   begun.version, count(*) as calls,
                 count(*) filter (where call.status <> 'COMPLETED') as failed_calls,
                 count(*) filter (where call.attempts = 0) as first_calls,
                 count(*) filter (where call.attempts = 0 and call.status = 'COMPLETED')
                     as first_succeeded
        from     begun
        join     projector.calls as call on call.execution_id = begun.execution_id
        where    call.finished_at is not null
        group by begun.version
    ),
    ended as (
        select   version, count(*) as executions,
                 count(*) filter (where status = 'COMPLETED') as completed,
                 count(*) filter (where status = 'FAILED') as failed,
                 count(*) filter (where status = 'CANCELLED') as cancelled,
                 percentile_cont(0.50) within group (order by duration_s) as p50_s,
                 percentile_cont(0.95) within group (order by duration_s) as p95_s,
                 min(first_at) as first_at, max(first_at) as last_at
        from     begun
        group by version
    )
    select   bound.first_at as bound, ended.version, executions, completed, failed, cancelled,
             completed::double precision / nullif(completed + failed + cancelled, 0)
                 as completed_rate,
             coalesce(calls, 0) as calls, coalesce(failed_calls, 0) as failed_calls,
             coalesce(first_calls, 0) as first_calls,
             coalesce(first_succeeded, 0) as first_succeeded,
             first_succeeded::double precision / nullif(first_calls, 0) as first_attempt_rate,
             p50_s, p95_s, ended.first_at, last_at
    from     bound
    left join ended on true
    left join called on called.version is not distinct from ended.version
    order by ended.first_at desc, ended.version
    limit    50
""")  # noqa: S608 - constants of this package


async def versions_of_playbook(
    snapshot: Snapshot, params: PlaybookParams
) -> PlaybookAnswer[VersionRow]:
    """How do the versions of one playbook compare, in at most 7 days?

    The latest version comes first. If there are more than 10,000 calls, only the newest executions
    are counted, and the answer says since when.
    """
    return await _answer(snapshot, _VERSIONS, params, VersionRow, "executions")


class ErrorsByVersion(ApiRow, frozen=True, kw_only=True):
    """`calls` is the number of failed calls of this version with errors of this class.

    `only_worker` is the worker that had all of them, or null if several had.
    """

    version: str | None
    error_class: str
    calls: int
    executions: int
    only_worker: str | None


_ERRORS: Final = Statement(f"""
    with {_OF_PLAYBOOK},
    failed as (
        select   begun.version, call.error_class, count(*) as calls,
                 count(distinct call.execution_id) as executions,
                 case
                     when count(distinct coalesce(call.worker_id, '')) = 1
                     then min(call.worker_id)
                 end as only_worker
        from     begun
        join     projector.calls as call on call.execution_id = begun.execution_id
        where    call.finished_at is not null
        and      call.status <> 'COMPLETED'
        group by begun.version, call.error_class
    )
    select   bound.first_at as bound, failed.*
    from     bound
    left join failed on true
    order by calls desc, version, error_class
    limit    500
""")  # noqa: S608 - constants of this package


async def errors_by_version(
    snapshot: Snapshot, params: PlaybookParams
) -> PlaybookAnswer[ErrorsByVersion]:
    """Which errors does each version of one playbook have, in at most 7 days?

    If there are more than 10,000 calls, only the newest executions are counted, and the answer says
    since when.
    """
    return await _answer(snapshot, _ERRORS, params, ErrorsByVersion, "calls")


class StepsByVersion(ApiRow, frozen=True, kw_only=True):
    """`calls` is the number of finished calls of this step in this version.

    `p50_s` is the median of their duration in seconds, or null if no duration is known.
    """

    version: str | None
    step: str
    calls: int
    failed_calls: int
    p50_s: float | None


_STEPS: Final = Statement(f"""
    with {_OF_PLAYBOOK},
    called as (
        select   begun.version, call.step, count(*) as calls,
                 count(*) filter (where call.status <> 'COMPLETED') as failed_calls,
                 percentile_cont(0.50) within group (order by call.duration_s) as p50_s
        from     begun
        join     projector.calls as call on call.execution_id = begun.execution_id
        where    call.finished_at is not null
        group by begun.version, call.step
    )
    select   bound.first_at as bound, called.*
    from     bound
    left join called on true
    order by calls desc, version, step
    limit    5000
""")  # noqa: S608 - constants of this package


async def steps_by_version(
    snapshot: Snapshot, params: PlaybookParams
) -> PlaybookAnswer[StepsByVersion]:
    """How do the steps of one playbook compare between its versions, in at most 7 days?

    If there are more than 10,000 calls, only the newest executions are counted, and the answer says
    since when.
    """
    return await _answer(snapshot, _STEPS, params, StepsByVersion, "calls")


async def _answer(
    snapshot: Snapshot, statement: Statement, params: PlaybookParams, kind: type[_R], counted: str
) -> PlaybookAnswer[_R]:
    """Return the rows of the statement. Without any, it has one record that counted nothing."""
    values = params.values(snapshot.read_at)
    since = values["since"]
    if params.version is None:
        ((hour,),) = await snapshot.untyped_rows(_TOO_MANY, values)
        values["since"] = max(since, hour or since)
    records = [dict(record) for record in await snapshot.untyped_rows(statement, values)]
    (bound,) = {record.pop("bound") for record in records}
    return PlaybookAnswer[_R](
        rows=[kind(**record) for record in records if record[counted] is not None],
        since=bound or values["since"],
        truncated=bound is not None or values["since"] > since,
        **snapshot.freshness_fields,
    )


class DeploymentsParams(WindowParams, frozen=True, kw_only=True):
    """Parameters. The window applies to first_at."""

    playbook: Texts | None = None


class Deployment(ApiRow, frozen=True, kw_only=True):
    """`first_at` is when the first execution of this version began."""

    playbook: str
    version: str | None
    first_at: Timestamp


_DEPLOYMENTS: Final = Statement("""
    select   playbook, version, first_at
    from     projector.deployments
    where    first_at >= :since::timestamptz and first_at < :until::timestamptz
    and      (:playbook::text[] is null or playbook = any(:playbook))
    order by first_at desc, playbook, version
    limit    500
""")


async def deployments(snapshot: Snapshot, params: DeploymentsParams) -> ApiAnswer[Deployment]:
    """Which versions of playbooks began for the first time? The latest first.

    Retention deletes executions, but a version keeps its first time.
    """
    since, until = params.rounded_bounds(snapshot.read_at)
    values = {"since": since, "until": until, "playbook": params.playbook}
    return await run_query(snapshot, _DEPLOYMENTS, values, Deployment)
