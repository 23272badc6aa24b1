"""Stored rows of older rules in; what today's rules make of what was sent, written over them.

A row is rebuilt into the event it came from and read again. Keys never change; what today's rules
would refuse stays and is listed; a row that reads the same is left alone, its version too. The
triggers of the projections see an update like any other. What is made of a row is a parameter:
`redact` writes over rows in the same way.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Final

import asyncpg
import msgspec

from normalizer.envelope import RULES_VERSION, Envelope
from normalizer.errors import FatalError, Fenced, RetryableError
from normalizer.jobs import statements
from normalizer.jobs.backfill import LONGEST_WAIT_S, SESSION
from normalizer.jobs.chunks import BEFORE_ALL, Chunk, Chunks, fetch_rows
from normalizer.jobs.diff import Diff, changes_between
from normalizer.jobs.playing import Player, pause
from normalizer.jobs.positions import move_parts
from normalizer.jobs.reporting import Verdict
from normalizer.jobs.reread import Unreadable, reread
from normalizer.jobs.runs import Run
from normalizer.jobs.source import At, Part, PartKey
from normalizer.process.slices import Normalize
from normalizer.store.grid import Grid
from normalizer.store.rows import RowRefused, StoredRows, change_rows, refused_rows
from normalizer.store.session import ANSWER_S, OnceMore, Session
from normalizer.telemetry import Outage, get_logger

ROWS_A_CHUNK: Final = 1_000
"""Locked while they are read again: some tens of milliseconds."""
PART: Final[PartKey] = ("events", 0, 0)
READ_ONLY: Final = {"default_transaction_read_only": "on"}
_ROUNDS: Final = 5
_ROWS_A_SLICE: Final = 50
"""Read again without a pause: a few milliseconds."""

_log: Final = get_logger()


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which of the outdated rows; None everywhere: all of them. Times are of created_at."""

    shape: str | None = None
    rule: str | None = None
    from_time: datetime | None = None
    to_time: datetime | None = None

    def parameters(self, version: int) -> tuple[object, ...]:
        """What the statement asks for."""
        rule = None if self.rule is None else msgspec.json.encode([{"rule": self.rule}])
        return (version, self.shape, rule, self.from_time, self.to_time)


