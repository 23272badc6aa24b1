"""Normalizes quarantined records again with today's rules, and stores their events.

Run it after a rule or the database has been fixed. Events are stored as the service would store
them, under the topic, partition, and offset of the original record, and the same transaction
records the attempt. Each run tries every selected entry once. If the record is rejected again, its
entry stays in quarantine. Otherwise the entry is marked as redriven, but not deleted.
"""

import base64
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping
from datetime import datetime
from typing import Final, Self

import asyncpg
import msgspec

from normalizer.core.batch import OutcomeTotals, PartitionBatch
from normalizer.core.encoded_events import select_events
from normalizer.core.identity.coordinates import source_coordinates
from normalizer.core.raw_record import RawRecord
from normalizer.core.rules.timestamps import to_recorded_ms
from normalizer.envelope import RULES_VERSION
from normalizer.jobs.backfill import Backfill
from normalizer.jobs.engine.job_positions import JobPositions
from normalizer.jobs.engine.job_run import JobRun
from normalizer.jobs.engine.runner import JobRunner
from normalizer.jobs.sources.field_defaults import FieldDefaults
from normalizer.jobs.sources.job_source import PartKey, ReadPosition, SourcePage, SourcePart
from normalizer.runtime.slices import Normalize
from normalizer.store.outcomes_by_kind import OutcomesByKind
from normalizer.store.read_only import read_only_connection
from normalizer.store.source_positions import PositionMoves

ENTRIES_PER_PAGE: Final = 50
"""How many entries to read at once. Each may take up to 1 MiB of memory, in up to three batches."""
_PART: Final[PartKey] = ("quarantine", 0, 0)

RecordCoordinates = tuple[str | None, int, int, int]


class RedriveSelection(msgspec.Struct, frozen=True, kw_only=True):
    """Which quarantine entries to try: if every field is None, all that are still in quarantine.

    `from_time` and `to_time` apply to quarantined_at, and `version` is the version of the rules
    that rejected the record. Entries that today's rules have already tried would most likely be
    rejected again, so they're skipped unless `again` is True.
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
    def selects_all(self) -> bool:
        """Return whether no option limits the selection."""
        return msgspec.structs.replace(self, again=False) == RedriveSelection()


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    quarantine_id: int
    index: int


# Selects the redrive attempts of one run. The run's number alone isn't enough, because retention
# may have deleted an earlier run with the same number and left its attempts behind. So only
# attempts since the start of this run count.
_TRIED_IN_RUN: Final = """
    tried.job_id = {job_id}::text and tried.run = {run}::integer
    and tried.tried_at >= (
        select started_at
        from   normalizer.jobs
        where  job_id = {job_id}::text and run = {run}::integer
    )
"""

# Selects the quarantine entries that still have to be redriven. Entries that this run has already
# tried are left out. So are those that were tried before with the same or newer rules, unless $10
# is true. Each entry comes with the bytes of its record, if retention hasn't deleted them.
_READ_ENTRIES: Final = f"""
    select   entry.quarantine_id, entry.source_topic, entry.source_incarnation,
             entry.source_partition, entry.source_offset, entry.source_index, entry.recorded_at,
             raw.key, raw.value, raw.headers::text as headers, raw.whole
    from     normalizer.quarantine          as entry
    left join normalizer.quarantine_raw     as raw
             using (source_topic, source_incarnation, source_partition, source_offset)
    where    entry.quarantine_id > $1::bigint
    and      entry.redriven_at is null
    and      ($3::text is null or entry.reason = $3::text)
    and      ($4::text is null or entry.shape = $4::text)
    and      ($5::text is null or entry.source_topic = $5::text)
    and      ($6::integer is null or entry.normalizer_version = $6::integer)
    and      ($7::timestamptz is null or entry.quarantined_at >= $7::timestamptz)
    and      ($8::timestamptz is null or entry.quarantined_at < $8::timestamptz)
    and      ($9::bigint[] is null or entry.quarantine_id = any($9::bigint[]))
    and      not exists (
                 select from normalizer.redrive_attempts as tried
                 where  tried.quarantine_id = entry.quarantine_id
                 and    (
                            (not $10::boolean and tried.normalizer_version >= $11::integer)
                            or ({_TRIED_IN_RUN.format(job_id="$12", run="$13")})
                        )
             )
    order by entry.quarantine_id
    limit    $2::bigint
"""  # noqa: S608 - a part from this module

_COUNT_TRIED: Final = f"""
    select count(*)
    from   normalizer.redrive_attempts as tried
    where  {_TRIED_IN_RUN.format(job_id="$1", run="$2")}
