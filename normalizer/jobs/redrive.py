"""Refused records in, the same records once more through today's rules and the same store out.

A record keeps the coordinates of its entry. Every try is recorded in the transaction of its rows;
what fails again stays, and no run takes an entry twice. Entries that came through stay visible.
"""

import base64
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Final, Self

import asyncpg
import msgspec

from normalizer.core.batch import PartitionBatch, Totals
from normalizer.core.record import RawRecord
from normalizer.core.rules.times import EPOCH
from normalizer.envelope import RULES_VERSION
from normalizer.jobs import statements
from normalizer.jobs.defaults import Defaults
from normalizer.jobs.positions import JobPositions
from normalizer.jobs.runs import Run
from normalizer.jobs.source import At, Page, Part, PartKey
from normalizer.process.slices import Normalize
from normalizer.store.database import reading
from normalizer.store.refusals import Refusal

ENTRIES_A_PAGE: Final = 50
"""Of up to 1 MiB each, all of them in memory, and up to three batches of them."""
PART: Final[PartKey] = ("quarantine", 0, 0)

Place = tuple[str | None, int, int, int]

_headers: Final[msgspec.json.Decoder[list[tuple[str, str | None]]]] = msgspec.json.Decoder(
    list[tuple[str, str | None]]
)


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries; None everywhere: all that did not come through yet.

    Times are of quarantined_at; `version` of the rules that refused. An entry that was tried under
    today's rules is left out unless `again`.
    """

    reason: str | None = None
    shape: str | None = None
    topic: str | None = None
    version: int | None = None
    from_time: datetime | None = None
    to_time: datetime | None = None
    ids: tuple[int, ...] = ()
    again: bool = False
    limit: int | None = None

    @property
    def takes_all(self) -> bool:
        """Whether nothing narrows it down."""
        return msgspec.structs.replace(self, again=False) == Selection()


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    quarantine_id: int
    index: int


class QuarantineSource:
    """Refused records as a source. `run` is what the tries of this run are noted under."""

    keyed = False
    truncated = None

    def __init__(
        self,
        database_url: str,
        selection: Selection,
        *,
        defaults: Defaults | None = None,
        rules_version: int = RULES_VERSION,
    ) -> None:
        self._database_url = database_url
        self._selection = selection
        self._defaults = defaults or Defaults({})
        self._rules_version = rules_version
        self._run: tuple[str, int] = ("", 0)
        self._entries: dict[int, list[_Entry]] = {}
        """By the part's offset of their record: a record may come again in a later page."""
        self._gone: dict[Place, str] = {}
        self._last_id = 0
        self._taken = 0
        self._wanted = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Every statement has a connection of its own."""

    def positions(self, run: Run) -> JobPositions:
        """What its batches move: the run's positions, and the fate of each entry."""
        self._run = (run.asked.job_id, run.number)
        return _RedrivePositions(run, self)

    def normalized_by(self, normalize: Normalize) -> Normalize:
        """The rules, for records that are still here; the others have no outcome."""
        return lambda record: () if _place(record) in self._gone else normalize(record)

    def share(self) -> float | None:
        """By entries."""
        return min(self._taken / self._wanted, 1.0) if self._wanted else None

    async def count(self) -> int:
        """How many entries are to be tried."""
        async with reading(self._database_url) as connection:
            found: int = await connection.fetchval(
                f"select count(*) from ({statements.ENTRIES}) as entry",  # noqa: S608 - our own
                *self._parameters(0, None),
            )
        limit = self._selection.limit
        return found if limit is None else min(found, limit)

    async def parts(self) -> list[Part]:
        """The one part there is: records are only counted."""
        self._wanted = await self.count()
        return [Part(key=PART, start=0)]

    async def read(self, positions: Mapping[PartKey, At]) -> AsyncGenerator[Page, None]:
        """Entries by id, each once, also where reading broke and goes on.

        Entries of one record in a page are one record.
        """
        next_offset = positions[PART].next_offset
        while entries := await self._next_entries():
            records: dict[Place, RawRecord] = {}
            offsets: dict[Place, int] = {}
            for entry in entries:
                record = self._record(entry)
                place = _place(record)
                records.setdefault(place, record)
                offset = offsets.setdefault(place, next_offset + len(offsets))
                self._entries.setdefault(offset, []).append(
                    _Entry(quarantine_id=entry["quarantine_id"], index=entry["source_index"])
                )
            # What was given is in a batch that may not be written yet: the tables do not tell.
            self._last_id = entries[-1]["quarantine_id"]
            self._taken += len(entries)
            yield Page(
                part=PART,
                from_offset=next_offset,
                next_offset=next_offset + len(records),
                records=list(records.values()),
            )
            next_offset += len(records)

    def fates(
        self, part: PartitionBatch, refusals: Sequence[Refusal]
    ) -> list[tuple[int, str, str]]:
        """Of each entry of the part's records: id, outcome, detail."""
        refused = {
            (*_place(refusal.record), refusal.rejected.index): refusal.rejected.detail
            for refusal in refusals
        }
        fates = []
        for offset, (record, _) in enumerate(part.items, part.from_offset):
            place = _place(record)
            for entry in self._entries[offset]:
                if place in self._gone:
                    fates.append((entry.quarantine_id, "gone", self._gone[place]))
                elif (detail := refused.get((*place, entry.index))) is not None:
                    fates.append((entry.quarantine_id, "refused", detail))
                else:
                    fates.append((entry.quarantine_id, "redriven", ""))
        return fates

    async def _next_entries(self) -> list[asyncpg.Record]:
        limit = self._selection.limit
        left = ENTRIES_A_PAGE if limit is None else min(ENTRIES_A_PAGE, limit - self._taken)
        if left <= 0:
            return []
        async with reading(self._database_url) as connection:
            rows: list[asyncpg.Record] = await connection.fetch(
                statements.ENTRIES, *self._parameters(self._last_id, left)
            )
        return rows

    def _parameters(self, last_id: int, limit: int | None) -> tuple[object, ...]:
        selection = self._selection
        return (
            last_id,
            limit,
            selection.reason,
            selection.shape,
            selection.topic,
            selection.version,
            selection.from_time,
            selection.to_time,
            list(selection.ids) or None,
            selection.again,
            self._rules_version,
            *self._run,
        )

    def _record(self, entry: asyncpg.Record) -> RawRecord:
        recorded = entry["recorded_at"]
        headers = _headers.decode(entry["headers"]) if entry["headers"] else []
        record = RawRecord(
            value=self._defaults.complete(entry["value"]),
            topic=entry["source_topic"],
            generation=entry["source_generation"],
            partition=entry["source_partition"],
            offset=entry["source_offset"],
            key=entry["key"],
            headers=tuple(
                (name, None if text is None else base64.b64decode(text)) for name, text in headers
            ),
            recorded_ms=None
            if recorded is None
            else round((recorded - EPOCH).total_seconds() * 1000),
        )
        if not entry["whole"]:
            self._gone[_place(record)] = (
                "its bytes were deleted by age"
                if entry["whole"] is None
                else "its bytes were erased with their execution"
                if entry["value"] is None
                else "only the beginning of its bytes was kept: read it from its source again"
            )
        return record


