"""Lets a record that takes long in the helper process wait apart, with its partition alone.

Its neighbours wait for PATIENCE_S. Then its partition isn't read until the record is done, and
is claimed again. The next owner of the partition, most likely this process, reads the record again
and takes the outcomes that are there by then.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Normalized
from normalizer.kafka import KafkaPartition
from normalizer.service.ownership import Ownership
from normalizer.store.store import Claim
from normalizer.telemetry import get_logger

PATIENCE_S: Final = 1.0

Outcomes = tuple[Normalized, ...] | None

_log: Final = get_logger()


class SlowRecords:
    """The records that take long: at most one of each partition."""

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
        """Return the outcomes of a record; None if its partition is read no further for now."""
        partition = KafkaPartition(claim.topic, claim.partition)
        task = self._begun(partition, claim, record)
        await asyncio.wait([task], timeout=PATIENCE_S)
        if task.done():
            del self._tasks[partition]
            return task.result()
        if self._ownership.held.get(partition) is claim:
            self._ownership.put_aside(partition, claim.epoch)
            task.add_done_callback(lambda _: self._ownership.release(partition, claim.epoch))
            _log.warning(
                "partition_set_aside",
                partition=str(partition),
                why=f"a record of {record.value_bytes} bytes takes long in the helper process",
                piece=record.coordinates,
            )
        return None

    def _begun(
        self, partition: KafkaPartition, claim: Claim, record: RawRecord
    ) -> asyncio.Task[Outcomes]:
        """The task for this record: the one that has begun under an earlier claim, or a new one."""
        coordinates, incarnation, task = self._tasks.get(partition, ("", 0, None))
        if task and (coordinates, incarnation) == (record.coordinates, record.incarnation):
            # One that is done without outcomes had lost its claim.
            if not task.done() or task.result() is not None:
                return task
        elif task:
            task.cancel()
        task = self._group.create_task(self._normalize(claim, record), name=f"slow {partition}")
        self._tasks[partition] = (record.coordinates, record.incarnation, task)
        return task

    async def stop(self) -> None:
        """Give up the records that are not done."""
        tasks = [task for _, _, task in self._tasks.values()]
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
