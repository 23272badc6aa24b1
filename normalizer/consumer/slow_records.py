"""Keeps a record that takes long in the helper process from delaying other partitions.

A batch waits _PATIENCE_S for such a record, and is then written without it. The record's partition
isn't read until the helper process has finished. After that, the partition is claimed again, most
likely by this process, which reads the record again and finds its outcomes ready. If an operator
moves the position meanwhile, the process follows it without waiting for the record.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from normalizer.consumer.ownership import PartitionOwnership
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Normalized
from normalizer.kafka import KafkaPartition
from normalizer.runtime.logging_setup import get_logger
from normalizer.store.claim import Claim

_PATIENCE_S: Final = 1.0
"""The heaviest records that were measured took half of it (`defects` in docs/results.csv)."""

OutcomesIfReady = tuple[Normalized, ...] | None

_log: Final = get_logger()


class SlowRecords:
    """The slow records, at most one per partition."""

    def __init__(
        self,
        ownership: PartitionOwnership,
        tasks: asyncio.TaskGroup,
        normalize: Callable[[Claim, RawRecord], Coroutine[Any, Any, OutcomesIfReady]],
    ) -> None:
        self._ownership = ownership
        self._group = tasks
        self._normalize = normalize
        self._tasks: dict[KafkaPartition, tuple[str, int, asyncio.Task[OutcomesIfReady]]] = {}
        """The slow record of each partition: its coordinates, its incarnation, and its task."""

    async def normalize(self, claim: Claim, record: RawRecord) -> OutcomesIfReady:
        """Return the outcomes of a record, or None if its partition must wait for them.

        In that case the partition is set aside until the record's task ends.
        """
        partition = KafkaPartition(claim.topic, claim.partition)
        task = self._begun(partition, claim, record)
        await asyncio.wait([task], timeout=_PATIENCE_S)
        if task.done():
            del self._tasks[partition]
            return task.result()
        if self._ownership.is_current_claim(claim):
            self._ownership.set_partition_aside(partition, claim.epoch)
            task.add_done_callback(
                lambda _: self._ownership.release_for_new_claim(partition, claim.epoch)
            )
            _log.warning(
                "partition.set_aside",
                partition=str(partition),
                why=f"a record of {record.value_bytes} bytes is slow in the helper process",
                piece=record.coordinates_text,
            )
        return None

    def _begun(
        self, partition: KafkaPartition, claim: Claim, record: RawRecord
    ) -> asyncio.Task[OutcomesIfReady]:
        """Return the task for the record. It may have been started under an earlier claim."""
        coordinates, incarnation, task = self._tasks.get(partition, ("", 0, None))
        if task and (coordinates, incarnation) == (record.coordinates_text, record.incarnation):
            # A task without outcomes ended because its claim was lost. Start a new task for the
            # record in that case.
            if not task.done() or task.result() is not None:
                return task
        elif task:
            task.cancel()
        task = self._group.create_task(self._normalize(claim, record), name=f"slow {partition}")
        self._tasks[partition] = (record.coordinates_text, record.incarnation, task)
        return task

    async def abandon_unfinished(self) -> None:
        """Abandon the records that aren't finished."""
        tasks = [task for _, _, task in self._tasks.values()]
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
