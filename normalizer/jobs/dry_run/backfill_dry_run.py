"""Finds out what a backfill of a source would change, without writing.

It takes the same steps as a backfill, but keeps the rows in a temporary file instead of storing
them. Later batches can merge into these rows as they would merge into stored ones. So a real run
makes exactly the reported changes, unless other processes write in the meantime.
"""

import contextlib
from collections.abc import AsyncGenerator, Sequence, Set as AbstractSet
from datetime import datetime
from typing import Final, Self

import asyncpg

from normalizer.core.batch import Batch, BatchBuilder
from normalizer.core.encoded_events import to_envelope
from normalizer.core.identity.coordinates import Coordinates, source_coordinates, source_log_key
from normalizer.core.identity.reconcile import reconcile
from normalizer.core.identity.stored_events import WritePlan
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import RULES_VERSION, Envelope, Ignored, Rejected
from normalizer.errors import FatalError
from normalizer.jobs.backfill import normalize_page, to_batch_part
from normalizer.jobs.dry_run.diff import (
    DryRunDiff,
    coordinates_text_of_rejected,
    find_changed_fields,
)
from normalizer.jobs.dry_run.overlay import Overlay
from normalizer.jobs.engine.job_positions import read_dedup_horizons
from normalizer.jobs.renormalize_row import RewriteFailure, renormalize_row
from normalizer.jobs.sources.job_source import JobSource, PartKey, ReadPosition
from normalizer.runtime.progress import JobProgress
from normalizer.runtime.slices import Normalize
from normalizer.store.outcomes_by_kind import is_expired
from normalizer.store.quarantine_writer import RejectedRecord
from normalizer.store.retrying_session import RetryingSession
from normalizer.store.session import READ_ONLY_TRANSACTION_SETTINGS
from normalizer.store.stored_rows import READ_EVENTS_SQL, PostgresStoredEvents

_FIND_QUARANTINED: Final = """
    select source_topic, source_incarnation, source_partition, source_offset, source_index
    from   normalizer.quarantine
    join   unnest($1::text[], $2::integer[], $3::integer[], $4::bigint[])
               as wanted (source_topic, source_incarnation, source_partition, source_offset)
           using (source_topic, source_incarnation, source_partition, source_offset)
"""

_READ_EXPIRY: Final = """
    select nullif(expired_before, '-infinity') as expired_before,
           array(select execution_id from normalizer.forgotten_executions) as forgotten
    from   normalizer.retention_horizon
"""


