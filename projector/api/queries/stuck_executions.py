"""Lists stuck executions, and executions whose calls have all finished but that never ended."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from projector.api.answers import ApiAnswer, ApiRow, PagedAnswer, Timestamp
from projector.api.parameters import Ids, PagedParams, Parameters, Texts
from projector.api.queries.execution_lists import StuckReason, WaitsFor, with_stuck_reasons
from projector.api.queries.query_answers import run_paged, run_query
from projector.api.snapshots import Snapshot, Statement


class StuckGroupsParams(Parameters, frozen=True, kw_only=True):
    playbook: Texts | None = None


class StuckExecutionsParams(PagedParams, frozen=True, kw_only=True):
    playbook: Texts | None = None
    execution: Ids | None = None
    silent_for: (
        Annotated[
            tuple[Literal["under 1 h", "under 1 day", "under 7 days", "7 days and more"], ...],
            Meta(
                min_length=1, max_length=4, description="Only these. May be given more than once."
            ),
        ]
        | None
    ) = None
    waits_for: (
        Annotated[
            tuple[WaitsFor, ...],
            Meta(
                min_length=1, max_length=4, description="Only these. May be given more than once."
            ),
        ]
        | None
    ) = None
    begun: (
        Annotated[
            Literal["true", "false"],
            Meta(
                description="Whether the execution has a start event. `false` finds those of which "
                "only later events were read."
            ),
        ]
        | None
    ) = None


class StuckGroup(ApiRow, frozen=True, kw_only=True):
    """Stuck executions that have been silent for about as long. `begun`: with a start event."""

    silent_for: str
    begun: bool
    executions: int
    shortest_s: float
    longest_s: float


_STUCK_GROUPS = Statement("""
    select   silent_for, begun, count(*) as executions, min(silent_s) as shortest_s,
             max(silent_s) as longest_s
    from     projector.stuck_executions
    where    (:playbook::text[] is null or playbook = any(:playbook))
    group by silent_for, begun
    order by begun desc, longest_s
""")


async def stuck_by_age(snapshot: Snapshot, params: StuckGroupsParams) -> ApiAnswer[StuckGroup]:
    """How many executions are stuck (not ended, silent for 5 minutes), by time of silence?"""
    return await run_query(snapshot, _STUCK_GROUPS, {"playbook": params.playbook}, StuckGroup)


class StuckByReason(ApiRow, frozen=True, kw_only=True):
    """Stuck executions that wait for the same (see StuckReason). `begun`: with a start event."""

    waits_for: WaitsFor
    begun: bool
    executions: int


_BY_REASON = Statement("""
    select   waits_for, begun, count(*) as executions
    from     projector.stuck_reasons
    where    (:playbook::text[] is null or playbook = any(:playbook))
    group by waits_for, begun
    order by executions desc, waits_for, begun
""")


async def stuck_by_reason(
    snapshot: Snapshot, params: StuckGroupsParams
) -> ApiAnswer[StuckByReason]:
    """How many executions are stuck because of a claim, a start, a finish, or no open call?"""
    return await run_query(snapshot, _BY_REASON, {"playbook": params.playbook}, StuckByReason)


class StuckExecution(StuckReason, frozen=True, kw_only=True):
    """An execution that hasn't ended and has had no event for 5 minutes.

    Those that wait for a running child are left out, unless no worker has claimed one of their
    calls.

    `age_s` is the time since its first event, and `silent_s` the time since its last one. `begun`
    is false if its start event is missing, for example because Kafka deleted it before it was read.
    `waits_for` and the fields after it have the same meaning as in /executions.
    """

    playbook: str
    begun: bool
    silent_for: str
    first_at: Timestamp
    last_at: Timestamp
    age_s: float
    silent_s: float
    last_event_type: str
    last_step: str
    events: int
    highest_attempts: int | None


_STUCK = Statement("""
    select   execution_id::text, playbook, begun, silent_for, first_at, last_at, age_s, silent_s,
             last_event_type, last_step, events, highest_attempts, last_at as after_at,
             execution_id as after_id
    from     projector.stuck_executions
    where    (:playbook::text[] is null or playbook = any(:playbook))
    and      (:execution::bigint[] is null or execution_id = any(:execution))
    and      (:silent_for::text[] is null or silent_for = any(:silent_for))
    and      (:begun::text is null or begun = (:begun = 'true'))
    and      (
                 :waits_for::text[] is null
                 or execution_id = any(array(
                     select execution_id
                     from   projector.stuck_reasons
                     where  waits_for = any(:waits_for)
                 ))
             )
    and      (
                 :after_at::timestamptz is null
                 or (last_at, stuck_executions.execution_id) > (:after_at, :after_id::bigint)
             )
    order by last_at, stuck_executions.execution_id
    limit    :limit::integer
""")


async def stuck_executions(
    snapshot: Snapshot, params: StuckExecutionsParams
) -> PagedAnswer[StuckExecution]:
    """Which executions are stuck (not ended, silent for 5 minutes), and why? Longest first."""
    page = await run_paged(snapshot, _STUCK, params, StuckExecution)
    return msgspec.structs.replace(page, rows=await with_stuck_reasons(snapshot, page.rows))


class ExecutionsWithoutEndParams(PagedParams, frozen=True, kw_only=True):
    playbook: Texts | None = None


class ExecutionWithoutEnd(ApiRow, frozen=True, kw_only=True):
    """An execution whose calls have all finished but that hasn't ended.

    `silent_s` is the number of seconds since its last event. It's null while no process reads the
    partition, because there may be newer events that nobody has read yet. `waits_child` is an
    execution that this one started and that hasn't ended.
    """

    execution_id: str
    playbook: str
    calls: int
    last_finished_at: Timestamp
    last_at: Timestamp
    silent_s: float | None
    waits_child: str | None


_OPEN_ENDED = Statement("""
    select   execution_id::text, playbook, calls, last_finished_at, last_at, silent_s,
             (
                 select   child.execution_id::text
                 from     projector.executions as child
                 where    child.parent_execution_id = executions_without_end.execution_id
                 and      child.status = 'RUNNING'
                 and      child.execution_id <> executions_without_end.execution_id
                 order by child.first_at desc, child.execution_id desc
                 limit    1
             ) as waits_child,
             hour as after_hour, execution_id as after_id
    from     projector.executions_without_end
    where    (:playbook::text[] is null or playbook = any(:playbook))
    and      (
                 :after_hour::timestamptz is null
                 or (hour, executions_without_end.execution_id) > (:after_hour, :after_id::bigint)
             )
    order by hour, executions_without_end.execution_id
    limit    :limit::integer
""")


async def executions_without_end(
    snapshot: Snapshot, params: ExecutionsWithoutEndParams
) -> PagedAnswer[ExecutionWithoutEnd]:
    """Which executions have finished all their calls but have not ended? Oldest first."""
    return await run_paged(snapshot, _OPEN_ENDED, params, ExecutionWithoutEnd)
