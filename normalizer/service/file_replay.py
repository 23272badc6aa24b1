"""Reads a file of records in place of a broker, and stores the rows that the service would.

Each topic and partition in the file has a position, so a second run goes on where the first ended.
"""

import asyncio
from pathlib import Path
from typing import Final

import msgspec

from normalizer.configured_rules import normalizer_of
from normalizer.core.batch_builder import BatchBuilder
from normalizer.core.raw_record import RawRecord
from normalizer.errors import AnotherCluster, FatalError, RetryableError
from normalizer.files.record_lines import EndDetector, is_whole, pages, record_of, topic_of
from normalizer.files.unpack import Unpacked
from normalizer.kafka import KafkaPartition
from normalizer.settings import Settings
from normalizer.store.quarantine_reader import RejectionLog
from normalizer.store.read_only import read_only_connection
from normalizer.store.retry import write_with_retry
from normalizer.store.source_positions import read_file_topics
from normalizer.store.store import Claim, ShapesOfProcess, Store
from normalizer.telemetry import ServiceCounters, get_logger

CLUSTER_ID: Final = "file"
"""The cluster id in positions of files; real cluster ids are longer."""

_log: Final = get_logger()


class FileReplay:
    """One reading of one file. `run` returns at the end of the file, or soon after `stop`."""

    def __init__(self, settings: Settings, file: Path, *, accept_shapes: bool = False) -> None:
        self._settings = settings
        self._database_url = settings.required_database_url
        self._file = file
        self._normalizer = normalizer_of(settings)
        self._shapes = ShapesOfProcess(self._normalizer.fingerprint, accept_shapes)
        self._stopping = asyncio.Event()
        self._claims: dict[KafkaPartition, Claim] = {}
        self._next_offsets: dict[KafkaPartition, int] = {}
        self._refusals = RejectionLog(_log)
        self._read_before = 0
        self.counters = ServiceCounters()

    def stop(self) -> None:
        """Write the open batch, then end `run`."""
        self._stopping.set()

    async def run(self) -> None:
        """Store every record of the file that was not read before.

        Raises NormalizerError, also where the file is cut off. An unfinished last line is left
        out: once the file is complete, the next run reads it.
        """
        settings = self._settings
        async with read_only_connection(self._database_url) as connection:
            topic = topic_of(self._file, await read_file_topics(connection))
        _log.info("started", file=str(self._file), topic=topic)
        async with Store(
            self._database_url, owner=settings.owner, on_commit=self._refusals.add
        ) as store:
            builder, is_cut = BatchBuilder(), False
            with Unpacked.open(self._file) as stream:
                watched = EndDetector(stream)
                for page in pages(watched):
                    # After the end, what is left is a line without its newline.
                    if is_cut := watched.ended and not all(is_whole(line) for _, line in page):
                        break
                    for number, line in page:
                        await self._add_record(store, builder, record_of(line, number, topic))
                        if builder.is_full(settings.batch_rows):
                            await self._write(store, builder)
                            builder = BatchBuilder()
                    if self._stopping.is_set():
                        break
                is_cut = is_cut or stream.cut
            await self._write(store, builder)
        self._refusals.flush()
        if self._read_before:
            _log.info("lines_skipped", lines=self._read_before, why="read before")
        _log.info("stopped", **msgspec.structs.asdict(self.counters))
        if is_cut:
            raise FatalError(f"{self._file} is cut off")

    async def _add_record(self, store: Store, builder: BatchBuilder, record: RawRecord) -> None:
        partition = KafkaPartition(record.topic or "", record.partition)
        claim = self._claims.get(partition) or await self._claim(store, partition, record.offset)
        next_offset = self._next_offsets[partition]
        if record.offset < next_offset:
            self._read_before += 1
            return
        record = msgspec.structs.replace(record, incarnation=claim.incarnation)
        item = (record, self._normalizer.normalize(record))
        builder.add(claim.part(next_offset, record.offset + 1, [item]))
        self._next_offsets[partition] = record.offset + 1

    async def _claim(self, store: Store, partition: KafkaPartition, offset: int) -> Claim:
        """Claim a partition, unless Kafka moves its position: a file must not fence the service."""
        try:
            claim = await store.claim(
                *partition, cluster_id=CLUSTER_ID, log_start=offset, shapes=self._shapes
            )
        except AnotherCluster as error:
            raise FatalError(
                f"{partition.topic} is read from Kafka cluster {error.known} into this database: "
                "a file cannot go on with it"
            ) from error
        self._claims[partition] = claim
        self._next_offsets[partition] = claim.next_offset
        return claim

    async def _write(self, store: Store, builder: BatchBuilder) -> None:
        if not builder:
            return
        batch = builder.build()
        try:
            totals = await write_with_retry(store, batch, stop=self._stopping)
        except RetryableError:
            if self._stopping.is_set():
                return
            raise
        self.counters.batches += 1
        self.counters.add(msgspec.structs.asdict(totals))
