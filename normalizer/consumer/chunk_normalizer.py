"""Normalizes fetched records into a batch without blocking the event loop for long.

A partition may lose its claim or be set aside at any time, for example in a rebalance. Its records
may still be in the batch then, and `only_current_claims` removes them before the batch is written.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Final

from msgspec.structs import replace

from normalizer.config.settings import Settings
from normalizer.consumer.membership import GroupMembership
from normalizer.consumer.slow_records import SlowRecords
from normalizer.core.batch import Batch, BatchBuilder, RecordWithOutcomes
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Normalized
from normalizer.kafka import FetchedChunk, KafkaPartition
from normalizer.runtime.backoff import backoff_delay_s, wait_at_most
from normalizer.runtime.logging_setup import get_logger
from normalizer.runtime.native_lane import open_native_lane
from normalizer.runtime.normalizing_helper import NormalizingHelper, NormalizingHelperDiedError
from normalizer.runtime.slices import normalize_in_slices
from normalizer.store.claim import Claim

_LONGEST_RETRY_WAIT_S: Final = 10.0
"""The longest pause before a record that has killed the helper process is tried again."""
_SHORT_STATEMENTS_WAIT_S: Final = 0.05
"""How long to wait, before each slice of records, for the short SQL statements of the batch that is
being written. Without this wait, each of these statements would wait for a slice to end, with its
connection idle."""

_log: Final = get_logger()


class ChunkNormalizer:
    """Normalizes records in short slices, so that the event loop stays responsive.

    A record that would take long goes to the helper process instead. Before each slice, this waits
    up to _SHORT_STATEMENTS_WAIT_S for `normalizing_gate` to be set. Without this wait, each short
    SQL statement of the batch that's being written would be held up by a slice. `measure_stage`
    measures how long a stage of a batch takes.
    """

    def __init__(
        self,
        settings: Settings,
        normalizer: Normalizer,
        membership: GroupMembership,
        measure_stage: Callable[[str], AbstractContextManager[None]],
        tasks: asyncio.TaskGroup,
        normalizing_gate: asyncio.Event,
    ) -> None:
        self._settings = settings
        self._membership = membership
        self._ownership = membership.ownership
        self._measure_stage = measure_stage
        self._normalizing_gate = normalizing_gate
        self._normalizer = normalizer
        self.normalizing_helper = NormalizingHelper(
            settings.redact_keys, normalizer.shapes, answer_s=settings.progress_timeout_s
        )
        self.lane = open_native_lane(settings)
        self._dying_records: dict[str, tuple[int, str]] = {}
        """The records that have killed the helper process: how often, and the last error."""
        self._slow_records = SlowRecords(self._ownership, tasks, self._normalize_in_process)

    async def stop_helper(self) -> None:
        """Stop the helper process. The record that it works on is abandoned."""
        await self._slow_records.abandon_unfinished()
        await self.normalizing_helper.stop()

    async def normalize_chunk(
        self, builder: BatchBuilder, claim: Claim, chunk: FetchedChunk
    ) -> FetchedChunk | None:
        """Normalize a chunk into the batch.

        Returns the rest if the batch is full before the end.
        """
        self._membership.note_progress(chunk.partition)
        if not chunk.records:
            self._add(builder, claim, chunk.from_offset, chunk.next_offset, [])
        in_process = partial(self._slow_records.normalize, claim)
        room = self._settings.batch_rows - builder.rows
        read = normalize_in_slices(
            chunk.records,
            self._normalizer.normalize,
            heavy=in_process,
            room=room,
            lane=self.lane,
        )
        async with contextlib.aclosing(read):
            while remaining := len(chunk.records):
                await self._make_way()
                with self._measure_stage("normalize"):
                    items = await anext(read, None)
                if items is None:
                    # `normalize_in_slices` ended before the end of the chunk. It does that if this
                    # process sets the partition aside because of a slow record, loses its claim on
                    # the partition, or stops. Leave the remaining records out of the batch, because
                    # the next owner of the partition reads them again.
                    return None
                is_last = len(items) == remaining
                after = chunk.next_offset if is_last else items[-1][0].offset + 1
                self._add(builder, claim, chunk.from_offset, after, items)
                chunk = replace(chunk, from_offset=after, records=chunk.records[len(items) :])
                if not is_last and builder.is_full(self._settings.batch_rows):
                    return chunk
        return None

    async def _make_way(self) -> None:
        """Let other tasks run, and wait for short SQL statements."""
        await asyncio.sleep(0)
        if not self._normalizing_gate.is_set():
            await wait_at_most(self._normalizing_gate, _SHORT_STATEMENTS_WAIT_S)

    def _add(
        self,
        builder: BatchBuilder,
        claim: Claim,
        from_offset: int,
        next_offset: int,
        items: list[RecordWithOutcomes],
    ) -> None:
        part = claim.make_part(from_offset, next_offset, items)
        if claim.slice_records is not None:
            slice_records = self._ownership.suspects.add_to_slice(claim, len(items), next_offset)
            part = replace(part, slice_records=slice_records)
        builder.add_part(part)

    def describe_records_killing_helper(self) -> Iterator[str]:
        """Yield a line for each record that killed the helper process.

        Safe to call from any thread.
        """
        for record, (tries, why) in sorted({**self._dying_records}.items()):
            yield f"record {record}: the helper process died {tries} times: {why}"

    async def _normalize_in_process(
        self, claim: Claim, record: RawRecord
    ) -> tuple[Normalized, ...] | None:
        """Normalize a record in the helper process, and return its events and rejections.

        If the helper process dies while it works on the record, the record is retried in a new
        helper process after a pause, until that succeeds. In the meantime,
        `describe_records_killing_helper` lists the record. Returns None if this process loses the
        partition, or if the service stops.
        """
        tries = 0
        stopping = self._membership.stopping
        with self._membership.suspend_watchdog(f"helper process, for {record.coordinates_text}"):
            while self._is_ours(claim) and not stopping.is_set():
                try:
                    outcomes = await self.normalizing_helper.normalize(record)
                except NormalizingHelperDiedError as died:
                    tries += 1
                    wait_s = backoff_delay_s(tries, longest_s=_LONGEST_RETRY_WAIT_S)
                    self._dying_records[record.coordinates_text] = (tries, str(died))
                    _log.warning(
                        "helper.died",
                        record=record.coordinates_text,
                        bytes=record.value_bytes,
                        why=str(died),
                        tries=tries,
                        wait_s=round(wait_s, 1),
                    )
                    await wait_at_most(stopping, wait_s)
                else:
                    self._dying_records.pop(record.coordinates_text, None)
                    return outcomes
            self._dying_records.pop(record.coordinates_text, None)
        return None

    def _is_ours(self, claim: Claim) -> bool:
        return self._ownership.is_current_claim(claim) or self._ownership.is_claim_set_aside(claim)


def only_current_claims(batch: Batch, claims: Mapping[KafkaPartition, Claim]) -> Batch:
    """Return the batch with only those parts that were read under one of these claims.

    Pass `PartitionOwnership.current_claims`. A part whose claim was lost is left out, because the
    next owner reads its records again. So is a part of a partition that was set aside, because its
    records follow a part that isn't written yet. Once it is, this process reads them again.
    """
    return Batch(
        parts=tuple(
            part
            for part in batch.parts
            if (claim := claims.get(KafkaPartition(part.topic, part.partition)))
            and claim.epoch == part.epoch
        )
    )
