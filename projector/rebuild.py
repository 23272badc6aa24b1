"""A unit of projections in, the same unit made anew from the log out, beside everybody's work.

cut: events is locked for a moment, the last batch noted, the shadow fed by every writer from then
-> fold: the rows up to that batch go through the very functions that feed it, in short transactions
-> adopt: what is archived cannot be folded any more, and is taken from the live tables
-> compare with the live tables, verify with the log -> swap; the old tables are fed on, so that
swapping back is true until they are dropped.

Killed at any moment, the live tables serve on, and the same command goes on where it stopped.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg
import msgspec

from normalizer.errors import NormalizerError
from projector import shadow
from projector.adoption import adopt
from projector.comparisons import COMPARISONS, Comparison
from projector.database import SNAPSHOT_S, patiently
from projector.maintain import alone
from projector.units import UNITS, Unit
from projector.verify import Verdict, verify
from projector.windows import Scope

CHUNK_S: Final = 0.05
"""How long a writer may have to wait for the fold: a chunk grows or shrinks to take about that."""

LEAST_EVENTS: Final = 100
MOST_EVENTS: Final = 20_000

CHUNK_LIMIT_S: Final = 1.0
"""A chunk that holds writers up for longer is given up, and tried again with fewer events."""

GIVEN_UP: Final = 20
"""So many chunks given up in a row, the last of a few events, are no chance any more."""

PAUSE_S: Final = 1.0

ANALYZED_FIRST: Final = 5_000
"""Events folded when the new tables are analyzed first; again whenever they are twice as many."""


class RebuildPending(NormalizerError):  # noqa: N818 - a state, not a mistake
    """Another rebuild is not finished: it must be, or be cancelled, first."""


class RebuildDiffers(NormalizerError):  # noqa: N818 - a state, not a mistake
    """What was made anew is not proven to be as the log says; nothing was swapped."""


class Progress(msgspec.Struct, frozen=True):
    """How far the fold is; `left_s` is None while nobody can tell."""

    folded: int
    events: int
    left_s: float | None

    def __str__(self) -> str:
        share = self.folded / self.events if self.events else 1.0
        left = "" if self.left_s is None else f", {self.left_s:.0f} s left"
        return f"folded {self.folded:,} of {self.events:,} events ({share:.0%}{left})"


class Comparing(msgspec.Struct, frozen=True):
    """Which comparison begins, of how many; `whole` is what the new tables are compared with."""

    projection: str
    whole: str
    number: int
    of: int

    def __str__(self) -> str:
        return f"comparing {self.projection} with {self.whole} ({self.number} of {self.of})"


class State(msgspec.Struct, frozen=True):
    """The row of projector.rebuild."""

    unit: str
    state: str
    version: str
    cut_batch: int
    events: int
    folded: int


Said = Progress | Comparing | Verdict | str


async def rebuild(
    connection: asyncpg.Connection,
    unit: Unit,
    *,
    restart: bool = False,
    share: float = 0.5,
    scope: Scope = Scope(),  # noqa: B008 - frozen
) -> AsyncGenerator[Said, None]:
    """Everything up to the swap, which is left to `swap`. Goes on with what was begun.

    `share` of the time is spent folding, the rest is the writers'. Raises RebuildPending, and
    RebuildDiffers where the new tables do not agree with the log.
    """
    async with _alone_as_owner(connection):
        state = await state_of(connection)
        if state is not None and state.unit != unit.name:
            raise RebuildPending(f"{state.unit} is being rebuilt: finish or cancel that first")
        if state is not None and state.state == "swapped":
            raise RebuildPending(f"{unit.name} was rebuilt: type --finish or --rollback first")
        version = await connection.fetchval("select max(version) from migrations.applied")
        if state is None or restart or state.version != version:
            yield f"cutting: {unit.name}, from the first event on"
            await _begin(connection, unit, version)
        else:
            yield "going on where it stopped"
        await shadow.create_feed(connection, unit)
        async for progress in _fold(connection, unit, share):
            yield progress
        adopted = await adopt(connection, unit)
        if adopted:
            yield f"took over what {adopted:,} archived rows are counted as"
        await connection.execute("update projector.rebuild set state = 'filled'")
        async for said in _compared(connection, unit, scope):
            yield said


async def swap(connection: asyncpg.Connection) -> str:
    """The new tables become the live ones, or the old ones again; one transaction."""
    state = await state_of(connection)
    if state is None or state.state == "filling":
        raise RebuildPending("there is nothing to swap: the rebuild is not done")
    unit = _unit(state)
    into = "filled" if state.state == "swapped" else "swapped"

    async def work() -> None:
        # Without writers in between, nobody waits for the tables but for a reader's moment.
        await connection.execute(_LOCK_EVENTS)
        await shadow.swap(connection, unit)
        await connection.execute(_MARK, into)

    async with _alone_as_owner(connection):
        await patiently(connection, work, asyncpg.QueryCanceledError)
    return f"swapped: the {'new' if into == 'swapped' else 'old'} {unit.name} are live"


async def drop(connection: asyncpg.Connection) -> str:
    """Drop the tables that are not live, swapped or not, and stop feeding them."""
    state = await state_of(connection)
    if state is None:
        raise RebuildPending("there is nothing to drop: no rebuild was begun")
    unit = _unit(state)

    async def work() -> None:
        await connection.execute(_LOCK_EVENTS)
        await shadow.drop(connection, unit)

    async with _alone_as_owner(connection):
        await patiently(connection, work)
    return f"dropped the {'old' if state.state == 'swapped' else 'new'} {unit.name}"


async def state_of(connection: asyncpg.Connection) -> State | None:
    """Where the rebuild stands that is not finished; None if there is none."""
    row = await connection.fetchrow(_STATE)
    return None if row is None else State(**row)


@asynccontextmanager
async def _alone_as_owner(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """The new tables and functions must belong to whom the live ones do."""
    async with alone(connection):
        await connection.execute(f"set role {await connection.fetchval(_OWNER)}")
        try:
            yield
        finally:
            if not connection.is_closed():
                await connection.execute("reset role")


async def _compared(
    connection: asyncpg.Connection, unit: Unit, scope: Scope
) -> AsyncIterator[Comparing | Verdict | str]:
    """Verdicts on the new tables. Raises RebuildDiffers where they are not as the log says."""
    sides = (("the live tables", _against_live(unit)), ("the log", _against_log(unit)))
    of = sum(len(comparisons) for _, comparisons in sides)
    number = 0
    for whole, comparisons in sides:
        yield f"against {whole}:"
        for comparison in comparisons:
            number += 1
            yield Comparing(comparison.name, whole, number, of)
            async for verdict in verify(connection, scope, comparisons=[comparison]):
                yield verdict
                if whole == "the log" and verdict.verdict != "match":
                    raise RebuildDiffers(
                        f"{verdict.projection} is not proven to be as the log says"
                    )


async def _begin(connection: asyncpg.Connection, unit: Unit, version: str) -> None:
    """Make the shadow and cut: from the lock on, every row is the writers' or the fold's."""

    async def work() -> None:
        await connection.execute(_LOCK_EVENTS)
        state = await state_of(connection)
        if state is not None:
            await shadow.drop(connection, _unit(state))
        await shadow.create(connection, unit)
        await connection.execute(_CUT)
        await shadow.attach(connection, unit)
        await connection.execute(_NOTE, unit.name, version)

    await patiently(connection, work)


async def _fold(
    connection: asyncpg.Connection, unit: Unit, share: float
) -> AsyncIterator[Progress]:
    """Every row up to the cut, in the order of ids, through the functions that feed the shadow."""
    state = await state_of(connection)
    assert state is not None
    began, begun_at, folded = time.monotonic(), state.folded, state.folded
    size, given_up, analyzed = LEAST_EVENTS, 0, 0
    while True:
        started = time.monotonic()
        try:
            chunk = await _fold_chunk(connection, size, CHUNK_LIMIT_S * (1 + given_up))
        except asyncpg.QueryCanceledError:
            given_up += 1
            if given_up == GIVEN_UP:
                raise
            # Whatever made it slow, a busy machine or a stale plan: fewer events, and fresh plans.
            size = max(size // 4, 1)
            await shadow.analyze(connection, unit)
            await asyncio.sleep(PAUSE_S)
            continue
        took = time.monotonic() - started
        if chunk is None:
            return
        given_up = 0
        folded += chunk
        rate = (folded - begun_at) / (time.monotonic() - began)
        left = max(state.events - folded, 0)
        yield Progress(folded, max(state.events, folded), left / rate if rate else None)
        wanted = round(size * CHUNK_S / took) if took else MOST_EVENTS
        size = min(max(LEAST_EVENTS, wanted), 2 * size, MOST_EVENTS)
        if folded >= max(2 * analyzed, ANALYZED_FIRST):
            # Plans of the fold and of every writer were made while the tables were empty.
            await shadow.analyze(connection, unit)
            analyzed = folded
        await asyncio.sleep(took * (1 / share - 1))


async def _fold_chunk(connection: asyncpg.Connection, size: int, limit_s: float) -> int | None:
    """How many rows of the next `size` ids went in; None behind the last.

    Alone at the gate: whoever feeds the shadow has committed, or has not begun to. Raises
    QueryCanceledError where one of its statements takes longer than the limit.
    """
    chunk: int | None = None
    limit_ms = round(min(limit_s, SNAPSHOT_S) * 1000)

    async def work() -> None:
        nonlocal chunk
        await connection.execute(f"select pg_advisory_xact_lock({shadow.GATE})")
        await connection.execute(f"set local statement_timeout = {limit_ms}")
        frontier: int = await connection.fetchval("select frontier from projector_next.cut")
        last: int | None = await connection.fetchval(_NEXT_FRONTIER, frontier, size)
        if last is None:
            chunk = None
            return
        await connection.execute("update projector_next.cut set frontier = $1::bigint", last)
        done = await connection.execute(FEED, frontier, last)
        chunk = int(done.rpartition(" ")[2])
        await connection.execute(_ADVANCE, chunk)

    await patiently(connection, work)
    return chunk


def _against_live(unit: Unit) -> list[Comparison]:
    """What the live tables show, beside what the new ones do."""
    return [
        msgspec.structs.replace(
            one,
            shown=one.shown.replace("shard >= 0", "true"),
            folded=shadow.in_shadow(one.shown, unit).replace("shard >= 0", "true"),
            archived=None,
        )
        for one in COMPARISONS
        if one.name in unit.tables
    ]


def _against_log(unit: Unit) -> list[Comparison]:
    """What the new tables show, beside the fold of the log."""
    return [
        msgspec.structs.replace(
            one,
            shown=shadow.in_shadow(one.shown, unit),
            folded=shadow.in_shadow(one.folded, unit),
            archived=one.archived and shadow.in_shadow(one.archived, unit),
        )
        for one in COMPARISONS
        if one.name in unit.tables
    ]


def _unit(state: State) -> Unit:
    return next(unit for unit in UNITS if unit.name == state.unit)


FEED: Final = """
    insert into feed
    select   *
    from     normalizer.events
    where    event_id > $1::bigint
    and      event_id <= $2::bigint
    and      batch_id <= (select batch_id from projector_next.cut)
    and      (select true from projector_next.fed_early where fed_id = event_id) is null
    order by event_id
"""

_OWNER: Final = """
    select quote_ident(pg_get_userbyid(nspowner)) from pg_namespace where nspname = 'projector'
"""

_LOCK_EVENTS: Final = "lock table only normalizer.events in share row exclusive mode"

_STATE: Final = "select unit, state, version, cut_batch, events, folded from projector.rebuild"

_MARK: Final = "update projector.rebuild set state = $1::text, changed_at = now()"

_CUT: Final = """
    insert into projector_next.cut (batch_id, frontier)
    select case when is_called then last_value else 0 end, -1
    from   normalizer.batch_id
"""

_NOTE: Final = """
    insert into projector.rebuild (unit, state, version, cut_batch, events)
    select $1::text, 'filling', $2::text, cut.batch_id,
           (
               select coalesce(sum(events), 0)::bigint
               from   projector.event_hours
               where  shard >= 0
           )
    from   projector_next.cut
"""

_NEXT_FRONTIER: Final = """
    select max(event_id)
    from   (
               select   event_id
               from     normalizer.events
               where    event_id > $1::bigint
               order by event_id
               limit    $2::integer
           ) as following
"""

_ADVANCE: Final = "update projector.rebuild set folded = folded + $1::bigint, changed_at = now()"
