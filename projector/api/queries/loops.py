"""Counts the finished iterations of loops, for one execution or for all running ones."""

from projector.api.answers import ApiRow, PagedAnswer, Timestamp
from projector.api.parameters import PagedParams, PagedWindowParams, Texts, parse_path_id
from projector.api.queries.query_answers import run_paged
from projector.api.snapshots import Snapshot, Statement


class OpenLoopsParams(PagedWindowParams, frozen=True, kw_only=True):
    """Parameters. The window applies to the first event of the execution."""

    playbook: Texts | None = None
    step: Texts | None = None


class OpenLoop(ApiRow, frozen=True, kw_only=True):
    """A loop that isn't finished.

    `issued` is the number of iterations so far, and `done` is how many of them have completed. An
    iteration counts as `failed` if none of its attempts succeeded or is still running. `first_at`
    and `last_at` are the times of the first and the last event of the execution.
    """

    execution_id: str
    playbook: str
    step: str
    issued: int
    done: int
    failed: int
    first_at: Timestamp
    last_at: Timestamp


_OPEN_LOOPS = Statement("""
    select   loop.execution_id::text, execution.playbook, loop.step, loop.issued, loop.done,
             loop.failed, execution.first_at, execution.last_at, execution.first_at as after_at,
             loop.execution_id as after_id, loop.step as after_step
    from     projector.executions as execution
    join     projector.loops      as loop on loop.execution_id = execution.execution_id
    where    execution.hour >= projector.to_hour(:since::timestamptz)
    and      execution.hour < :until::timestamptz
    and      execution.first_at >= :since and execution.first_at < :until
    and      execution.status = 'RUNNING'
    and      loop.done + loop.failed < loop.issued
    and      (:playbook::text[] is null or execution.playbook = any(:playbook))
    and      (:step::text[] is null or loop.step = any(:step))
    and      (
                 :after_at::timestamptz is null
                 or (execution.hour, execution.first_at, loop.execution_id, loop.step)
                    > (projector.to_hour(:after_at), :after_at, :after_id::bigint,
                       :after_step::text)
             )
    order by execution.hour, execution.first_at, loop.execution_id, loop.step
    limit    :limit::integer
""")


async def open_loops(snapshot: Snapshot, params: OpenLoopsParams) -> PagedAnswer[OpenLoop]:
    """How far is each loop of a running execution that is not finished? Oldest first."""
    return await run_paged(snapshot, _OPEN_LOOPS, params, OpenLoop)


class Loop(ApiRow, frozen=True, kw_only=True):
    """A loop. `issued` is the number of its iterations.

    `done` counts those that completed, and `failed` those whose attempts have all ended without
    success.
    """

    step: str
    issued: int
    done: int
    failed: int


_EXECUTION_LOOPS = Statement("""
    select   step, issued, done, failed, step as after_step
    from     projector.loops
    where    execution_id = :id::bigint
    and      (:after_step::text is null or step > :after_step)
    order by step
    limit    :limit::integer
""")


async def execution_loops(
    snapshot: Snapshot, params: PagedParams, execution_id: str
) -> PagedAnswer[Loop]:
    """How far is each loop of one execution? By step."""
    return await run_paged(snapshot, _EXECUTION_LOOPS, params, Loop, id=parse_path_id(execution_id))
