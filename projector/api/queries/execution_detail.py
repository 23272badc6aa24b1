"""Shows one execution: its status, calls, events, rejected records, ancestors, and descendants."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from projector.api.answers import ApiAnswer, ApiRow, PagedAnswer, Timestamp
from projector.api.api_errors import NotFoundError
from projector.api.parameters import AttemptNumbers, PagedParams, Parameters, Texts, parse_path_id
from projector.api.queries.call_lists import CALL_COLUMNS, CallRow
from projector.api.queries.execution_lists import (
    EXECUTION_COLUMNS,
    ExecutionRow,
    StuckReason,
    with_stuck_reasons,
)
from projector.api.queries.quarantine_lists import QUARANTINED_RECORD_COLUMNS, QuarantinedRecord
from projector.api.queries.query_answers import run_paged, run_query
from projector.api.snapshots import Snapshot, Statement

_EXECUTION = Statement(f"""
    select {EXECUTION_COLUMNS}
    from   projector.executions
    where  execution_id = :id::bigint
""")  # noqa: S608 - constants of this package


class ExecutionParams(Parameters, frozen=True, kw_only=True):
    wait: (
        Annotated[
            str,
            Meta(
                pattern=r"^([1-9]|[1-5][0-9]|60)s(?!\n)$",
                description="Answer when the execution has ended, or after this time, for example "
                "30s. You can wait for an execution that has no event yet. At most 500 requests "
                "can wait at the same time. Others are answered at once.",
                extra={"expected": "a time from 1s to 60s"},
            ),
        ]
        | None
    ) = None


async def execution(
    snapshot: Snapshot, _params: ExecutionParams, execution_id: str
) -> ApiAnswer[ExecutionRow]:
    """What is the status of one execution, and what does it wait for if it is stuck?"""
    answer = await run_query(
        snapshot, _EXECUTION, {"id": parse_path_id(execution_id)}, ExecutionRow
    )
    if not answer.rows:
        raise NotFoundError("there is no such execution")
    return msgspec.structs.replace(answer, rows=await with_stuck_reasons(snapshot, answer.rows))


class OrderedCall(CallRow, frozen=True, kw_only=True):
    """A call of an execution, with its position among the calls of the same step and iteration.

    `ordinal` is that position in the order of time, counted from 0. It usually equals `attempts`.
    It's greater if the step was issued again as a new command, because the attempts of a new
    command begin at 0 again.
    """

    ordinal: int


# The subquery selects the attempts on one page, and the join then looks up each call by its key. If
# the query joined all attempts with all calls first, PostgreSQL might compare every attempt with
# every call.
_EXECUTION_CALLS = Statement(f"""
    select   {CALL_COLUMNS}, attempt.ordinal, call.begun_at as after_at, call.step as after_step,
             call.command_id as after_command, call.attempts as after_attempts
    from     (
                 select   *
                 from     projector.attempts_in_order
                 where    execution_id = :id::bigint
                 and      (
                              :after_at::timestamptz is null
                              or (begun_at, step, command_id, attempts)
                                 > (:after_at, :after_step::text, :after_command::text,
                                    :after_attempts::integer)
                          )
                 order by begun_at, step, command_id, attempts
                 limit    :limit::integer
             ) as attempt
    join     projector.calls as call
             on  call.execution_id = attempt.execution_id
             and call.command_id = attempt.command_id
             and call.attempts = attempt.attempts
    order by call.begun_at, call.step, call.command_id, call.attempts
""")  # noqa: S608 - constants of this package


async def execution_calls(
    snapshot: Snapshot, params: PagedParams, execution_id: str
) -> PagedAnswer[OrderedCall]:
    """Which calls were made in one execution, in order?"""
    return await run_paged(
        snapshot, _EXECUTION_CALLS, params, OrderedCall, id=parse_path_id(execution_id)
    )


class TimelineParams(PagedParams, frozen=True, kw_only=True):
    step: Texts | None = None
    event_type: Texts | None = None
    status: Texts | None = None
    attempts: AttemptNumbers | None = None
    command: Texts | None = None


class TimelineEvent(ApiRow, frozen=True, kw_only=True):
    """An event of an execution, in the order of time.

    `coerced` is true if a rule changed or guessed the meaning of a value. `numbered` is true if the
    producer sent the number of the attempt. Otherwise `attempts` is 0, whichever attempt it was.
    """

    event_id: str
    created_at: Timestamp
    event_type: str
    step: str
    status: str
    attempts: int
    command_id: str | None
    iteration: int | None
    worker_id: str | None
    duration: float | None
    error: str | None
    shape: str
    coerced: bool
    numbered: bool


_TIMELINE = Statement("""
    select   event_id::text, created_at, event_type, step, status, attempts, command_id, iteration,
             worker_id, duration, left(error, 1000) as error, shape,
             coercions is not null as coerced, evidence >= 100 as numbered,
             created_at as after_at, event_id as after_id
    from     projector.execution_timeline
    where    execution_id = :id::bigint
    and      (:step::text[] is null or step = any(:step))
    and      (:event_type::text[] is null or event_type = any(:event_type))
    and      (:status::text[] is null or status = any(:status))
    and      (:attempts::integer[] is null or attempts = any(:attempts))
    and      (:command::text[] is null or command_id = any(:command))
    and      (
                 :after_at::timestamptz is null
                 or (created_at, execution_timeline.event_id) > (:after_at, :after_id::bigint)
             )
    order by created_at, execution_timeline.event_id
    limit    :limit::integer
