"""A state machine test of the store: random steps on a real database, compared with a model.

The model is the log itself: what was appended to each partition, how far it was read, and who owns
it. After every step, positions and outcomes must agree with the model. At the end of an example,
`ledger verify` must explain every row, and every view must show what a plain computation from the
events gives.
"""

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from normalizer.core.batch import Batch, PartitionBatch, RecordWithOutcomes
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Envelope, Rejected
from normalizer.errors import PositionError
from normalizer.store.position_changes import PositionChange, change_position
from simulator.view_fold import Row
from tests.support.factories import RECORDED_MS, TOPIC, half_encoded
from tests.support.machine_database import CrashError, MachineDatabase, Writer
from tests.support.machine_records import values, windows
from tests.support.tampering import TAMPERING

_T = TypeVar("_T")

PARTITIONS: Final = (0, 1)
WRITERS: Final = (0, 1)
_MS_A_RECORD: Final = 60_000
_ARCHIVED_FROM: Final = 1 << 61
"""Ids for executions that retention or forget deleted: no producer has such a one."""
_DRAWN_FOR_COMMANDS: Final = (7, 27)
"""One example in twenty ends with the commands that verify: they take longer than all its steps."""
_DRAWN_FOR_DIVERGENCE: Final = range(10)
"""One example in four may write without projections: to repair takes longer than all its steps."""

_normalize: Final = Normalizer().normalize

partitions: Final = st.sampled_from(PARTITIONS)
writers: Final = st.sampled_from(WRITERS)
lengths: Final = st.lists(st.integers(0, 6), min_size=len(PARTITIONS), max_size=len(PARTITIONS))


class PartitionModel:
    """One partition: its log, how far it was read, and what was counted of it."""

    def __init__(self) -> None:
        self.log: list[RecordWithOutcomes] = []
        self.next_offset = 0
        self.read_before = 0
        """Every record below was read before."""
        self.epoch = 0
        self.outcomes = 0
        self.rewound = 0
        self.skipped: set[int] = set()

    def move(self, to: int) -> None:
        """Its records up to there are read."""
        self.outcomes += sum(len(outcomes) for _, outcomes in self.log[self.next_offset : to])
        self.next_offset = to
        self.read_before = max(self.read_before, to)


