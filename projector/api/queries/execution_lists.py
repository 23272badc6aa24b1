"""Lists executions: all, those with contradicting ends, and completed ones with failed calls."""

from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from projector.api.answers import ApiRow, PagedAnswer, Timestamp
from projector.api.parameters import (
    ExecutionStatuses,
    Ids,
    PagedWindowParams,
    Texts,
    TraceId,
)
from projector.api.queries.query_answers import run_paged
from projector.api.snapshots import Snapshot, Statement


class ExecutionsParams(PagedWindowParams, frozen=True, kw_only=True):
    playbook: Texts | None = None
    version: Texts | None = None
    status: ExecutionStatuses | None = None
    execution: Ids | None = None
    parent: Ids | None = None
    command: Texts | None = None
    error_class: Texts | None = None
    trace: TraceId | None = None
    time: Annotated[
        Literal["first_at", "ended_at"],
        Meta(description="The time to which the window and the order apply."),
    ] = "first_at"


WaitsFor = Literal["claim", "start", "finish", "next"]
"""What has to happen next in a stuck execution (see StuckReason)."""


class StuckReason(ApiRow, frozen=True, kw_only=True):
    """Why an execution is stuck: it has had no event for 5 minutes, and no child of it runs.

    `waits_for` says what has to happen next to the open call that has waited longest: a worker must
    `claim`, `start`, or `finish` it. If no call is open, `waits_for` is `next`, because the engine
    should have issued the next step. `waits_child` is then an execution that this one started and
    that is stuck too. All of these fields are null if the execution isn't stuck.
    """

    execution_id: str
    silent_s: float | None = None
    waits_for: WaitsFor | None = None
    waits_step: str | None = None
    waits_attempts: int | None = None
    waits_worker: str | None = None
    waits_command: str | None = None
    open_calls: int | None = None
    waits_child: str | None = None


class ExecutionRow(StuckReason, frozen=True, kw_only=True):
    """An execution, and why it's stuck if it is.

    `status` is RUNNING until the first end event, which sets the final status. If another end event
    reports a different status, `contradicting` is true. `silent_s`, `waits_for`, and the fields
    after it are null unless the execution is stuck.
    """

    playbook: str
    version: str | None
    status: str
    first_at: Timestamp
    last_at: Timestamp
    ended_at: Timestamp | None
    duration_s: float | None
    events: int
    highest_attempts: int | None
    failed_calls: int
    contradicting: bool
    active_after_end: bool
    last_event_type: str
    last_step: str
    catalog_id: str | None
    parent_execution_id: str | None


EXECUTION_COLUMNS = """
    execution_id::text, playbook, version, status, first_at, last_at, ended_at, duration_s, events,
    highest_attempts, failed_calls, contradicting, active_after_end, last_event_type, last_step,
    catalog_id::text, parent_execution_id::text
"""

_R = TypeVar("_R", bound=StuckReason)

_STUCK_REASONS = Statement("""
    select reason.execution_id::text, silent_s, waits_for, step as waits_step,
           attempts as waits_attempts, worker_id as waits_worker, command_id as waits_command,
           open_calls, child.execution_id as waits_child
    from   projector.stuck_reasons as reason
    left join lateral (
        select   execution_id::text
        from     projector.executions
        where    parent_execution_id = reason.execution_id and status = 'RUNNING'
        and      execution_id <> reason.execution_id
        order by first_at desc, execution_id desc
        limit    1
    ) as child on waits_for = 'next'
    where  reason.execution_id = any(:execution::bigint[])
""")


async def with_stuck_reasons(snapshot: Snapshot, rows: list[_R]) -> list[_R]:
    """Return the executions with the reason why each one is stuck, if it is."""
    running = [int(row.execution_id) for row in rows if getattr(row, "ended_at", None) is None]
    if not running:
        return rows
    found = await snapshot.untyped_rows(_STUCK_REASONS, {"execution": running})
    reasons = {record["execution_id"]: dict(record) for record in found}
    return [msgspec.structs.replace(row, **reasons.get(row.execution_id, {})) for row in rows]