""")


async def execution_events(
    snapshot: Snapshot, params: TimelineParams, execution_id: str
) -> PagedAnswer[TimelineEvent]:
    """What happened in one execution, event by event?"""
    return await run_paged(
        snapshot, _TIMELINE, params, TimelineEvent, id=parse_path_id(execution_id)
    )


_REJECTED = Statement(f"""
    select   {QUARANTINED_RECORD_COLUMNS}, quarantine_id as after_id
    from     projector.quarantine_records
    where    execution_id = :id::bigint
    and      (
                 :after_id::bigint is null
                 or quarantine_records.quarantine_id < :after_id
             )
    order by quarantine_records.quarantine_id desc
    limit    :limit::integer
""")  # noqa: S608 - constants of this package


async def execution_rejected_records(
    snapshot: Snapshot, params: PagedParams, execution_id: str
) -> PagedAnswer[QuarantinedRecord]:
    """Which records of one execution were rejected, and why? The newest first."""
    return await run_paged(
        snapshot, _REJECTED, params, QuarantinedRecord, id=parse_path_id(execution_id)
    )


_MOST_LEVELS_ABOVE: Final = 20
_MOST_LEVELS_BELOW: Final = 8
"""The most levels of the tree below the execution."""
_MOST_NODES: Final = 500


class TreeNode(StuckReason, frozen=True, kw_only=True):
    """An execution in the tree of its ancestors and descendants.

    `depth` is 0 for the requested execution, -1 for its parent, and 1 for its children. `children`
    counts the executions that this one has started. To print the rows as a tree, indent each by its
    `depth`: the most distant ancestor comes first, and each execution comes before those that it
    started. `silent_s`, `waits_for`, and the fields after it have the same meaning as in
    /executions.
    """

    parent_execution_id: str | None
    depth: int
    playbook: str
    status: str
    first_at: Timestamp
    last_at: Timestamp
    ended_at: Timestamp | None
    duration_s: float | None
    events: int
    failed_calls: int
    children: int


class TreeAnswer(ApiAnswer[TreeNode], frozen=True, kw_only=True):
    """At most 500 executions, 20 levels above and 8 below. `truncated`: there are more."""

    truncated: bool


async def execution_tree(snapshot: Snapshot, _params: Parameters, execution_id: str) -> TreeAnswer:
    """Which executions started this one, and which did it start?"""
    nodes = await snapshot.rows(
        _TREE,
        {
            "id": parse_path_id(execution_id),
            # One more level, to see whether there is one.
            "above": _MOST_LEVELS_ABOVE + 1,
            "below": _MOST_LEVELS_BELOW + 1,
            "limit": _MOST_NODES + 1,
        },
        TreeNode,
    )
    if not nodes:
        raise NotFoundError("there is no such execution")
    within = [node for node in nodes if -_MOST_LEVELS_ABOVE <= node.depth <= _MOST_LEVELS_BELOW]
    rows = await with_stuck_reasons(snapshot, within[:_MOST_NODES])
    return TreeAnswer(rows=rows, truncated=len(rows) < len(nodes), **snapshot.freshness_fields)


# Finds the ancestors and descendants of an execution. An execution may wrongly name one of its own
# descendants as its parent. The walk ends there, because its path already contains that execution.
_TREE: Final = Statement("""
    with recursive above (execution_id, parent_execution_id, depth, path) as (
        select execution_id, parent_execution_id, 0, array[execution_id]
        from   projector.executions
        where  execution_id = :id::bigint
        union all
        select parent.execution_id, parent.parent_execution_id, above.depth - 1,
               above.path || parent.execution_id
        from   above
        join   projector.executions as parent
               on  parent.execution_id = above.parent_execution_id
        where  above.depth > -(:above::integer)
        and    parent.execution_id <> all (above.path)
    ),
    below (execution_id, depth, path) as (
        select :id, 0, array[]::text[]
        union all
        select child.execution_id, below.depth + 1,
               below.path || (extract(epoch from child.first_at)::text || ' ' || child.execution_id)
        from   below
        join   projector.executions as child on child.parent_execution_id = below.execution_id
        where  below.depth < :below::integer
        and    child.execution_id not in (select execution_id from above)
    ),
    node as (
        (
            select   execution_id, depth, array[]::text[] as path
            from     above
        )
        union all
        (
            select   execution_id, depth, path
            from     below
            where    depth > 0
            limit    :limit::integer
        )
    )
    select   one.execution_id::text, one.parent_execution_id::text, node.depth, one.playbook,
             one.status, one.first_at, one.last_at, one.ended_at, one.duration_s, one.events,
             one.failed_calls,
             (
                 select count(*)::integer
                 from   projector.executions as child
                 where  child.parent_execution_id = one.execution_id
             ) as children
    from     node
    join     projector.executions as one using (execution_id)
    order by node.depth >= 0, case when node.depth < 0 then node.depth end, node.path,
             one.execution_id
    limit    :limit
""")
