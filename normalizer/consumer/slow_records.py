"""Lets only its own partition wait for a record that is slow in the helper process.

The rest of the batch waits for PATIENCE_S. Then the partition isn't read until the record is done,
and is claimed again. The next owner of the partition, most likely this process, reads the record
again and takes the outcomes that are ready by then.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from normalizer.consumer.ownership import Ownership
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Normalized
from normalizer.kafka import KafkaPartition
from normalizer.runtime.telemetry import get_logger
from normalizer.store.store import Claim

PATIENCE_S: Final = 1.0

Outcomes = tuple[Normalized, ...] | None

_log: Final = get_logger()


class SlowRecords:
    """The slow records, at most one per partition."""

    def __init__(
        self,
        ownership: Ownership,
        tasks: asyncio.TaskGroup,
        normalize: Callable[[Claim, RawRecord], Coroutine[Any, Any, Outcomes]],
    ) -> None:
        self._ownership = ownership
        self._group = tasks
        self._normalize = normalize
        self._tasks: dict[KafkaPartition, tuple[str, int, asyncio.Task[Outcomes]]] = {}

    async def normalize(self, claim: Claim, record: RawRecord) -> Outcomes:
        """Return the outcomes of a record, or None if its partition must wait."""
        partition = KafkaPartition(claim.topic, claim.partition)
        task = self._begun(partition, claim, record)
        await asyncio.wait([task], timeout=PATIENCE_S)
        if task.done():
            del self._tasks[partition]
            return task.result()
        if self._ownership.is_claimed(claim):
            self._ownership.set_aside(partition, claim.epoch)
            task.add_done_callback(lambda _: self._ownership.release(partition, claim.epoch))
            _log.warning(
                "partition.set_aside",
                partition=str(partition),
                why=f"a record of {record.value_bytes} bytes is slow in the helper process",
                piece=record.coordinates,
            )
        return None

    def _begun(
        self, partition: KafkaPartition, claim: Claim, record: RawRecord
    ) -> asyncio.Task[Outcomes]:
        """Return the record's task, either one from an earlier claim or a new one."""
        coordinates, incarnation, task = self._tasks.get(partition, ("", 0, None))
        if task and (coordinates, incarnation) == (record.coordinates, record.incarnation):
            # A task that's done without outcomes had lost its claim.
            if not task.done() or task.result() is not None:
                return task
        elif task:
            task.cancel()
        task = self._group.create_task(self._normalize(claim, record), name=f"slow {partition}")
        self._tasks[partition] = (record.coordinates, record.incarnation, task)
        return task

    async def stop(self) -> None:
        """Abandon the unfinished records."""
        tasks = [task for _, _, task in self._tasks.values()]
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