class StoreMachine(RuleBasedStateMachine):
    """Rules are actions of producers, writers, and operators, any of them at any time."""

    def __init__(self, database: MachineDatabase) -> None:
        super().__init__()
        self.database = database
        self.models = {number: PartitionModel() for number in PARTITIONS}
        self.writers = database.writers
        self.archived: list[Row] = []
        self.archived_ids: set[int | None] = set()
        self.records = 0
        self.may_diverge = False
        self.is_divergent = False
        self.is_verified = False
        self.tampered = ""
        self.has_horizon = False
        self.has_failed = False
        self.run(database.reset())

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """On the loop of the database's connections."""
        try:
            return self.database.loop.run_until_complete(work)
        except BaseException:
            self.has_failed = True
            raise

    @initialize(
        sent=st.lists(values, min_size=4, max_size=12),
        draw=st.integers(0, 39),
        tampered=st.sampled_from(sorted(TAMPERING)),
    )
    def begin(self, sent: list[bytes | None], draw: int, tampered: str) -> None:
        """Each partition has an owner, and so a position, and some records."""
        self.is_verified = draw in _DRAWN_FOR_COMMANDS
        self.may_diverge = draw in _DRAWN_FOR_DIVERGENCE
        self.tampered = tampered
        for number, value in enumerate(sent):
            self._append(PARTITIONS[number % len(PARTITIONS)], value)
        for number in PARTITIONS:
            self.claim(number, number)

    # What producers do.

    @rule(partition=partitions, sent=st.lists(values, min_size=1, max_size=6))
    def append(self, partition: int, sent: list[bytes | None]) -> None:
        for value in sent:
            self._append(partition, value)

    @rule(sent=windows, cut=st.integers(0, 24), swapped=st.booleans())
    def append_simulated(self, sent: list[bytes | None], cut: int, *, swapped: bool) -> None:
        """Executions of a platform, cut in two partitions. The later part may come first."""
        parts = [(PARTITIONS[0], sent[:cut]), (PARTITIONS[1], sent[cut:])]
        for partition, values_of_it in reversed(parts) if swapped else parts:
            for value in values_of_it:
                self._append(partition, value)

    @rule(partition=partitions, data=st.data())
    def append_again(self, partition: int, data: st.DataObject) -> None:
        """A producer sends some of what was sent before once more, in another order."""
        sent = [record.value for model in self.models.values() for record, _ in model.log]
        for value in data.draw(st.lists(st.sampled_from(sent), min_size=1, max_size=5)):
            self._append(partition, value)

    def _append(self, partition: int, value: bytes | None) -> None:
        log = self.models[partition].log
        record = RawRecord(
            topic=TOPIC,
            partition=partition,
            offset=len(log),
            value=value,
            recorded_ms=RECORDED_MS + self.records * _MS_A_RECORD,
        )
        self.records += 1
        log.append((record, tuple(_normalize(record))))

    # What writers do.

    @rule(writer=writers, partition=partitions)
    def claim(self, writer: int, partition: int) -> None:
        """Claim a partition, which fences its last owner."""
        claim = self.run(self.writers[writer].claim(partition))
        model = self.models[partition]
        assert claim.next_offset == model.next_offset
        assert claim.epoch > model.epoch
        model.epoch = claim.epoch

    @rule(
        writer=writers,
        sizes=lengths,
        crash=st.sampled_from(("", "", "", *Writer.CRASHES)),
        goes_on=st.booleans(),
    )
    def write(self, writer: int, sizes: list[int], crash: str, *, goes_on: bool) -> None:
        """One batch of any cut. After a crash the writer tries the batch again, or is gone."""
        one = self.writers[writer]
        batch = self._next_batch(one, sizes)
        if batch is None:
            return
        if not self._is_owner(one, batch):
            self._is_rejected(one, batch)
            return
        try:
            self.run(one.write(batch, crash=crash))
        except CrashError:
            self.has_failed = False
            if crash == "after the commit":
                self._moved(one, batch)
            if goes_on:
                self.run(one.write(batch))
                if crash == "before the commit":
                    self._moved(one, batch)
                else:
                    assert one.written is None, "a batch was written twice"
            else:
                one.die()
        else:
            self._moved(one, batch)

    @precondition(lambda self: self.may_diverge)
    @rule(writer=writers, sizes=lengths)
    def write_without_projections(self, writer: int, sizes: list[int]) -> None:
        """As a batch is written whose events a projection cannot take."""
        one = self.writers[writer]
        batch = self._next_batch(one, sizes)
        if batch is not None and self._is_owner(one, batch):
            self.run(one.write(batch, projections=False))
            self._moved(one, batch)
            self.is_divergent = True

    @rule(sizes=lengths)
    def write_together(self, sizes: list[int]) -> None:
        """Both at the same moment, with partitions that share executions and events."""
        batches = {number: self._next_batch(one, sizes) for number, one in self.writers.items()}
        ready = [
            (self.writers[number], batch)
            for number, batch in batches.items()
            if batch is not None and self._is_owner(self.writers[number], batch)
        ]

        async def write() -> None:
            async with asyncio.TaskGroup() as group:
                for one, batch in ready:
                    group.create_task(one.write(batch))

        self.run(write())
        for one, batch in ready:
            self._moved(one, batch)

    @rule(writer=writers, sizes=lengths)
    def write_while_claimed(self, writer: int, sizes: list[int]) -> None:
        """The other claims all of the batch's partitions meanwhile: one of the two is first."""
        one, other = self.writers[writer], self.writers[1 - writer]
        batch = self._next_batch(one, sizes)
        if batch is None or not self._is_owner(one, batch):
            return

        async def race() -> tuple[bool, int]:
            (part, *_) = batch.parts
            written, claim = await asyncio.gather(
                one.write(batch), other.claim(part.partition), return_exceptions=True
            )
            if isinstance(claim, BaseException):
                raise claim
            if isinstance(written, BaseException) and not isinstance(written, PositionError):
                raise written
            assert claim.next_offset == (
                part.from_offset if isinstance(written, BaseException) else part.next_offset
            )
            self.models[part.partition].epoch = claim.epoch
            return not isinstance(written, BaseException), part.partition

        is_written, taken = self.run(race())
        if is_written:
            self._moved(one, batch)
        one.claims.pop(taken, None)

    def _next_batch(self, writer: Writer, sizes: list[int]) -> Batch | None:
        """This many records of each partition, from its claims' offsets on."""
        parts = []
        for number, size in zip(PARTITIONS, sizes, strict=True):
            claim = writer.claims.get(number)
            items = (
                self.models[number].log[claim.next_offset : claim.next_offset + size]
                if claim
                else []
            )
            if claim and items:
                parts.append(
                    PartitionBatch(
                        topic=TOPIC,
                        incarnation=claim.incarnation,
                        partition=number,
                        epoch=claim.epoch,
                        from_offset=claim.next_offset,
                        next_offset=claim.next_offset + len(items),
                        items=[half_encoded(item) for item in items],
                    )
                )
        return Batch(parts=tuple(parts)) if parts else None

    def _is_owner(self, writer: Writer, batch: Batch) -> bool:
        return all(
            writer.claims[part.partition].epoch == self.models[part.partition].epoch
            for part in batch.parts
        )

    def _is_rejected(self, writer: Writer, batch: Batch) -> None:
        """Nothing of the batch is written, and the writer drops what it lost."""
        try:
            self.run(writer.write(batch))
        except PositionError:
            self.has_failed = False
        else:
            self.has_failed = True
            raise AssertionError("a writer wrote to a partition that it does not own")
        for part in batch.parts:
            if writer.claims[part.partition].epoch != self.models[part.partition].epoch:
                del writer.claims[part.partition]

    def _moved(self, writer: Writer, batch: Batch) -> None:
        """Update the model after a commit. A record that was read before must not count again.

        There is an exception: once the row of an event is archived, a report of it that comes later
        than the margin is a new event. If a batch has such a report, the model expects nothing of
        it.
        """
        is_again = True
        for part in batch.parts:
            model = self.models[part.partition]
            offsets = range(part.from_offset, part.next_offset)
            is_again &= part.next_offset <= model.read_before
            is_again &= model.skipped.isdisjoint(offsets)
            is_again &= self.archived_ids.isdisjoint(_event_ids(part.items))
            model.skipped.difference_update(offsets)
            model.move(part.next_offset)
            if claim := writer.claims.get(part.partition):
                writer.claims[part.partition] = msgspec.structs.replace(
                    claim, next_offset=part.next_offset
                )
        if is_again and writer.written is not None:
            totals = writer.written.totals
            counted_again = totals.outcomes - totals.duplicate - totals.ignored
            assert counted_again == 0, f"records that were read before counted again: {totals}"

    # What operators do.

    @rule(partition=partitions, back=st.integers(0, 12))
    def move_position(self, partition: int, back: int) -> None:
        """Pass the next record, or go back: the only way back there is."""
        model = self.models[partition]
        to = max(model.next_offset - back, 0)
        if to < model.next_offset:
            self._change_position("rewind", partition, to, [])
            model.rewound += model.next_offset - to
            model.next_offset = to
        elif to < len(model.log):
            self._skip(partition, model)

    def _skip(self, partition: int, model: PartitionModel) -> None:
        """The next record goes to quarantine."""
        at = model.next_offset
        record, _ = model.log[at]
        outcome = Rejected(reason="skipped", detail="by the state machine")
        self._change_position("skip", partition, at + 1, [(record, (outcome,))])
        model.next_offset = at + 1
        model.outcomes += 1
        if at >= model.read_before:
            model.skipped.add(at)
        model.read_before = max(model.read_before, at + 1)

    def _change_position(
        self, action: Any, partition: int, to: int, items: list[RecordWithOutcomes]
    ) -> None:
        model = self.models[partition]
        part = PartitionBatch(
            topic=TOPIC,
            incarnation=0,
            partition=partition,
            epoch=model.epoch,
            from_offset=model.next_offset,
            next_offset=to,
            items=items,
        )
        change = PositionChange(action=action, who="machine", why="a rule of it")
        epoch = self.run(change_position(self.database.url, change, part))
        assert epoch > model.epoch
        model.epoch = epoch

    @precondition(lambda self: not self.is_divergent)
    @rule(
        back=st.integers(0, 30),
        margin=st.sampled_from((0, 0, 3, 10)),
        steps=st.sampled_from((None, None, 0, 1, 2)),
    )
    def archive(self, back: int, margin: int, steps: int | None) -> None:
        """Retention: what lies before the horizon is ignored, and silent executions are deleted.

        It may be killed after `steps`; then some of them stay.
        """
        recorded_ms = RECORDED_MS + max(self.records - back, 0) * _MS_A_RECORD
        before = datetime.fromtimestamp(recorded_ms / 1000, UTC)
        margin_time = timedelta(milliseconds=margin * _MS_A_RECORD)
        self.has_horizon = True
        self._has_gone(self.run(self.database.archive(before, margin_time, steps)))

    @precondition(lambda self: not self.is_divergent)
    @rule(data=st.data(), is_killed=st.sampled_from((False, False, True)))
    def forget(self, data: st.DataObject, *, is_killed: bool) -> None:
        """Erase an execution of any age, for example one with records that are still to be read.

        It may be killed before it deletes the rows. Then another step may run it again, or none
        does.
        """
        known = {
            one.execution_id
            for model in self.models.values()
            for _, outcomes in model.log
            for one in outcomes
            if isinstance(one, Envelope)
        }
        if not known:
            return
        execution_id = data.draw(st.sampled_from(sorted(known)))
        self.has_horizon = True
        self._has_gone(self.run(self.database.forget(execution_id, is_killed=is_killed)))

    def _has_gone(self, gone: list[Row]) -> None:
        """Counts still cover these deleted rows."""
        first_id = _ARCHIVED_FROM + len(self.archived)
        ids = {row["execution_id"]: first_id + nth for nth, row in enumerate(gone)}
        self.archived += [row | {"execution_id": ids[row["execution_id"]]} for row in gone]
        self.archived_ids.update(row["event_id"] for row in gone)

    @precondition(lambda self: self.is_divergent)
    @rule()
    def repair(self) -> None:
        self.run(self.database.repair())
        self.is_divergent = False

    # The invariants, and the checks at the end.

    @invariant()
    def positions_and_outcomes_agree(self) -> None:
        expected = [
            (number, model.next_offset, model.outcomes, model.outcomes, model.rewound)
            for number, model in self.models.items()
            if model.epoch
        ]
        assert self.run(self.database.positions()) == expected

    def teardown(self) -> None:
        """Read the rest and compare everything, unless a step failed."""
        try:
            if not self.has_failed:
                self._read_to_the_end()
                if self.is_divergent:
                    self.repair()
                self.positions_and_outcomes_agree()
                self.run(self.database.assert_tables_hold_what_was_counted())
                self.run(self.database.assert_views_are_the_fold(self.archived))
                if self.is_verified:
                    self.run(self.database.assert_commands_find_nothing_wrong())
                if self.is_verified and not self.has_horizon:
                    self.run(self.database.assert_tampering_is_found_and_repaired(self.tampered))
        finally:
            for one in self.writers.values():
                one.forget()

    def _read_to_the_end(self) -> None:
        (writer, *_) = WRITERS
        for number in PARTITIONS:
            self.claim(writer, number)
        self.write(
            writer, [len(self.models[number].log) for number in PARTITIONS], "", goes_on=False
        )


def _event_ids(items: list[RecordWithOutcomes]) -> set[int | None]:
    return {one.event_id for _, outcomes in items for one in outcomes if isinstance(one, Envelope)}