class Rewriting(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows are read, by a statement whose first parameters are bounds; what is made of each.

    `find` locks them; with `suspects` it need not: then those alone are locked that may change.
    """

    find: str
    parameters: tuple[object, ...]
    rewrite: Callable[[Envelope], Envelope | Unreadable]
    suspects: Callable[[Envelope], bool] | None = None


class _Reread(msgspec.Struct):
    """What became of the rows of one page."""

    rows: int = 0
    changed: list[Envelope] = []
    unreadable: list[tuple[int, Unreadable]] = []

    @property
    def unchanged(self) -> int:
        return self.rows - len(self.changed) - len(self.unreadable)


class Rewrite:
    """One run over the log that makes rows anew."""

    def __init__(self, player: Player, rewriting: Rewriting) -> None:
        self._player = player
        self._stopping = player.stopping
        self._rewriting = rewriting
        self._grid = Grid()
        self._session = _session(player.database_url, self._grid, SESSION, player.asked.kind)
        self._chunks = Chunks(self._session.at_once, player.pace.rows_at_once(ROWS_A_CHUNK))
        self._outage = Outage(_log, player.clock)

    async def run(self) -> Verdict:
        """Read every row again and write those that come out otherwise."""
        try:
            return await self._player.play(self._work, self._chunks.share)
        finally:
            self._session.hang_up()

    async def _work(self, run: Run, _tasks: asyncio.TaskGroup) -> None:
        """Page by page from the position on; after an outage, from the last page written."""
        at = (await run.positions([Part(key=PART, start=0)]))[PART]
        tries = 0
        while not self._stopping.is_set():
            try:
                async for chunk in self._chunks.after(_last_id(at)):
                    while _last_id(at) < chunk.high:
                        at = await self._rewrite(run, chunk, at)
                        tries = 0 if self._outage.over() else tries
                        if self._stopping.is_set():
                            return
                await self._finish()
            except RetryableError as error:
                self._outage.failed(error)
                tries += 1
                await pause(self._stopping, min(LONGEST_WAIT_S, 0.2 * 2**tries))
                # A commit may have taken effect although its answer was lost.
                at = await self._stored_position(run, at)
            else:
                return

    async def _finish(self) -> None:
        """What is left to do once every row was read; done again after an outage."""

    async def _stored_position(self, run: Run, at: At) -> At:
        try:
            return (await run.positions([]))[PART]
        except RetryableError:
            return at

    async def _rewrite(self, run: Run, chunk: Chunk, at: At) -> At:
        """Write the next page of a chunk in a transaction; the position after it."""
        pace = self._player.pace
        most = pace.rows_at_once(ROWS_A_CHUNK)
        await pace.turn(most, self._stopping)
        if self._stopping.is_set():
            return at
        left = chunk._replace(low=max(chunk.low, _last_id(at) + 1))
        refused: dict[int, str | None] = {}
        for _ in range(_ROUNDS):
            with contextlib.suppress(OnceMore):
                try:
                    write = partial(self._write, run, left, at, refused)
                    after = await self._session.transaction(write)
                except RowRefused:
                    find = partial(self._find_refused, left, refused)
                    refused = refused | await self._session.transaction(find, rolled_back=True)
                else:
                    pace.give_back(most - (after.next_offset - at.next_offset))
                    return after
        raise FatalError(f"events {left.low} to {left.high}: rows are refused in every round")

    async def _write(
        self,
        run: Run,
        left: Chunk,
        at: At,
        refused: dict[int, str | None],
        connection: asyncpg.Connection,
    ) -> At:
        job = (run.asked.job_id, run.number)
        locked = await connection.fetch(statements.LOCK_PARTS, *job, *([value] for value in PART))
        if not locked or locked[0]["epoch"] != run.epoch:
            raise Fenced("another runner has the job", topic=PART[0], partition=0)
        found, last_id = await self._read_again(connection, left, refused)
        await change_rows(connection, found.changed, self._grid)
        if found.unreadable:
            listed = [(event_id, why.reason, why.detail) for event_id, why in found.unreadable]
            await connection.execute(
                statements.ADD_REFUSALS, *job, *map(list, zip(*listed, strict=True))
            )
        after = At(next_offset=at.next_offset + found.rows, cursor=str(last_id))
        fates = (0, 0, 0, 0, 0, len(found.changed), found.unchanged, len(found.unreadable))
        moved = (*PART, after.next_offset, after.cursor, 0, found.rows, 0, found.rows, *fates)
        await move_parts(connection, run, [moved])
        return after

    async def _find_refused(
        self, left: Chunk, refused: dict[int, str | None], connection: asyncpg.Connection
    ) -> dict[int, str | None]:
        """Which rows the database refuses as today's rules make them; nothing stays written."""
        found, _ = await self._read_again(connection, left, refused)

        async def change(some: Sequence[Envelope]) -> None:
            await change_rows(connection, some, self._grid)

        return await refused_rows(connection, found.changed, change)

    async def _read_again(
        self, connection: asyncpg.Connection, left: Chunk, refused: dict[int, str | None]
    ) -> tuple[_Reread, int]:
        """The next page of a chunk, and up to which id it goes."""
        what = self._rewriting
        records, last_id = await fetch_rows(connection, what.find, left, *what.parameters)
        rows = [Envelope(**record) for record in records]
        if what.suspects:
            # What was read without a lock may be another row by now.
            ids = [row.event_id or 0 for row in rows if what.suspects(row)]
            rows = list((await StoredRows(connection, self._grid).rows(ids)).values())
        found = await _read_again(rows, what.rewrite, refused)
        found.rows = len(records)
        return found, last_id


class Renormalise(Rewrite):
    """One run over outdated rows. `rules_version` is what `normalize` calls itself."""

    def __init__(
        self,
        player: Player,
        selection: Selection,
        normalize: Normalize,
        *,
        rules_version: int = RULES_VERSION,
    ) -> None:
        rewriting = Rewriting(
            find=statements.LOCK_OUTDATED,
            parameters=selection.parameters(rules_version),
            rewrite=partial(reread, normalize=normalize),
        )
        super().__init__(player, rewriting)


class RewriteDryRun:
    """Fills a diff with what a run would change; reads only."""

    def __init__(self, database_url: str, rewriting: Rewriting, diff: Diff) -> None:
        self._rewriting = rewriting
        self._diff = diff
        self._session = _session(database_url, Grid(), READ_ONLY, "dry run")
        self._chunks = Chunks(self._session.at_once, ROWS_A_CHUNK)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End soon; the diff is of what was read."""
        self._stopping.set()

    async def run(self) -> None:
        """Read every row again. Raises StoreUnavailable and FatalError."""
        try:
            await self._compare_all()
        finally:
            self._session.hang_up()

    async def _compare_all(self) -> None:
        async for chunk in self._chunks.after(BEFORE_ALL):
            last_id = chunk.low - 1
            while last_id < chunk.high:
                last_id = await self._compare(Chunk(last_id + 1, chunk.high))
                if self._stopping.is_set():
                    return

    async def _compare(self, left: Chunk) -> int:
        """Compare the next page of a chunk; up to which id it goes."""
        records, last_id = await self._session.at_once(partial(self._fetch, left))
        what = self._rewriting
        before = {record["event_id"]: Envelope(**record) for record in records}
        rows = [row for row in before.values() if not what.suspects or what.suspects(row)]
        found = await _read_again(rows, what.rewrite, {})
        found.rows = len(records)
        for event_id, why in found.unreadable:
            self._diff.refuse(f"event {event_id}", why.reason, event_id)
        for row in found.changed:
            assert row.event_id is not None
            self._diff.change("changed", row.event_id, changes_between(before[row.event_id], row))
        for _ in range(found.unchanged):
            self._diff.add("unchanged")
        return last_id

    async def _fetch(
        self, left: Chunk, connection: asyncpg.Connection
    ) -> tuple[list[asyncpg.Record], int]:
        what = self._rewriting
        return await fetch_rows(connection, what.find, left, *what.parameters)


class RenormaliseDryRun(RewriteDryRun):
    """Fills a diff with what renormalising would change; reads only."""

    def __init__(
        self,
        database_url: str,
        selection: Selection,
        normalize: Normalize,
        diff: Diff,
        *,
        rules_version: int = RULES_VERSION,
    ) -> None:
        rewriting = Rewriting(
            find=statements.READ_OUTDATED,
            parameters=selection.parameters(rules_version),
            rewrite=partial(reread, normalize=normalize),
        )
        super().__init__(database_url, rewriting, diff)


def _last_id(at: At) -> int:
    """Up to which id rows were read again."""
    return int(at.cursor or BEFORE_ALL)


async def _read_again(
    rows: Sequence[Envelope],
    rewrite: Callable[[Envelope], Envelope | Unreadable],
    refused: dict[int, str | None],
) -> _Reread:
    """What today's rules make of each row; those that the database refused are unreadable."""
    found = _Reread(rows=len(rows))
    for number, row in enumerate(rows):
        if number % _ROWS_A_SLICE == 0:
            await asyncio.sleep(0)
        assert row.event_id is not None
        today = rewrite(row)
        if row.event_id in refused:
            code = refused[row.event_id] or "it cannot be encoded"
            today = Unreadable(
                reason="rejected_by_database", detail=f"the database refused: {code}"
            )
        if isinstance(today, Unreadable):
            found.unreadable.append((row.event_id, today))
        elif changes_between(row, today):
            found.changed.append(today)
    return found


def _session(database_url: str, grid: Grid, settings: dict[str, str], name: str) -> Session:
    return Session(
        database_url,
        application_name=f"normalizer {name}",
        grid=grid,
        answer_s=ANSWER_S,
        settings=settings,
    )