# The filters collect ids in an array, because PostgreSQL can look up an array in an index, but not
# a subquery that follows an `or`. `failed_from` keeps the search for failed calls short, because no
# wanted call ends before it.
def _executions(time: str, hour: str, failed_from: str) -> Statement:
    return Statement(f"""
    select   {EXECUTION_COLUMNS}, {time} as after_at, execution_id as after_id
    from     projector.executions
    where    {hour} >= projector.to_hour(:since::timestamptz) and {hour} < :until::timestamptz
    and      {time} >= :since and {time} < :until
    and      (:playbook::text[] is null or playbook = any(:playbook))
    and      (:version::text[] is null or version = any(:version))
    and      (:status::text[] is null or status = any(:status))
    and      (:parent::bigint[] is null or executions.parent_execution_id = any(:parent))
    and      (:execution::bigint[] is null or execution_id = any(:execution))
    and      (
                 :command::text[] is null
                 or execution_id = any(array(
                     select execution_id from projector.calls where command_id = any(:command)
                 ))
             )
    and      (
                 :error_class::text[] is null
                 or exists (
                     select
                     from   projector.failed_calls as call
                     where  call.execution_id = executions.execution_id
                     and    call.error_class = any(:error_class)
                     and    call.finished_at >= {failed_from}
                 )
             )
    and      (
                 :trace::text is null
                 or execution_id = any(array(
                     select execution_id from projector.find_events_by_trace(:trace)
                 ))
             )
    and      (
                 :after_at::timestamptz is null
                 or ({hour}, {time}, executions.execution_id)
                    < (projector.to_hour(:after_at), :after_at, :after_id::bigint)
             )
    order by {hour} desc, {time} desc, executions.execution_id desc
    limit    :limit::integer
    """)  # noqa: S608 - constants of this package


_EXECUTIONS: Final = {
    "first_at": _executions("first_at", "hour", ":since"),
    "ended_at": _executions("ended_at", "projector.to_hour(ended_at)", "'-infinity'"),
}


async def executions(snapshot: Snapshot, params: ExecutionsParams) -> PagedAnswer[ExecutionRow]:
    """Which executions are there, and what is their status? Latest first."""
    page = await run_paged(snapshot, _EXECUTIONS[params.time], params, ExecutionRow)
    return msgspec.structs.replace(page, rows=await with_stuck_reasons(snapshot, page.rows))


class EndedExecutionsParams(PagedWindowParams, frozen=True, kw_only=True):
    playbook: Texts | None = None


class Contradiction(ApiRow, frozen=True, kw_only=True):
    """An execution with end events that disagree, or with other events after its end.

    For each kind of end there's the time of its first event. For the other events there's the time
    of the last one.
    """

    execution_id: str
    playbook: str
    status: str
    ended_at: Timestamp
    completed_at: Timestamp | None
    failed_at: Timestamp | None
    cancelled_at: Timestamp | None
    last_activity_at: Timestamp | None
    contradicting: bool
    active_after_end: bool


_CONTRADICTIONS = Statement("""
    select   execution_id::text, playbook, status, ended_at, completed_at, failed_at, cancelled_at,
             last_activity_at, contradicting, active_after_end, ended_at as after_at,
             execution_id as after_id
    from     projector.contradicting_executions
    where    hour >= projector.to_hour(:since::timestamptz) and hour < :until::timestamptz
    and      ended_at >= :since and ended_at < :until
    and      (:playbook::text[] is null or playbook = any(:playbook))
    and      (
                 :after_at::timestamptz is null
                 or (hour, ended_at, contradicting_executions.execution_id)
                    < (projector.to_hour(:after_at), :after_at, :after_id::bigint)
             )
    order by hour desc, ended_at desc, contradicting_executions.execution_id desc
    limit    :limit::integer
""")


async def contradicting_executions(
    snapshot: Snapshot, params: EndedExecutionsParams
) -> PagedAnswer[Contradiction]:
    """Which executions ended with two different statuses, or continued after their end?"""
    return await run_paged(snapshot, _CONTRADICTIONS, params, Contradiction)


class CompletedWithFailures(ApiRow, frozen=True, kw_only=True):
    """`failed_calls` counts its failed calls, including those that a later retry recovered."""

    execution_id: str
    playbook: str
    ended_at: Timestamp
    failed_calls: int
    last_failed_at: Timestamp


_FLAWED = Statement("""
    select   execution_id::text, playbook, ended_at, failed_calls, last_failed_at,
             ended_at as after_at, execution_id as after_id
    from     projector.completed_with_failures
    where    hour >= projector.to_hour(:since::timestamptz) and hour < :until::timestamptz
    and      ended_at >= :since and ended_at < :until
    and      (:playbook::text[] is null or playbook = any(:playbook))
    and      (
                 :after_at::timestamptz is null
                 or (hour, ended_at, completed_with_failures.execution_id)
                    < (projector.to_hour(:after_at), :after_at, :after_id::bigint)
             )
    order by hour desc, ended_at desc, completed_with_failures.execution_id desc
    limit    :limit::integer
""")


async def completed_with_failures(
    snapshot: Snapshot, params: EndedExecutionsParams
) -> PagedAnswer[CompletedWithFailures]:
    """Which executions completed although one of their calls failed?"""
    return await run_paged(snapshot, _FLAWED, params, CompletedWithFailures)
