"""Decides which rows a batch inserts and updates, and the placement of each of its events.

An event becomes a new row unless one of three cases applies. If its record was read before, the
event is a duplicate. If another record has already reported the same event, the event is merged
into that row. If its id belongs to a different event, it's stored under another id.

This module contains no SQL. It gets the stored rows from `StoredEvents`. Source:
docs/spec/wire-shapes.md#m1, #m2, #m3, #g5.
"""

from collections import Counter
from collections.abc import Collection, Sequence

import msgspec

from normalizer.core.encoded_events import EnvelopeOrEncoded, to_envelope
from normalizer.core.identity.collisions import (
    MIN_HASHED_ID,
    match_strength,
    share_execution_and_class,
    substitute_ids,
    with_id_after_conflict,
)
from normalizer.core.identity.conflicts import LosingStepsCache
from normalizer.core.identity.coordinates import (
    DERIVED_ID_SALTS_TO_TRY,
    NO_DEDUP_HORIZONS,
    Coordinates,
    DedupHorizons,
    derive_event_id,
    has_derived_id,
    is_below_horizon,
    required_event_id,
    source_coordinates,
)
from normalizer.core.identity.digests import DigestCache
from normalizer.core.identity.merge import merge, request_needed_digests
from normalizer.core.identity.merge_flags import (
    HAS_RIVAL_FLAG,
    REPORTED_ELSEWHERE_FLAG,
    SHARES_ID_FLAG,
    has_ambiguous_report,
    row_with_flags,
)
from normalizer.core.identity.stored_events import Placement, StoredEvents, WritePlan
from normalizer.envelope import Envelope

_BY_COMMAND = 3
"""The strength of a match by command, as `match_strength` returns it."""


async def reconcile(
    events: Sequence[EnvelopeOrEncoded],
    stored: StoredEvents,
    dedup_horizons: DedupHorizons = NO_DEDUP_HORIZONS,
) -> WritePlan:
    """Decide for each event whether it becomes a row, is merged into one, or is a duplicate.

    Two records with the same coordinates are the same record, even if today's rules give the event
    another id than the one in its row. A record below the dedup horizon may have been stored
    before. So if no row has its event's id, this also looks for a row with the record's
    coordinates.

    Most events have a new id and are above the horizon. They become rows without any comparison, so
    they aren't even decoded into Envelopes.
    """
    ids = [required_event_id(event) for event in events]
    id_counts = Counter(ids)
    known = await stored.find_coordinates_of_ids(sorted(id_counts))
    again = {*known, *(event_id for event_id, times in id_counts.items() if times > 1)}
    doubtful = [
        number
        for number, event_id in enumerate(ids)
        if event_id in again
        or (dedup_horizons and is_below_horizon(source_coordinates(events[number]), dedup_horizons))
    ]
    if not doubtful:
        rows = dict(zip(ids, events, strict=True))
        return WritePlan(
            inserts=[rows[event_id] for event_id in sorted(rows)],
            updates=[],
            placements=[("stored", event_id) for event_id in ids],
        )
    return await _Reconciler(stored, known, dedup_horizons).reconcile(events, ids, doubtful)