"""  # noqa: S608 - a part from this module


class QuarantineSource:
    """Quarantined records as a source of history.

    Attempts are recorded for the job and run in `_run`.
    """

    positions_need_cursor = False
    cluster_id = None
    truncation_reason = None

    def __init__(
        self,
        database_url: str,
        selection: RedriveSelection,
        *,
        defaults: FieldDefaults | None = None,
    ) -> None:
        self._database_url = database_url
        self._selection = selection
        self._defaults = defaults or FieldDefaults({})
        self._run: tuple[str, int] = ("", 0)
        self._entries: dict[int, list[_Entry]] = {}
        """The entries by their record's offset in the part. A later page may have the same record
        again."""
        self._unreadable: dict[RecordCoordinates, str] = {}
        self._last_id = 0
        self._entries_read = 0
        self._entries_in_all = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Do nothing, because every statement uses a connection of its own."""

    def build_positions(self, run: JobRun) -> JobPositions:
        """Return positions that also record the outcome of each entry when a batch moves them."""
        self._run = (run.spec.job_id, run.number)
        return _RedrivePositions(run, self)

    def wrap_normalize_to_skip_missing(self, normalize: Normalize) -> Normalize:
        """Return a function that normalizes a record, or returns () if its bytes are gone."""
        return lambda record: (
            () if _record_coordinates(record) in self._unreadable else normalize(record)
        )

    def progress_ratio(self) -> float | None:
        """Return the share of entries that were tried."""
        return min(self._entries_read / self._entries_in_all, 1.0) if self._entries_in_all else None

    async def count_entries_to_try(self) -> int:
        """Count the entries that this run still has to try, up to its limit."""
        async with read_only_connection(self._database_url) as connection:
            found: int = await connection.fetchval(
                f"select count(*) from ({_READ_ENTRIES}) as entry",  # noqa: S608 - a constant
                *self._parameters(0, None),
            )
            tried = await connection.fetchval(_COUNT_TRIED, *self._run)
        limit = self._selection.limit
        return found if limit is None else min(found, max(0, limit - tried))

    async def list_parts(self) -> list[SourcePart]:
        """Return the only part, in which records are simply numbered."""
        return [SourcePart(key=_PART, start=0)]

    async def read(
        self, positions: Mapping[PartKey, ReadPosition]
    ) -> AsyncGenerator[SourcePage, None]:
        """Yield entries by id, each once, even if reading is interrupted and resumed.

        Entries of the same record within a page become one record.
        """
        next_offset = positions[_PART].next_offset
        self._entries_in_all = self._entries_in_all or await self.count_entries_to_try()
        while entries := await self._next_entries():
            records: dict[RecordCoordinates, RawRecord] = {}
            offsets: dict[RecordCoordinates, int] = {}
            for entry in entries:
                record = self._record(entry)
                coordinates = _record_coordinates(record)
                records.setdefault(coordinates, record)
                offset = offsets.setdefault(coordinates, next_offset + len(offsets))
                self._entries.setdefault(offset, []).append(
                    _Entry(quarantine_id=entry["quarantine_id"], index=entry["source_index"])
                )
            # Start the next page after the last id that was read. It isn't enough to leave out the
            # entries that were tried, because the latest tries may be in a batch that hasn't been
            # committed yet.
            self._last_id = entries[-1]["quarantine_id"]
            self._entries_read += len(entries)
            yield SourcePage(
                part=_PART,
                from_offset=next_offset,
                next_offset=next_offset + len(records),
                records=list(records.values()),
            )
            next_offset += len(records)

    def entry_outcomes(
        self, part: PartitionBatch, outcomes_by_kind: OutcomesByKind
    ) -> list[tuple[int, str, str]]:
        """Return (id, outcome, detail) for each quarantine entry of the part's records.

        A record can have several entries, one per rejected event, and each gets the outcome of its
        own event. If today's rules reject the whole record, its events have no outcomes of their
        own, so every entry gets the record's rejection.
        """
        failures: defaultdict[RecordCoordinates, dict[int, tuple[str, str]]] = defaultdict(dict)
        for event, why in outcomes_by_kind.excluded.items():
            failures[event[:4]][event[4]] = ("gone", why)
        for record, rejected in outcomes_by_kind.rejections:
            failures[_record_coordinates(record)][rejected.index] = ("rejected", rejected.detail)
        entry_outcomes = []
        for offset, (record, outcomes) in enumerate(part.items, part.from_offset):
            coordinates = _record_coordinates(record)
            failed = failures[coordinates]
            events = {source_coordinates(event)[4] for event in select_events(outcomes)}
            for entry in self._entries[offset]:
                if coordinates in self._unreadable:
                    outcome = ("gone", self._unreadable[coordinates])
                elif entry.index in failed:
                    outcome = failed[entry.index]
                elif failed and entry.index not in events:
                    outcome = next(iter(failed.values()))
                else:
                    outcome = ("redriven", "")
                entry_outcomes.append((entry.quarantine_id, *outcome))
        return entry_outcomes

    async def _next_entries(self) -> list[asyncpg.Record]:
        left = ENTRIES_PER_PAGE
        if self._selection.limit is not None:
            left = min(left, self._entries_in_all - self._entries_read)
        if left <= 0:
            return []
        async with read_only_connection(self._database_url) as connection:
            rows: list[asyncpg.Record] = await connection.fetch(
                _READ_ENTRIES, *self._parameters(self._last_id, left)
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
            RULES_VERSION,
            *self._run,
        )

    def _record(self, entry: asyncpg.Record) -> RawRecord:
        headers = msgspec.json.decode(entry["headers"] or "[]")
        record = RawRecord(
            value=self._defaults.add_missing_fields(entry["value"]),
            topic=entry["source_topic"],
            incarnation=entry["source_incarnation"],
            partition=entry["source_partition"],
            offset=entry["source_offset"],
            key=entry["key"],
            headers=tuple(
                (name, None if text is None else base64.b64decode(text)) for name, text in headers
            ),
            recorded_ms=to_recorded_ms(entry["recorded_at"]),
        )
        if not entry["whole"]:
            self._unreadable[_record_coordinates(record)] = (
                "its bytes were deleted because of their age"
                if entry["whole"] is None
                else "its bytes were erased with their execution"
                if entry["value"] is None
                else "only the beginning of its bytes was kept, so read it from its source again"
            )
        return record


