"""A scope in, a verdict on each projection out: does it agree with the log?

Every stretch is compared in one statement, so under one snapshot, and projections are exact at
every snapshot: the stretches together prove the whole, beside any traffic. Before it says match, a
comparison must have seen three rows that were tampered with, on every run.

What differs is noted in `divergent`, place by place, and stands there until a comparison of just
that place finds that it agrees: nothing that was compared elsewhere takes it back.
"""

import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, Literal

import asyncpg
import msgspec

from normalizer.errors import FatalError
from projector.comparisons import COMPARISONS, Bounds, Comparison
from projector.windows import Place, Scope, Stretch, stretches

MOST_SHARES: Final = 64
EXAMPLES: Final = 10
MOST_PLACES: Final = 100_000
"""When more differ, they are noted as one: anywhere."""

_CONTROLS: Final[dict[str, tuple[str, int, int]]] = {
    "lost": ("select row from folded order by row offset 1", 0, 1),
    "invented": (
        """
        select row from folded
        union all
        (select jsonb_set(row, $6::text[], '"invented"') from folded order by row limit 1)
        """,
        1,
        0,
    ),
    "changed": (
        """
        select case
                   when row_number() over (order by row) = 1
                   then jsonb_set(row, $6::text[], '"changed"')
                   else row
               end
        from   folded
        """,
        1,
        1,
    ),
}
"""Shown instead of what is shown: the fold itself with one row tampered with. With it, how many
rows only the one side and only the other side must then have."""

