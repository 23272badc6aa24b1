"""How slices of the next batch make way for the batch that is being written."""

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any, cast

import pytest

from normalizer.config.settings import Settings
from normalizer.consumer import chunk_normalizer
from normalizer.consumer.chunk_normalizer import ChunkNormalizer
from normalizer.core.batch import BatchBuilder
from normalizer.core.normalize import Normalizer
from normalizer.kafka import FetchedChunk, KafkaPartition
from tests.support.factories import make_claim, raw_event, raw_record
from tests.support.waiting import DEADLINE_S, moment

RECORDS = 1_000
PARTITION = KafkaPartition("topic", 0)


async def fill(normalizing_gate: asyncio.Event, builder: BatchBuilder) -> None:
    """Normalize RECORDS records by Python's rules, which takes many slices."""
    membership = SimpleNamespace(
        ownership=None, stopping=asyncio.Event(), note_progress=lambda _: None
    )
    async with asyncio.TaskGroup() as tasks:
        one = ChunkNormalizer(
            Settings(core="python"),
            Normalizer(),
            cast("Any", membership),
            lambda _: contextlib.nullcontext(),
            tasks,
            normalizing_gate,
        )
        records = [raw_record(offset, raw_event()) for offset in range(RECORDS)]
        chunk = FetchedChunk(
            partition=PARTITION, from_offset=0, next_offset=RECORDS, records=records
        )
        assert await one.normalize_chunk(builder, make_claim(), chunk) is None
        await one.stop_helper()


async def test_slices_wait_for_short_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_normalizer, "_SHORT_STATEMENTS_WAIT_S", DEADLINE_S)
    normalizing_gate, builder = asyncio.Event(), BatchBuilder()

    filling = asyncio.create_task(fill(normalizing_gate, builder))
    await moment(0.05)

    assert builder.rows == 0
    normalizing_gate.set()
    await filling
    assert builder.rows == RECORDS


async def test_slices_go_on_if_a_statement_takes_long() -> None:
    builder = BatchBuilder()

    await fill(asyncio.Event(), builder)

    assert builder.rows == RECORDS
