"""A batch of a job in; the job's own positions locked, checked, and moved with its totals."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter, lt
from typing import Final

import asyncpg
import msgspec

from normalizer.core.batch import PartitionBatch, Totals
from normalizer.core.settle import EVERYTHING, NOTHING_REACHED, Reached, Source
from normalizer.jobs import statements
from normalizer.jobs.runs import Run
from normalizer.jobs.source import PartKey
from normalizer.store.positions import already_there
from normalizer.store.refusals import Refusal
from normalizer.store.session import OnceMore
from normalizer.store.statements import ADD_REACHED, LOCK_REACHED

NO_CHANGES = (0, 0, 0)
"""changed, unchanged, refused: a backfill stores or leaves, it rewrites nothing."""

AHEAD: Final = 65_536
"""Told in steps of so many offsets: it waits for the service's batch in flight."""


_SOURCE: Final = attrgetter("topic", "generation", "partition")
_OFFSET: Final = attrgetter("offset")


class _Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """Offsets `first` up to `end` of a source; `shuffled`: they do not ascend.

    Then a record may come twice.
    """

    first: int
    end: int
    shuffled: bool


class JobPositions:
    """The positions of one run, in place of those of the source: the same locks, the same checks.

    `keyed`: the key of a stretch's last record says where to go on. Offsets noted as `expired` are
    counted as such when a batch passes over them.
    """

    def __init__(self, run: Run, *, keyed: bool = False) -> None:
        self._run = run
        self._keyed = keyed
        self._expired: dict[PartKey, list[tuple[int, int]]] = {}
        self._stretches: dict[Source, _Stretch] = {}
        """Of the batch that was locked last."""

    def note_expired(self, part: PartKey, stretches: Iterable[tuple[int, int]]) -> None:
        """Offsets (first, next) that retention took before they could be read."""
        self._expired.setdefault(part, []).extend(stretches)

    async def lock(
        self, connection: asyncpg.Connection, parts: Sequence[PartitionBatch]
    ) -> Reached | None:
        """Lock the positions in key order. None: this batch's commit had taken effect already.

        Raises Fenced (another runner took the job over) and PositionMoved.
        """
        rows = await connection.fetch(
            statements.LOCK_PARTS,
            self._run.asked.job_id,
            self._run.number,
            [part.topic for part in parts],
            [part.generation for part in parts],
            [part.partition for part in parts],
        )
        if already_there(parts, rows):
            return None
        self._stretches = _stretches(parts)
        return await _reached(connection, self._stretches)

    async def move(
        self,
        connection: asyncpg.Connection,
        moves: Sequence[tuple[PartitionBatch, Totals]],
        batch_id: int,
        refusals: Sequence[Refusal],
    ) -> None:
        """Move each position to the end of its stretch and add to the run's totals.

        After `lock` of the same batch, in the same transaction.
        """
        rows = [
            (
                *part.key,
                part.next_offset,
                self._cursor(part),
                self._expired_in(part),
                *self._fates(part, totals, refusals),
            )
            for part, totals in moves
        ]
        await move_parts(connection, self._run, rows)
        if self._stretches:
            sources = [list(column) for column in zip(*self._stretches, strict=True)]
            ends = [stretch.end for stretch in self._stretches.values()]
            await connection.execute(statements.MOVE_REACHED, *sources, ends)
        await connection.execute(
            statements.ADD_BATCH, batch_id, self._run.asked.job_id, self._run.number
        )

    def _fates(
        self,
        part: PartitionBatch,  # noqa: ARG002 - of some jobs not all records are like others
        totals: Totals,
        refusals: Sequence[Refusal],  # noqa: ARG002 - the same
    ) -> tuple[int, ...]:
        """Records to refused, as MOVE_PARTS has them."""
        return (*msgspec.structs.astuple(totals), *NO_CHANGES)

    def _cursor(self, part: PartitionBatch) -> str | None:
        if not self._keyed or not part.items:
            return None
        record, _ = part.items[-1]
        return (record.key or b"").decode()

    def _expired_in(self, part: PartitionBatch) -> int:
        return sum(
            max(0, min(after, part.next_offset) - max(first, part.from_offset))
            for first, after in self._expired.get(part.key, ())
        )


async def _reached(connection: asyncpg.Connection, stretches: Mapping[Source, _Stretch]) -> Reached:
    """Below which offsets somebody may have written the records of this batch before.

    A job's own positions do not tell: other jobs read the same records, and so does the service,
    which is told first where records ahead of it will not be new to it.
    """
    if not stretches:
        return NOTHING_REACHED
    wanted = [list(column) for column in zip(*stretches, strict=True)]
    ends = [stretch.end for stretch in stretches.values()]
    await connection.execute(statements.TELL_AHEAD, *wanted, ends, AHEAD)
    await connection.execute(ADD_REACHED, *wanted)
    written = _offsets(await connection.fetch(LOCK_REACHED, *wanted))
    live = _offsets(await connection.fetch(statements.LIVE_REACHED, *wanted))
    if any(reached < stretches[source].end for source, reached in live.items()):
        raise OnceMore("a partition was claimed meanwhile")
    if any(stretch.shuffled for stretch in stretches.values()):
        return dict.fromkeys(stretches, EVERYTHING)
    below = {
        source: reached for source, reached in written.items() if reached > stretches[source].first
    }
    return below | dict.fromkeys(live, EVERYTHING)


def _stretches(parts: Iterable[PartitionBatch]) -> dict[Source, _Stretch]:
    """What the records take up of each source."""
    records = [record for part in parts for record, _ in part.items]
    offsets: dict[Source, list[int]] = defaultdict(list)
    for source, offset in zip(map(_SOURCE, records), map(_OFFSET, records), strict=True):
        offsets[source].append(offset)
    return {
        source: _Stretch(
            first=min(of_source),
            end=max(of_source) + 1,
            shuffled=not all(map(lt, of_source, of_source[1:])),
        )
        for source, of_source in offsets.items()
    }


def _offsets(rows: Iterable[asyncpg.Record]) -> dict[Source, int]:
    return {(topic, generation, partition): offset for topic, generation, partition, offset in rows}


async def move_parts(
    connection: asyncpg.Connection, run: Run, rows: Sequence[tuple[object, ...]]
) -> None:
    """Move positions; a row is as MOVE_PARTS has it."""
    await connection.execute(
        statements.MOVE_PARTS, run.asked.job_id, run.number, *map(list, zip(*rows, strict=True))
    )