_UNTOUCHED: Final = "select row from shown"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the comparison of one projection came to. `examples` are sentences, each about a row.

    `places` are the executions or hours that differ, `agreed` the notes of such places that were
    compared and do not, any more. `mended` rows differed before they were repaired.
    """

    projection: str
    verdict: Literal["match", "divergent", "cannot tell"]
    scope: str
    compared: int
    divergent: int
    archived: int
    controls: int
    examples: tuple[str, ...]
    took_s: float
    places: tuple[int | datetime, ...] = ()
    agreed: tuple[int, ...] = ()
    mended: int = 0

    def __str__(self) -> str:
        said = f"{self.projection:18}{self.verdict}: {self.compared:,} rows compared"
        if self.mended:
            said += f", {self.mended:,} repaired"
        if self.divergent:
            said += f", {self.divergent:,} differ"
        if self.archived:
            said += f", {self.archived:,} left alone: their events are dropped"
        if not self.controls:
            said += ", nothing to try the controls on"
        return "\n".join([f"{said} ({self.took_s:.1f} s)", *(f"    {e}" for e in self.examples)])


class Difference(msgspec.Struct, frozen=True):
    """What one statement found: how many rows there are, and those that only one side has.

    It looked at share `share` of `shares`.
    """

    shares: int
    share: int
    folded: int
    compared: int
    shown_only: int
    folded_only: int
    examples: tuple[str, ...]
    places: frozenset[int | datetime]

    @property
    def differing(self) -> int:
        """Rows that one side has and the other has not, or not so."""
        return max(self.shown_only, self.folded_only)


Mend = Callable[[Comparison, Stretch, Sequence[Difference]], Awaitable[None]]
"""What is done about a stretch where rows differ, before it is compared again."""


async def _leave(comparison: Comparison, stretch: Stretch, found: Sequence[Difference]) -> None:
    """To find out is enough."""


async def verify(
    connection: asyncpg.Connection,
    scope: Scope,
    *,
    comparisons: Sequence[Comparison] = COMPARISONS,
    mend: Mend = _leave,
    log_hours: Counter[tuple[Bounds, datetime]] | None = None,
) -> AsyncIterator[Verdict]:
    """A verdict on each, as it is reached. Changes nothing but by `mend`.

    Where only what is noted is compared, a projection without a note has no verdict.
    """
    for comparison in comparisons:
        noted = await _noted(connection, comparison)
        if scope.noted and not noted:
            continue
        # Folds join what they have just made, of which no statistics know.
        await connection.execute(
            "set plan_cache_mode = force_custom_plan; set enable_nestloop = off; set jit = off"
        )
        try:
            verdict = await _verify(connection, comparison, scope, noted, mend, log_hours)
        finally:
            await connection.execute("reset plan_cache_mode; reset enable_nestloop; reset jit")
        # Nothing is left to reset: whoever stops listening may use the connection at once.
        yield verdict


async def record(connection: asyncpg.Connection, verdict: Verdict) -> bool:
    """Keep the verdict and what it notes, for the view `agreement`; False if we may not write."""
    try:
        async with connection.transaction():
            await connection.execute(
                _RECORD,
                verdict.projection,
                verdict.scope,
                verdict.verdict,
                verdict.compared,
                verdict.divergent,
                verdict.archived,
                "\n".join(verdict.examples),
                verdict.took_s,
            )
            await connection.execute(_END_NOTES, verdict.agreed)
            if len(verdict.places) > MOST_PLACES:
                await connection.execute(_NOTE_ANYWHERE, verdict.projection)
                return True
            ids = [at for at in verdict.places if isinstance(at, int)]
            hours = [at for at in verdict.places if not isinstance(at, int)]
            await connection.execute(_NOTE, verdict.projection, ids, hours)
    except (asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError):
        return False
    return True


async def _noted(connection: asyncpg.Connection, comparison: Comparison) -> list[Place]:
    """What stands as divergent, as it is before anything is compared."""
    return [
        Place(
            row["divergent_id"], row["hour"] if row["execution_id"] is None else row["execution_id"]
        )
        for row in await connection.fetch(_STANDING, comparison.name)
    ]


async def _verify(
    connection: asyncpg.Connection,
    comparison: Comparison,
    scope: Scope,
    noted: Sequence[Place],
    mend: Mend,
    log_hours: Counter[tuple[Bounds, datetime]] | None,
) -> Verdict:
    began = time.monotonic()
    compared = divergent = archived = controls = mended = 0
    examples: list[str] = []
    untold: list[str] = []
    places: set[int | datetime] = set()
    agreed: set[int] = set()
    shares = 1
    async for stretch in stretches(connection, comparison, scope, noted, log_hours):
        if comparison.archived is not None:
            ids = [stretch.execution_ids] if comparison.bounds == "executions" else []
            archived += await connection.fetchval(
                comparison.archived, stretch.low, stretch.high, *ids
            )
        try:
            differences = await _compare(connection, comparison, stretch, shares)
            if mend is not _leave and (differing := sum(one.differing for one in differences)):
                await mend(comparison, stretch, [one for one in differences if one.differing])
                differences = await _compare(connection, comparison, stretch, shares)
                mended += max(differing - sum(one.differing for one in differences), 0)
            for found in differences:
                # What was too much for one stretch is for the next.
                shares = found.shares
                compared += found.compared
                divergent += found.differing
                examples += found.examples
                places |= found.places
                if found.folded and not controls:
                    controls = await _try_controls(connection, comparison, stretch, found)
        except asyncpg.QueryCanceledError:
            untold.append(f"{stretch}: too much for one snapshot, even in {MOST_SHARES} shares")
            continue
        agreed.update(
            place.divergent_id
            for place in noted
            if place.at is not None and place.at not in places and stretch.holds(place.at)
        )
    if not divergent and not untold and (scope.kind == "all" or scope.noted):
        agreed.update(place.divergent_id for place in noted)
    verdict: Literal["match", "divergent", "cannot tell"] = (
        "divergent" if divergent else "cannot tell" if untold else "match"
    )
    return Verdict(
        projection=comparison.name,
        verdict=verdict,
        scope=scope.kind,
        compared=compared,
        divergent=divergent,
        archived=archived,
        controls=controls,
        examples=(*examples[:EXAMPLES], *untold[:EXAMPLES]),
        took_s=time.monotonic() - began,
        places=tuple(sorted(places)),
        agreed=tuple(sorted(agreed)),
        mended=mended,
    )


async def _compare(
    connection: asyncpg.Connection, comparison: Comparison, stretch: Stretch, shares: int
) -> list[Difference]:
    """The stretch in so many shares, each in one statement; in more where one takes too long.

    Raises QueryCanceledError when the smallest shares do.
    """
    while True:
        try:
            return [
                await _difference(connection, comparison, stretch, _UNTOUCHED, shares, share)
                for share in range(shares)
            ]
        except asyncpg.QueryCanceledError:
            if shares == MOST_SHARES:
                raise
            shares *= 4


async def _try_controls(
    connection: asyncpg.Connection, comparison: Comparison, stretch: Stretch, where: Difference
) -> int:
    """How many tampered rows were noticed: all of them. Raises FatalError otherwise."""
    for name, (tampered, invented, lost) in _CONTROLS.items():
        column = comparison.keys.split()[0] if name == "invented" else comparison.measure
        found = await _difference(
            connection, comparison, stretch, tampered, where.shares, where.share, [column]
        )
        if (found.shown_only, found.folded_only) != (invented, lost):
            message = f"{comparison.name}: a {name} row went unnoticed: no verdict can be trusted"
            raise FatalError(message)
    return len(_CONTROLS)


async def _difference(
    connection: asyncpg.Connection,
    comparison: Comparison,
    stretch: Stretch,
    shown: str,
    shares: int,
    share: int,
    column: Sequence[str] | None = None,
) -> Difference:
    """One statement, one snapshot."""
    key = comparison.keys.split()[0]
    place = "bigint" if comparison.bounds == "executions" else "timestamptz"
    statement = _COMPARE.format(
        shown=comparison.shown, folded=comparison.folded, seen=shown, key=key, place=place
    )
    row = await connection.fetchrow(
        statement, stretch.low, stretch.high, shares, share, stretch.execution_ids, column
    )
    return Difference(
        shares=shares,
        share=share,
        folded=row["folded"],
        compared=row["compared"],
        shown_only=row["shown_count"],
        folded_only=row["folded_count"],
        examples=tuple(_sentences(comparison, row["shown_only"], row["folded_only"])),
        places=frozenset(_place(at) for at in row["places"] or ()),
    )


def _place(at: int | datetime) -> int | datetime:
    return at if isinstance(at, int) else at.replace(minute=0)


def _sentences(
    comparison: Comparison, shown: Sequence[str] | None, folded: Sequence[str] | None
) -> Iterator[str]:
    """Each differing row named by its key, with what is shown and what should be."""
    keys = comparison.keys.split()
    sides: dict[tuple[Any, ...], list[dict[str, Any] | None]] = {}
    for side, rows in enumerate((shown or (), folded or ())):
        for text in rows:
            row = msgspec.json.decode(text, type=dict[str, Any])
            sides.setdefault(tuple(row.get(key) for key in keys), [None, None])[side] = row
    for values, (is_shown, should_be) in sides.items():
        name = ", ".join(f"{key} {value}" for key, value in zip(keys, values, strict=True))
        if is_shown is None:
            yield f"{name}: missing, should be {_rest(should_be, keys)}"
        elif should_be is None:
            yield f"{name}: shows {_rest(is_shown, keys)}, no event says so"
        else:
            differing = [
                f"{column} shows {value}, should be {should_be.get(column)}"
                for column, value in is_shown.items()
                if value != should_be.get(column)
            ]
            yield f"{name}: {'; '.join(differing)}"


def _rest(row: dict[str, Any] | None, keys: Sequence[str]) -> str:
    told = {column: value for column, value in (row or {}).items() if value is not None}
    return ", ".join(f"{column} {value}" for column, value in told.items() if column not in keys)


_COMPARE: Final = """
    with shown as materialized (
        select to_jsonb(t) as row from ({shown}) as t
    ),
    folded as materialized (
        select to_jsonb(t) as row from ({folded}) as t
    ),
    seen (row) as materialized (
        {seen}
    ),
    shown_only as (
        select row from seen except all select row from folded
    ),
    folded_only as (
        select row from folded except all select row from seen
    )
    select (select count(*) from folded) as folded,
           greatest((select count(*) from seen), (select count(*) from folded)) as compared,
           (select count(*) from shown_only) as shown_count,
           (select count(*) from folded_only) as folded_count,
           (
               select array_agg(row::text)
               from   (select row from shown_only order by row limit 20) as first_ones
           ) as shown_only,
           (
               select array_agg(row::text)
               from   (select row from folded_only order by row limit 20) as first_ones
           ) as folded_only,
           (
               select array_agg(distinct (row ->> '{key}')::{place})
               from   (
                          select row from shown_only
                          union all
                          select row from folded_only
                      ) as differing
               -- A control has a key that is none.
               where  $6::text[] is null
           ) as places
    from   (select $5::bigint[], $6::text[]) as named_in_every_form
