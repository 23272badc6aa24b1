"""Reads a partition as a separate process, and prints what it took: records, bytes, and memory.

`python -m tests.support.read_topic ADDRESS TOPIC END`
"""

import asyncio
import re
import sys
from pathlib import Path

from normalizer.config.settings import Settings
from normalizer.core.decode.record_limits import record_size
from normalizer.kafka import FetchedChunk, KafkaPartition
from normalizer.kafka.range_reader import OffsetRange, OffsetRangeReader


async def read(address: str, topic: str, end: int) -> tuple[int, int]:
    """Return the number of records, and their bytes."""
    records = total_bytes = 0
    async with OffsetRangeReader(Settings(kafka_bootstrap_servers=(address,))) as ranges:
        async for chunk in ranges.read_ranges({KafkaPartition(topic, 0): OffsetRange(0, 0, end)}):
            assert isinstance(chunk, FetchedChunk)
            records += len(chunk.records)
            total_bytes += sum(map(record_size, chunk.records))
    return records, total_bytes


def _peak_kib() -> int:
    """The peak since this program began. ru_maxrss would begin with that of its parent."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


if __name__ == "__main__":
    before_kib = _peak_kib()
    counted = asyncio.run(read(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    print(*counted, (_peak_kib() - before_kib) << 10)  # noqa: T201 - read by the test
