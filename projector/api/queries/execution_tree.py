"""Finds the ancestors and descendants of an execution."""

from typing import Final

from projector.api.answers import ApiAnswer, Timestamp
from projector.api.api_errors import NotFoundError
from projector.api.parameters import Parameters, parse_id
from projector.api.queries.execution_lists import StuckReason, with_stuck_reasons
from projector.api.snapshots import Snapshot, Statement

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
            "id": parse_id(execution_id),
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
    return TreeAnswer(rows=rows, truncated=len(rows) < len(nodes), **snapshot.freshness)


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
