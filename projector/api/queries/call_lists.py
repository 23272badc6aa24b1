"""Lists calls with their times and errors, and calls that haven't finished."""

from typing import Annotated, Literal

from msgspec import Meta

from projector.api.answers import ApiAnswer, ApiRow, PagedAnswer, Timestamp
from projector.api.parameters import (
    AttemptNumbers,
    CallStatuses,
    Ids,
    PagedWindowParams,
    Texts,
    TraceId,
    WindowParams,
)
from projector.api.queries.query_answers import run_paged, run_query
from projector.api.snapshots import Snapshot, Statement


class CallsParams(PagedWindowParams, frozen=True, kw_only=True):
    playbook: Texts | None = None
    step: Texts | None = None
    attempts: AttemptNumbers | None = None
    status: CallStatuses | None = None
    worker: Texts | None = None
    execution: Ids | None = None
    command: Texts | None = None
    error_class: Texts | None = None
    version: Texts | None = None
    parent: Ids | None = None
    trace: TraceId | None = None
    failed: (
        Annotated[
            Literal["true", "false"],
            Meta(description="Whether the call ended FAILED, ERROR, or CANCELLED."),
        ]
        | None
    ) = None


class CallRow(ApiRow, frozen=True, kw_only=True):
    """One attempt of a command. In `attempts`, 0 is the first attempt.

    `status` is PENDING, CLAIMED, or RUNNING until the attempt ends. After that it's the outcome of
    the attempt. Some producers don't number attempts. `attribution` says how we know the number: an
    event declared it (`declared`), the command had no other attempt (`only`), or we inferred it
    from the order of the events (`inferred`).
    """

    execution_id: str
    playbook: str | None
    step: str
    command_id: str | None
    iteration: int | None
    attempts: int
    status: str
    begun_at: Timestamp
    issued_at: Timestamp | None
    claimed_at: Timestamp | None
    started_at: Timestamp | None
    finished_at: Timestamp | None
    duration_s: float | None
    queue_s: float | None
    backoff_s: float | None
    max_attempts: int | None
    exhausted: bool
    worker_id: str | None
    error: str | None
    error_class: str | None
    attribution: str


CALL_COLUMNS = """
    call.execution_id::text, call.playbook, call.step, call.command_id, call.iteration,
    call.attempts, call.status, call.begun_at, call.issued_at, call.claimed_at, call.started_at,
    call.finished_at, call.duration_s, call.queue_s, call.backoff_s, call.max_attempts,
    call.exhausted, call.worker_id, call.error, call.error_class, call.attribution
"""


# The filters collect ids in an array instead of using `in (select ...)`. PostgreSQL can't use an
# index for a subquery that follows an `or`. It would compare each row of the window with every id
# that the subquery returns. The ids of an array can be looked up in an index.
def _calls(of_error: str) -> Statement:
    return Statement(f"""
    select   {CALL_COLUMNS},
             coalesce(call.finished_at, call.begun_at) as after_at,
             call.execution_id as after_id, call.step as after_step,
             coalesce(call.command_id, '') as after_command,
             coalesce(call.iteration, -1) as after_iteration, call.attempts as after_attempts
    from     projector.calls as call
    where    call.hour >= projector.to_hour(:since::timestamptz)
    and      call.hour < :until::timestamptz
    and      coalesce(call.finished_at, call.begun_at) >= :since
    and      coalesce(call.finished_at, call.begun_at) < :until
    and      (:playbook::text[] is null or call.playbook = any(:playbook))
    and      (:step::text[] is null or call.step = any(:step))
    and      (:attempts::integer[] is null or call.attempts = any(:attempts))
    and      (:status::text[] is null or call.status = any(:status))
    and      (:worker::text[] is null or coalesce(call.worker_id, '') = any(:worker))
    and      (:execution::bigint[] is null or call.execution_id = any(:execution))
    and      (:command::text[] is null or call.command_id = any(:command))
    and      (:version::text[] is null or call.version = any(:version))
    and      {of_error}
    and      (
                 :parent::bigint[] is null
                 or call.execution_id = any(array(
                     select execution_id
                     from   projector.executions
                     where  parent_execution_id = any(:parent)
                 ))
             )
    and      (
                 :trace::text is null
                 or call.execution_id = any(array(
                     select execution_id from projector.find_events_by_trace(:trace)
                 ))
             )
    and      (
                 :failed::text is null
                 or (call.status in ('FAILED', 'ERROR', 'CANCELLED')) = (:failed = 'true')
             )
    and      (
                 :after_at::timestamptz is null
                 or (call.hour, coalesce(call.finished_at, call.begun_at), call.execution_id,
                     call.step, coalesce(call.command_id, ''), coalesce(call.iteration, -1),
                     call.attempts)
                    < (projector.to_hour(:after_at), :after_at, :after_id::bigint,
                       :after_step::text, :after_command::text, :after_iteration::integer,
                       :after_attempts::integer)
             )
    order by call.hour desc, coalesce(call.finished_at, call.begun_at) desc,
             call.execution_id desc, call.step desc, coalesce(call.command_id, '') desc,
             coalesce(call.iteration, -1) desc, call.attempts desc
    limit    :limit::integer
    """)  # noqa: S608 - constants of this package