def build_redrive_backfill(
    runner: JobRunner, source: QuarantineSource, normalize: Normalize
) -> Backfill:
    """Build the job that tries the entries.

    If retention or an erasure excludes an entry's events, the entry stays in quarantine.
    """
    tries = source.wrap_normalize_to_skip_missing(normalize)
    return Backfill(
        runner, source, tries, build_positions=source.build_positions, accept_expired=True
    )


# The join leaves out entries that retention has deleted since they were read.
_ADD_REDRIVE_ATTEMPTS: Final = """
    insert into normalizer.redrive_attempts
           (quarantine_id, tried_by, normalizer_version, outcome, detail, job_id, run)
    select tried.quarantine_id, $3::text, $4::integer, tried.outcome, tried.detail, $1::text,
           $2::integer
    from   unnest($5::bigint[], $6::text[], $7::text[]) as tried (quarantine_id, outcome, detail)
    join   normalizer.quarantine using (quarantine_id)
"""

_MARK_REDRIVEN: Final = """
    update normalizer.quarantine
    set    redriven_at = now()
    where  quarantine_id = any($1::bigint[]) and redriven_at is null
"""


class _RedrivePositions(JobPositions):
    """The positions of the run, together with the outcomes of the entries."""

    def __init__(self, run: JobRun, source: QuarantineSource) -> None:
        super().__init__(run)
        self._redrive = run
        self._source = source

    async def move(self, connection: asyncpg.Connection, moves: PositionMoves) -> None:
        """Move the positions, record the attempt for each entry, and mark those that succeeded."""
        await super().move(connection, moves)
        entry_outcomes = [
            entry_outcome
            for part, _ in moves.parts
            for entry_outcome in self._source.entry_outcomes(part, moves.outcomes_by_kind)
        ]
        if not entry_outcomes:
            return
        await connection.execute(
            _ADD_REDRIVE_ATTEMPTS,
            self._redrive.spec.job_id,
            self._redrive.number,
            self._redrive.owner,
            RULES_VERSION,
            *map(list, zip(*entry_outcomes, strict=True)),
        )
        redriven = sorted(entry for entry, outcome, _ in entry_outcomes if outcome == "redriven")
        await connection.execute(_MARK_REDRIVEN, redriven)

    def _outcome_counts(
        self, part: PartitionBatch, totals: OutcomeTotals, outcomes_by_kind: OutcomesByKind
    ) -> tuple[int, ...]:
        """Return the counts.

        A record that's rejected again counts as rejected, not as a duplicate.
        """
        again = len(outcomes_by_kind.rejections) - totals.quarantined if part.items else 0
        kept = msgspec.structs.replace(totals, duplicate=totals.duplicate - again)
        return (*msgspec.structs.astuple(kept), 0, 0, again)


def _record_coordinates(record: RawRecord) -> RecordCoordinates:
    return (record.topic, record.incarnation, record.partition, record.offset)