"""

_RECORD: Final = """
    insert into verification (
        projection, scope, verdict, compared, divergent, archived, detail, took_s
    )
    values ($1::text, $2::text, $3::text, $4::bigint, $5::bigint, $6::bigint, $7::text,
            $8::double precision)
"""

_STANDING: Final = """
    select   divergent_id, execution_id, hour
    from     divergent
    where    projection = $1::text
    and      ended_at is null
    order by divergent_id
"""

_END_NOTES: Final = """
    update divergent
    set    ended_at = now(), ended_by = 'verified'
    where  divergent_id = any($1::bigint[])
    and    ended_at is null
"""

_NOTE: Final = """
    insert into divergent (projection, execution_id, hour, noted_by)
    select place.projection, place.execution_id, place.hour, 'verify'
    from   (
               select $1::text, execution_id, null
               from   unnest($2::bigint[]) as execution_id
               union all
               select $1::text, null, hour
               from   unnest($3::timestamptz[]) as hour
           ) as place (projection, execution_id, hour)
    where  not exists (
               select
               from   divergent as known
               where  known.projection = place.projection
               and    known.execution_id is not distinct from place.execution_id
               and    known.hour is not distinct from place.hour
               and    known.ended_at is null
           )
"""

_NOTE_ANYWHERE: Final = """
    insert into divergent (projection, noted_by) values ($1::text, 'verify')
"""