_CALLS = _calls(":error_class::text[] is null")
_CALLS_OF_ERROR = _calls("""
             (call.execution_id, call.command_id, call.attempts) in (
                 select execution_id, command_id, attempts
                 from   projector.failed_calls
                 where  error_class = any(:error_class::text[])
                 and    finished_at >= :since and finished_at < :until
             )
""")


async def calls(snapshot: Snapshot, params: CallsParams) -> PagedAnswer[CallRow]:
    """Which calls were there, and how did each end?

    Ordered by their end, or by their start if they still run, newest first.
    """
    statement = _CALLS if params.error_class is None else _CALLS_OF_ERROR
    return await run_paged(snapshot, statement, params, CallRow)


class OpenCallsParams(PagedWindowParams, frozen=True, kw_only=True):
    playbook: Texts | None = None
    step: Texts | None = None
    attempts: AttemptNumbers | None = None
    worker: Texts | None = None
    waits_for: (
        Annotated[
            tuple[Literal["claim", "start", "finish"], ...],
            Meta(
                min_length=1,
                max_length=3,
                description="What the call waits for. May be given more than once.",
            ),
        ]
        | None
    ) = None


class OpenCallRow(ApiRow, frozen=True, kw_only=True):
    """A call that hasn't finished.

    `waiting_s` is the time since it was issued, claimed, or started, or null if nobody reads its
    partition.
    """

    execution_id: str
    playbook: str | None
    step: str
    command_id: str | None
    iteration: int | None
    attempts: int
    worker_id: str | None
    waits_for: str
    since: Timestamp
    waiting_s: float | None


_EXECUTION_RUNS = """exists (
                 select
                 from   projector.executions as execution
                 where  execution.execution_id = call.execution_id and execution.status = 'RUNNING'
             )"""
_OPEN_CALLS = Statement(f"""
    select   call.execution_id::text, call.playbook, call.step, call.command_id, call.iteration,
             call.attempts, call.worker_id, call.waits_for, call.since, call.waiting_s,
             call.hour as after_hour, call.since as after_since, call.execution_id as after_id,
             call.step as after_step, coalesce(call.command_id, '') as after_command,
             coalesce(call.iteration, -1) as after_iteration, call.attempts as after_attempts
    from     projector.open_calls as call
    where    call.hour >= projector.to_hour(:since::timestamptz)
    and      call.hour < :until::timestamptz
    and      call.begun_at >= :since and call.begun_at < :until
    and      (:playbook::text[] is null or call.playbook = any(:playbook))
    and      (:step::text[] is null or call.step = any(:step))
    and      (:attempts::integer[] is null or call.attempts = any(:attempts))
    and      (:worker::text[] is null or coalesce(call.worker_id, '') = any(:worker))
    and      (:waits_for::text[] is null or call.waits_for = any(:waits_for))
    and      {_EXECUTION_RUNS}
    and      (
                 :after_hour::timestamptz is null
                 or (call.hour, call.since, call.execution_id, call.step,
                     coalesce(call.command_id, ''), coalesce(call.iteration, -1), call.attempts)
                    > (:after_hour, :after_since::timestamptz, :after_id::bigint,
                       :after_step::text, :after_command::text, :after_iteration::integer,
                       :after_attempts::integer)
             )
    order by call.hour, call.since, call.execution_id, call.step, coalesce(call.command_id, ''),
             coalesce(call.iteration, -1), call.attempts
    limit    :limit::integer
""")  # noqa: S608 - constants of this package


async def open_calls(snapshot: Snapshot, params: OpenCallsParams) -> PagedAnswer[OpenCallRow]:
    """Which calls of the window have not been claimed, started or finished?

    Calls of ended executions are left out, because nobody waits for them.
    """
    return await run_paged(snapshot, _OPEN_CALLS, params, OpenCallRow)


class OpenCallsByStepParams(WindowParams, frozen=True, kw_only=True):
    """Parameters. The window applies to the start of the calls."""

    playbook: Texts | None = None
    step: Texts | None = None


class OpenCallsByStep(ApiRow, frozen=True, kw_only=True):
    """Open calls of a step that wait for the same thing. longest_s: null without a reader."""

    waits_for: Literal["claim", "start", "finish"]
    step: str
    calls: int
    retries: int
    longest_s: float | None
    since: Timestamp


_OPEN = Statement(f"""
    select   waits_for, step, count(*)::integer as calls,
             (count(*) filter (where attempts > 0))::integer as retries,
             max(waiting_s) as longest_s, min(since) as since
    from     projector.open_calls as call
    where    hour >= projector.to_hour(:since::timestamptz) and hour < :until::timestamptz
    and      begun_at >= :since and begun_at < :until
    and      (:playbook::text[] is null or playbook = any(:playbook))
    and      (:step::text[] is null or step = any(:step))
    and      {_EXECUTION_RUNS}
    group by waits_for, step
    order by calls desc, waits_for, step
    limit    500
""")  # noqa: S608 - constants of this package


async def open_calls_by_step(
    snapshot: Snapshot, params: OpenCallsByStepParams
) -> ApiAnswer[OpenCallsByStep]:
    """What do unfinished calls wait for, by step, and how long does the longest wait?

    Calls of ended executions are left out, because nobody waits for them.
    """
    since, until = params.rounded_bounds(snapshot.read_at)
    filters = {"playbook": params.playbook, "step": params.step}
    return await run_query(
        snapshot, _OPEN, {"since": since, "until": until, **filters}, OpenCallsByStep
    )
