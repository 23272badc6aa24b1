"""Corrects projections that differ from the events, while writers and readers continue.

A repair runs `verify`, corrects each range in which it finds a difference, and compares that range
again. It rebuilds an execution and its calls from their events, under the lock of the execution. It
corrects a counter with one statement that computes the difference between the expected and the
actual count, and adds it. Writers only add to counters too, so the sum is right in any order, and
nobody has to wait.

Executions are repaired first, then their calls, and then the counters that are computed from both.
Last come the divergences that were found in the meantime. If a repair is killed, what it has
corrected stays correct, and what it hasn't is still an open divergence. Run the same command again
to continue.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Final

import asyncpg
import msgspec

from projector.chunks import ChunkRunner
from projector.database_session import transact_with_lock_retry
from projector.verify.divergences import store_verdict
from projector.verify.queries import COMPARISONS, Comparison
from projector.verify.ranges import VerifyRange, VerifyScope
from projector.verify.row_comparison import RowDifferences, hash_join_transaction
from projector.verify.verdict import ProjectionVerdict
from projector.verify.verify import verify

_REPAIR_SHARD: Final = 64
"""The shard that only repairs write to. `maintain` compacts it together with the others."""

_CHUNK_TARGET_S: Final = 0.1
"""Target time of one transaction, and so the longest that writers of its executions wait."""

_MAX_EXECUTIONS_PER_CHUNK: Final = 500

_OPEN_DIVERGENCES: Final = VerifyScope(only_open_divergences=True)
_TOO_MUCH: Final = (
    asyncpg.QueryCanceledError,
    asyncpg.DataError,
    asyncpg.CardinalityViolationError,
    asyncpg.RaiseError,
    asyncpg.ProgramLimitExceededError,
)
"""Errors that depend on how many executions a statement repairs, or on which ones."""


class RepairRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A repair of a scope, of only its counters, or (None) of nothing but the open divergences."""

    scope: VerifyScope | None = None
    only_counters: bool = False


async def repair(
    connection: asyncpg.Connection,
    request: RepairRequest,
    *,
    activity: Callable[[str], None] = lambda _: None,
) -> AsyncGenerator[ProjectionVerdict, None]:
    """Repair the scope of the request, then every open divergence, and yield a verdict on each.

    The caller must hold `maintenance_lock`, so that no other repair runs. `activity` is called with
    a phrase about each step, for example "repairing 12 executions", to report progress.
    """
    if request.scope is not None:
        async for verdict in _repaired(connection, request.scope, request, activity):
            yield verdict
    async for verdict in _repaired(connection, _OPEN_DIVERGENCES, RepairRequest(), activity):
        yield verdict


async def preview_repair(
    connection: asyncpg.Connection, request: RepairRequest
) -> AsyncIterator[ProjectionVerdict]:
    """Yield the verdicts that `repair` would find at first. Changes nothing."""
    scope = request.scope or _OPEN_DIVERGENCES
    async for verdict in verify(connection, scope, comparisons=_compared(scope, request)):
        yield verdict


async def repair_executions(connection: asyncpg.Connection, execution_ids: Sequence[int]) -> None:
    """Rebuild these executions and their calls from their events, in the order of their ids.

    Writers of an execution have to wait while it's rebuilt. So each transaction rebuilds only as
    many as it can in about a tenth of a second. An execution that can't be rebuilt stays as it is,
    and the next comparison reports it.
    """

    async def rebuild(chunk: Sequence[int]) -> None:
        async def work() -> None:
            await connection.execute("select repair_executions($1::bigint[])", chunk)

        await transact_with_lock_retry(connection, work)

    chunks = ChunkRunner(
        size=1, most=_MAX_EXECUTIONS_PER_CHUNK, target_s=_CHUNK_TARGET_S, too_much=_TOO_MUCH
    )
    async for _ in chunks.run_yielding_failures(sorted(set(execution_ids)), rebuild):
        pass


async def _repaired(
    connection: asyncpg.Connection,
    scope: VerifyScope,
    request: RepairRequest,
    activity: Callable[[str], None],
) -> AsyncIterator[ProjectionVerdict]:
    async def repair_range(
        comparison: Comparison, verify_range: VerifyRange, found: RowDifferences
    ) -> None:
        activity(f"repairing {comparison.name}, {verify_range}")
        await _repair_range(connection, comparison, verify_range, found)

    if scope.execution_ids:
        activity(f"repairing {len(scope.execution_ids):,} executions")
        await repair_executions(connection, scope.execution_ids)
    compared = _compared(scope, request)
    async for verdict in verify(connection, scope, comparisons=compared, repair_range=repair_range):
        await store_verdict(connection, verdict)
        yield verdict


def _compared(scope: VerifyScope, request: RepairRequest) -> list[Comparison]:
    """Return the comparisons in repair order: executions, calls, then what's computed from them."""
    executions = [one for one in COMPARISONS if one.bounded_by == "executions"]
    counted = [one for one in COMPARISONS if one.bounded_by != "executions"]
    return (
        counted
        if request.only_counters
        else executions
        if scope.execution_ids
        else executions + counted
    )


async def _repair_range(
    connection: asyncpg.Connection,
    comparison: Comparison,
    verify_range: VerifyRange,
    found: RowDifferences,
) -> None:
    if comparison.bounded_by == "executions":
        ids = [at for at in found.differing_by_location if isinstance(at, int)]
        await repair_executions(connection, ids)
        return
    async with hash_join_transaction(connection, verify_range):
        await connection.execute(_add_differences(comparison), *verify_range.query_arguments)


def _add_differences(comparison: Comparison) -> str:
    """Build a statement that adds expected minus actual counts to the shard of repairs."""
    sums = comparison.sums
    return _ADD.format(
        table=comparison.name,
        actual=comparison.actual,
        expected=comparison.expected,
        keys=", ".join(comparison.keys),
        sums=", ".join(sums),
        summed=", ".join(f"sum(side.sign * typed.{one}) as {one}" for one in sums),
        differs=" or ".join(f"sum(side.sign * typed.{one}) <> 0" for one in sums),
        added=", ".join(f"{one} = counted.{one} + excluded.{one}" for one in sums),
        shard=_REPAIR_SHARD,
    )


_ADD: Final = """
    with side as (
        select 1 as sign, to_jsonb(t) as row from ({expected}) as t
        union all
        select -1, to_jsonb(t) from ({actual}) as t
    )
    insert into {table} as counted ({keys}, shard, {sums})
    select   {keys}, {shard}, {summed}
    from     side
    -- With the types and collations of the table.
    cross join lateral jsonb_populate_record(null::{table}, side.row) as typed
    group by {keys}
    having   {differs}
    order by {keys}
    on conflict ({keys}, shard) do update set {added}
"""