class _Reconciler:
    """The state while a batch is reconciled: stored rows, and the batch's rows so far.

    `known` has the coordinates of the stored rows whose ids the events have.
    """

    def __init__(
        self, stored: StoredEvents, known: dict[int, Coordinates], dedup_horizons: DedupHorizons
    ) -> None:
        self._stored = stored
        self._known = known
        self._dedup_horizons = dedup_horizons
        # The row of each record that is stored, or was reconciled in this batch.
        self._row_ids: dict[Coordinates, int] = {}
        # The rows by id, as they will be after the batch. None means that the id is free.
        self._rows: dict[int, EnvelopeOrEncoded | None] = {}
        self._inserted_ids: set[int] = set()
        self._updated_ids: set[int] = set()
        # The records that were merged into a row, and those of them that changed nothing in it, or
        # nothing but the flag REPORTED_ELSEWHERE_FLAG.
        self._merged_records: list[tuple[Coordinates, int]] = []
        self._unchanging: set[Coordinates] = set()
        self._flagging: set[Coordinates] = set()
        self._ambiguous = 0
        self._digests = DigestCache()
        self._steps = LosingStepsCache()

    async def reconcile(
        self, events: Sequence[EnvelopeOrEncoded], ids: Sequence[int], doubtful: Sequence[int]
    ) -> WritePlan:
        """Reconcile the doubtful events one by one. Every other event becomes a row unchanged.

        An event is doubtful if its id is taken, or if its record may be stored already. `doubtful`
        has the indexes of these events in `events`, and `ids` has the id of each event.
        """
        self._rows = dict(zip(ids, events, strict=True))
        placements: list[Placement] = [("stored", event_id) for event_id in ids]
        for number in doubtful:
            self._rows.pop(ids[number], None)
        self._inserted_ids = set(self._rows)
        self._rows |= {ids[number]: None for number in doubtful if ids[number] not in self._known}
        doubtful_events = [to_envelope(events[number]) for number in doubtful]
        await self._load_rows(doubtful_events)
        for number, event in zip(doubtful, doubtful_events, strict=True):
            placements[number] = await self._reconcile(event)
            await self._stored.let_other_tasks_run()
        # A batch is written in two transactions. If an earlier try stopped between them, its first
        # transaction has already merged some of these events, so merging them again changes
        # nothing. Report them as merged all the same, but don't record the merge a second time.
        merged = (
            await self._stored.find_row_ids_merged_into(self._unchanging)
            if self._unchanging
            else {}
        )
        merged_records = [record for record in self._merged_records if record[0] not in merged]
        for number, event in zip(doubtful, doubtful_events, strict=True):
            if (row_id := merged.pop(source_coordinates(event), None)) is not None:
                placements[number] = "merged", row_id
        return WritePlan(
            inserts=self._sorted(self._inserted_ids),
            updates=[to_envelope(row) for row in self._sorted(self._updated_ids)],
            placements=placements,
            merged_records=merged_records,
            flagging=self._flagging,
            ambiguous=self._ambiguous,
        )

    async def _load_rows(self, events: Sequence[Envelope]) -> None:
        """Find out where these records are stored, and lock the rows that they report on.

        All processes lock these rows in ascending order of their ids, so that no two of them can
        deadlock here. (The second round has only ids from MIN_HASHED_ID on.) An event whose
        substitutes are taken locks further rows later, in the order of the events. That's rare, and
        if PostgreSQL finds a deadlock there, the batch is retried.
        """
        unknown = [event for event in events if not self._is_stored(event)]
        if self._dedup_horizons:
            below = {
                coordinates
                for coordinates in map(source_coordinates, unknown)
                if is_below_horizon(coordinates, self._dedup_horizons)
            }
            self._row_ids = await self._stored.find_row_ids_at(below) if below else {}
        again = [event for event in unknown if source_coordinates(event) not in self._row_ids]
        taken_ids = {
            event_id for event in again if (event_id := required_event_id(event)) in self._known
        }
        await self._lock({event_id for event_id in taken_ids if event_id < MIN_HASHED_ID})
        rows = self._current_rows(again)
        siblings = {
            one
            for event, row in zip(again, rows, strict=True)
            if self._may_have_siblings(row, event) and not has_derived_id(event)
            for one in substitute_ids(required_event_id(event), event.execution_id)
        }
        await self._lock(
            {event_id for event_id in taken_ids if event_id >= MIN_HASHED_ID}
            | (siblings - self._rows.keys())
        )
        reports: dict[int, list[Envelope]] = {}
        for event, row in zip(again, self._current_rows(again), strict=True):
            if row is not event and match_strength(row, event, self._steps.steps_for_row):
                reports.setdefault(required_event_id(row), [row]).append(event)
        for row_reports in reports.values():
            request_needed_digests(row_reports, self._digests)
        await self._load_digests()

    async def _lock(self, event_ids: Collection[int]) -> None:
        if event_ids:
            found = await self._stored.select_for_update(sorted(event_ids))
            self._rows |= {event_id: found.get(event_id) for event_id in event_ids}

    def _current_rows(self, events: Sequence[Envelope]) -> list[Envelope]:
        """Return the row of each event's id: the stored one, or the first event with this id."""
        first: dict[int, Envelope] = {}
        return [
            self._row(required_event_id(event)) or first.setdefault(required_event_id(event), event)
            for event in events
        ]

    async def _load_digests(self) -> bool:
        """Load the digests that a merge was missing. Returns whether any were missing."""
        missing = self._digests.missing_values()
        if missing:
            self._digests.add(missing, await self._stored.digest_as_jsonb(missing))
        return bool(missing)

    async def _reconcile(self, event: Envelope) -> Placement:
        """Return the placement of a doubtful event."""
        if self._is_stored(event):
            return "duplicate", required_event_id(event)
        row_id = self._row_ids.get(source_coordinates(event))
        if row_id is not None:
            return "duplicate", row_id
        placement = (
            self._add(event)
            if self._is_unused(required_event_id(event))
            else await self._reconcile_taken_id(event)
        )
        self._row_ids[source_coordinates(event)] = placement[1]
        return placement

    def _is_stored(self, event: Envelope) -> bool:
        """Return whether the stored row of the event's id has the event's coordinates."""
        return self._known.get(required_event_id(event)) == source_coordinates(event)

    async def _reconcile_taken_id(self, event: Envelope) -> Placement:
        """Decide what to do with an event whose id already belongs to a row.

        Producers may send different events with the same id. The first one gets the id, and each of
        the others is stored under a substitute for it (see `substitute_ids`). So this compares the
        event with the row of its id and, if that row may be about another event, with the rows of
        the substitutes. The event is merged into the row that most surely is about the same event.
        If no row is, it becomes a row of its own under the first free substitute. If none is free,
        its id is derived from its coordinates.

        If the producer sent no id, the event's id was itself derived from its coordinates. Such an
        id has no substitutes.
        """
        if has_derived_id(event):
            return await self._store_under_derived_id(event)
        holder = self._row(required_event_id(event))
        assert holder is not None
        ids = [required_event_id(event)]
        if self._may_have_siblings(holder, event):
            ids += substitute_ids(required_event_id(event), event.execution_id)
            await self._lock({*ids} - self._rows.keys())
        rows = [row for one in ids if (row := self._row(one)) is not None]
        for row in rows:
            if source_coordinates(row) == source_coordinates(event):
                return "duplicate", required_event_id(row)
        strengths = [match_strength(row, event, self._steps.steps_for_row) for row in rows]
        best = rows[strengths.index(strength := max(strengths))]
        if best is holder and strength:
            return await self._merge(holder, event)
        self._flag(holder, SHARES_ID_FLAG)
        if strength:
            return await self._merge(best, with_id_after_conflict(event, required_event_id(best)))
        rivals = [row for row in rows if share_execution_and_class(row, event)]
        for row in rivals:
            self._flag(row, HAS_RIVAL_FLAG)
        event = row_with_flags(event, HAS_RIVAL_FLAG if rivals else 0)
        free = next((one for one in ids if self._rows[one] is None), None)
        if free is None:
            return await self._store_under_derived_id(event)
        return self._add(with_id_after_conflict(event, free))

    async def _store_under_derived_id(self, event: Envelope) -> Placement:
        """Store an event under the first free id that can be derived from its coordinates.

        This is for an event whose producer sent no id, and for one whose own id and substitutes are
        all taken. Since another event may already have a derived id, there are four to try, one for
        each salt from 0 to 3. If all four belong to other events, the database assigns an id.

        If the row of such an id has the event's coordinates, the event is a duplicate. If the
        producer sent no id, and that row is another report of the same event, the event is merged
        into it.
        """
        derived = has_derived_id(event)
        for salt in DERIVED_ID_SALTS_TO_TRY:
            event_id = derive_event_id(event, salt)
            row = await self._load_row(event_id)
            if row is None:
                return self._add(self._with_id(event, event_id, derived=derived))
            if source_coordinates(row) == source_coordinates(event):
                return "duplicate", event_id
            if (
                derived
                and match_strength(row, event, self._steps.steps_for_row)
                and not has_derived_id(row)
            ):
                return await self._merge(row, event)
        return await self._store_under_assigned_id(event, derived=derived)

    async def _store_under_assigned_id(self, event: Envelope, *, derived: bool) -> Placement:
        """Give the event an id from the database, because every derived id is taken."""
        event_id = await self._stored.find_assigned_id(source_coordinates(event))
        if event_id is not None and await self._load_row(event_id):
            return "duplicate", event_id
        if event_id is None:
            event_id = await self._stored.assign_id(source_coordinates(event))
        return self._add(self._with_id(event, event_id, derived=derived))

    @staticmethod
    def _with_id(event: Envelope, event_id: int, *, derived: bool) -> Envelope:
        """Return the event under this id, with a coercion if its producer sent another one."""
        if derived:
            return msgspec.structs.replace(event, event_id=event_id)
        return with_id_after_conflict(event, event_id)

    def _may_have_siblings(self, holder: Envelope, event: Envelope) -> bool:
        """Return whether the event may belong to another row than the one stored under its id."""
        strength = match_strength(holder, event, self._steps.steps_for_row)
        return strength == 0 or (
            strength < _BY_COMMAND and holder.merge_flags & SHARES_ID_FLAG != 0
        )

    def _flag(self, row: Envelope, flags: int) -> None:
        """Set flags on the current state of a row."""
        now = self._row(required_event_id(row)) or row
        self._change(now, row_with_flags(now, flags))

    def _is_unused(self, event_id: int) -> bool:
        """Return whether the id is known to be free, in the database and in the batch so far.

        If retention deletes a row after `find_coordinates_of_ids` has found it, the report becomes
        a new row under the same id. Retention has then deleted the rows of siblings too, and
        reports that are near enough in time to the deleted one were ignored as expired, so they
        aren't here.
        """
        return event_id in self._rows and self._rows[event_id] is None

    async def _load_row(self, event_id: int) -> Envelope | None:
        """Return the row of this id. Queries it only if the batch hasn't loaded it."""
        if event_id not in self._rows:
            self._rows[event_id] = (await self._stored.select_for_update([event_id])).get(event_id)
        return self._row(event_id)

    def _row(self, event_id: int) -> Envelope | None:
        """Return the row of this id as it will be after the batch, if it was loaded or is new."""
        row = self._rows.get(event_id)
        return None if row is None else to_envelope(row)

    def _add(self, event: Envelope) -> Placement:
        event_id = required_event_id(event)
        self._rows[event_id] = event
        self._inserted_ids.add(event_id)
        return "stored", event_id

    async def _merge(self, row: Envelope, report: Envelope) -> Placement:
        merged = merge(row, report, self._digests)
        while await self._load_digests():
            merged = merge(row, report, self._digests)
        self._merged_records.append((source_coordinates(report), required_event_id(row)))
        if merged is row:
            self._unchanging.add(source_coordinates(report))
            return "duplicate", required_event_id(row)
        self._change(row, merged)
        if merged == row_with_flags(row, REPORTED_ELSEWHERE_FLAG):
            self._flagging.add(source_coordinates(report))
            return "duplicate", required_event_id(row)
        return "merged", required_event_id(row)

    def _change(self, row: Envelope, changed: Envelope) -> None:
        """Replace the row by the changed row."""
        if changed is row:
            return
        event_id = required_event_id(row)
        self._rows[event_id] = changed
        if event_id not in self._inserted_ids:
            self._updated_ids.add(event_id)
            self._ambiguous += has_ambiguous_report(changed) and not has_ambiguous_report(row)

    def _sorted(self, event_ids: Collection[int]) -> list[EnvelopeOrEncoded]:
        return [row for one in sorted(event_ids) if (row := self._rows[one]) is not None]