class _RedrivePositions(JobPositions):
    """The run's positions; with them move the fates of the entries."""

    def __init__(self, run: Run, source: QuarantineSource) -> None:
        super().__init__(run)
        self._redrive = run
        self._source = source

    async def move(
        self,
        connection: asyncpg.Connection,
        moves: Sequence[tuple[PartitionBatch, Totals]],
        batch_id: int,
        refusals: Sequence[Refusal],
    ) -> None:
        """As any positions; each entry's try is recorded, and who came through is marked."""
        await super().move(connection, moves, batch_id, refusals)
        fates = [fate for part, _ in moves for fate in self._source.fates(part, refusals)]
        if not fates:
            return
        await connection.execute(
            statements.ADD_TRIES,
            self._redrive.asked.job_id,
            self._redrive.number,
            self._redrive.owner,
            RULES_VERSION,
            *map(list, zip(*fates, strict=True)),
        )
        redriven = sorted(entry for entry, outcome, _ in fates if outcome == "redriven")
        await connection.execute(statements.MARK_REDRIVEN, redriven)

    def _fates(
        self, part: PartitionBatch, totals: Totals, refusals: Sequence[Refusal]
    ) -> tuple[int, ...]:
        """What is refused again is no duplicate."""
        again = len(refusals) - totals.quarantined if part.items else 0
        kept = msgspec.structs.replace(totals, duplicate=totals.duplicate - again)
        return (*msgspec.structs.astuple(kept), 0, 0, again)


def _place(record: RawRecord) -> Place:
    return (record.topic, record.generation, record.partition, record.offset)