class BackfillDryRun:
    """Reads a source once from its beginning, and collects what a backfill would change."""

    def __init__(
        self,
        database_url: str,
        source: JobSource,
        normalize: Normalize,
        diff: DryRunDiff,
        *,
        batch_rows: int,
        rules_version: int = RULES_VERSION,
    ) -> None:
        self._source = source
        self._normalize = normalize
        self._diff = diff
        self._batch_rows = batch_rows
        self._rules_version = rules_version
        self._session = RetryingSession(
            database_url,
            application_name="normalizer dry run",
            settings=READ_ONLY_TRANSACTION_SETTINGS,
        )
        self._records_read = 0
        self._horizon: datetime | None = None
        self._forgotten: frozenset[int] = frozenset()
        self.stale = DryRunDiff()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._session.terminate()

    def work_progress(self) -> JobProgress:
        """Return how far the reading is."""
        return JobProgress("records", self._records_read, self._source.progress_ratio())

    async def run(self) -> None:
        """Read the source to its end and fill the diff. Raises the source's errors.

        If the run fails or is cancelled, the diff has the changes found until then. Rows that an
        older version of the rules stored may also differ from today's rules, but a backfill doesn't
        change them for that reason. `stale` collects these differences separately, because
        `normalizer renormalize` would change those rows.
        """
        with Overlay() as overlay:
            try:
                async with self._source:
                    await self._read(overlay)
            finally:
                self._fill_diff(overlay)

    async def _read(self, overlay: Overlay) -> None:
        expiry = (await self._session.fetch(_READ_EXPIRY))[0]
        self._horizon = expiry["expired_before"]
        self._forgotten = frozenset(expiry["forgotten"])
        parts = await self._source.list_parts()
        positions = {
            part.key: ReadPosition(start=part.start, next_offset=part.start, end=part.end)
            for part in parts
        }
        async with contextlib.aclosing(self._batches(positions)) as batches:
            async for batch in batches:
                await self._compare(batch, overlay)

    async def _batches(self, positions: dict[PartKey, ReadPosition]) -> AsyncGenerator[Batch, None]:
        """Yield full batches, and then the rest, even if the source has failed."""
        builder = BatchBuilder()
        broken: FatalError | None = None
        try:
            async for page in self._source.read(positions):
                async for piece, items in normalize_page(page, self._normalize):
                    builder.add_part(to_batch_part(piece, items))
                    self._records_read += len(items)
                    if builder.is_full(self._batch_rows):
                        yield builder.build()
                        builder = BatchBuilder()
        except FatalError as error:
            broken = error
        yield builder.build()
        if broken:
            raise broken

    async def _compare(self, batch: Batch, overlay: Overlay) -> None:
        events, rejections = self._events_and_rejected(batch)
        write_plan, stored = await self._reconcile(events, overlay)
        overlay.keep_rows(
            map(to_envelope, write_plan.inserts),
            ((stored.before[_row_id(row)], row) for row in write_plan.updates),
        )
        for placed, _ in write_plan.placements:
            if placed == "duplicate":
                self._diff.add_row("unchanged")
        for row in stored.same:
            if 0 < row.normalizer_version < self._rules_version:
                self._note_stale(row)
        await self._note_rejections(rejections, overlay)

    def _events_and_rejected(self, batch: Batch) -> tuple[list[Envelope], list[RejectedRecord]]:
        """Return the events to reconcile, and the rejections. Events to ignore are only counted."""
        events: list[Envelope] = []
        rejections: list[RejectedRecord] = []
        for record, outcomes in batch.records_with_outcomes():
            if not outcomes:
                self._diff.add_row("gone")
            for outcome in outcomes:
                if isinstance(outcome, Ignored):
                    self._diff.add_row("ignored")
                    continue
                if self._horizon is not None and is_expired(record, outcome, self._horizon):
                    self._diff.add_row("expired")
                    continue
                match outcome:
                    case Rejected():
                        rejections.append(RejectedRecord(record, outcome))
                    case event if event.execution_id in self._forgotten:
                        self._diff.add_row("forgotten")
                    case event:
                        events.append(to_envelope(event))
        return events, rejections

    async def _note_rejections(
        self, rejections: Sequence[RejectedRecord], overlay: Overlay
    ) -> None:
        known = await self._rejected_before([one.record for one in rejections])
        known |= await self._stored_before({one.coordinates for one in rejections} - known)
        for rejection in rejections:
            if rejection.coordinates not in known and overlay.add_rejection(rejection.coordinates):
                self._diff.add_rejection(
                    coordinates_text_of_rejected(*rejection), rejection.rejected.reason
                )
            else:
                self._diff.add_row("unchanged")

    async def _reconcile(
        self, events: Sequence[Envelope], overlay: Overlay
    ) -> tuple[WritePlan, "_StoredAndPending"]:
        async def run(
            connection: asyncpg.Connection,
        ) -> tuple[WritePlan, _StoredAndPending]:
            reading = _StoredAndPending(connection, overlay)
            horizon = await read_dedup_horizons(connection, set(map(source_log_key, events)))
            write_plan = await reconcile(events, reading, horizon)
            await reading.read_same(events, write_plan)
            return write_plan, reading

        return await self._session.run(run)

    def _fill_diff(self, overlay: Overlay) -> None:
        for row in overlay.new_rows():
            self._diff.add_row("new", row)
        for stored, row in overlay.rows_before_and_after():
            self._diff.add_changed_row("merged", _row_id(row), find_changed_fields(stored, row))

    def _note_stale(self, row: Envelope) -> None:
        match renormalize_row(row, self._normalize):
            case RewriteFailure() as unreadable:
                self.stale.add_rejection(f"event {row.event_id}", unreadable.reason, _row_id(row))
            case Envelope() as today:
                if fields := find_changed_fields(row, today):
                    self.stale.add_changed_row("changed", _row_id(row), fields)

    async def _stored_before(self, coordinates_set: AbstractSet[Coordinates]) -> set[Coordinates]:
        async def find(connection: asyncpg.Connection) -> set[Coordinates]:
            horizon = await read_dedup_horizons(connection, {one[:3] for one in coordinates_set})
            below = {one for one in coordinates_set if one[3] < horizon.get(one[:3], 0)}
            return set(await PostgresStoredEvents(connection).find_row_ids_at(below))

        return await self._session.run(find)

    async def _rejected_before(self, records: Sequence[RawRecord]) -> set[Coordinates]:
        if not records:
            return set()
        rows = await self._session.fetch(
            _FIND_QUARANTINED,
            [record.topic for record in records],
            [record.incarnation for record in records],
            [record.partition for record in records],
            [record.offset for record in records],
        )
        return {tuple(row) for row in rows}


class _StoredAndPending(PostgresStoredEvents):
    """The rows that are stored, or that would be stored. Keeps them as they were at first."""

    def __init__(self, connection: asyncpg.Connection, overlay: Overlay) -> None:
        super().__init__(connection)
        self._overlay = overlay
        self._known: dict[int, Coordinates] = {}
        self.before: dict[int, Envelope] = {}
        self.same: list[Envelope] = []

    async def find_coordinates_of_ids(self, event_ids: Sequence[int]) -> dict[int, Coordinates]:
        self._known |= await super().find_coordinates_of_ids(event_ids)
        return self._known | self._overlay.find_coordinates_of_ids(event_ids)

    async def select_for_update(self, event_ids: Sequence[int]) -> dict[int, Envelope]:
        rows = await self._read(event_ids) | self._overlay.get_rows(event_ids)
        self.before |= rows
        return rows

    async def find_row_ids_at(
        self, coordinates_set: AbstractSet[Coordinates]
    ) -> dict[Coordinates, int]:
        found = await super().find_row_ids_at(coordinates_set)
        await self.find_coordinates_of_ids(sorted(set(found.values())))
        return found

    async def find_assigned_id(self, coordinates: Coordinates) -> int | None:
        pending = self._overlay.find_assigned_id(coordinates)
        return pending or await super().find_assigned_id(coordinates)

    async def assign_id(self, coordinates: Coordinates) -> int:
        return self._overlay.assign_id(coordinates)

    async def read_same(self, events: Sequence[Envelope], write_plan: WritePlan) -> None:
        """Fetch the rows that were stored from the same records as this batch's events."""
        same = sorted(
            row
            for event, (placed, row) in zip(events, write_plan.placements, strict=True)
            if placed == "duplicate" and self._known.get(row) == source_coordinates(event)
        )
        self.same = list((await self._read(same)).values())

    async def _read(self, event_ids: Sequence[int]) -> dict[int, Envelope]:
        rows = await self._connection.fetch(READ_EVENTS_SQL, event_ids)
        return {row["event_id"]: Envelope(**row) for row in rows}


def _row_id(row: Envelope) -> int:
    assert row.event_id is not None
    return row.event_id
