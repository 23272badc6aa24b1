"""What the service counts after a write."""

import contextlib
from types import SimpleNamespace
from typing import Any, cast

import pytest

from normalizer.config.settings import Settings
from normalizer.consumer.batch_filler import FilledBatch
from normalizer.consumer.record_store import ServiceStores
from normalizer.consumer.service import Service
from normalizer.core.batch import Batch, BatchBuilder, OutcomeTotals
from normalizer.errors import FencedError, PartsNotWrittenError
from normalizer.kafka import KafkaPartition
from normalizer.store.store import Store
from normalizer.store.write_retry import InFlightBatch
from tests.support.factories import TOPIC, envelope, make_batch, make_claim


def claim_and_build(service: Service, count: int) -> FilledBatch:
    """Claim this many partitions, and return a batch with a record of each."""
    partitions = [KafkaPartition(TOPIC, number) for number in range(count)]
    service.ownership._reader = cast(
        "Any", SimpleNamespace(assigned=frozenset(partitions), stop_reading=lambda _: None)
    )
    builder = BatchBuilder()
    for partition in partitions:
        claim = make_claim(partition.partition)
        service.ownership.note_claim(partition, claim, log_end=1)
        builder.add_part(make_batch(envelope(partition.partition), claim=claim).parts[0])
    return FilledBatch(builder.build(), "age")


class HalfWritingStore(Store):
    """Writes all parts except those of partition 1, as the relay's store may."""

    async def write(self, _batch: Batch, *, projections: bool = True) -> OutcomeTotals:  # noqa: ARG002 - as in Store
        raise PartsNotWrittenError([FencedError("fenced", topic=TOPIC, partition=1)])


class SettingAsideStore(Store):
    """Hands over every part of its batch, as if each waited for a lock."""

    in_flight: InFlightBatch

    async def write(self, batch: Batch, *, projections: bool = True) -> OutcomeTotals:  # noqa: ARG002 - as in Store
        self.in_flight.set_aside.extend(batch.parts)
        return OutcomeTotals()


async def test_a_batch_whose_parts_are_all_set_aside_is_not_counted_as_written() -> None:
    store = SettingAsideStore("postgresql://one@localhost/one", owner="one")
    service = Service(Settings(), open_stores=lambda *_: ServiceStores(store, store, None))
    store.in_flight = service._in_flight
    filled = claim_and_build(service, 1)

    await service._write(filled, lambda _: contextlib.nullcontext())

    assert service.counters.batches == 0


async def test_the_written_parts_of_a_batch_are_inspected_for_drift(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = HalfWritingStore("postgresql://one@localhost/one", owner="one")
    service = Service(Settings(), open_stores=lambda *_: ServiceStores(store, store, None))
    filled = claim_and_build(service, 2)
    inspected: list[Batch] = []

    def inspect_batch(batch: Batch, _now_s: float) -> dict[object, int]:
        inspected.append(batch)
        return {}

    monkeypatch.setattr(service.observer.drift_detector, "inspect_batch", inspect_batch)

    await service._write(filled, lambda _: contextlib.nullcontext())

    assert [part.partition for batch in inspected for part in batch.parts] == [0]
    assert service.counters.batches == 1
