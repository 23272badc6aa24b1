"""Sends the records of a mix to a topic, or writes them to a file, and writes their ledger."""

import asyncio
import time
from collections.abc import Generator
from contextlib import closing
from typing import BinaryIO

import msgspec

from simulator import kafka_producer
from simulator.kcat_lines import lines
from simulator.ledger_file import Ledger
from simulator.mix import Mix
from simulator.sent_record import SentRecord
from simulator.topic_records import records


class SimulatorRun(msgspec.Struct, frozen=True, kw_only=True):
    """The traffic of a mix and a seed. It ends after `events` or `executions`, if given."""

    mix: Mix = Mix()
    seed: int = 1
    executions: int | None = None
    events: int | None = None

    def records(self, ledger: Ledger) -> Generator[SentRecord, None, None]:
        """Yield the records. `ledger` gets every execution, at the latest when this is closed."""
        seen = 0
        stream = records(
            self.mix, self.seed, executions=self.executions, lived=ledger.add_execution
        )
        with closing(stream):
            for record in stream:
                if self.events is not None and seen >= self.events:
                    return
                seen += len(record.outcomes)
                yield record


async def run_into_topic(
    run: SimulatorRun,
    bootstrap_servers: str,
    topic: str,
    ledger: Ledger,
    *,
    paced: bool = False,
    stop: asyncio.Event | None = None,
) -> int:
    """Send the records of the run to a topic, and return their number when all are acknowledged.

    With `paced`, each record is sent at its own time. Otherwise records are sent as fast as the
    broker accepts them. They're spread over as many partitions as the topic has. Set `stop` to end
    the run early.
    """
    async with kafka_producer.producer(bootstrap_servers, topic, ledger.add_record) as sender:
        mix = msgspec.structs.replace(run.mix, partitions=await sender.partitions())
        ledger.begin(topic=topic, seed=run.seed, mix=mix)
        with closing(msgspec.structs.replace(run, mix=mix).records(ledger)) as stream:
            clock = now_us if paced else None
            return await kafka_producer.send_all(
                stream, sender, now_us=clock, stop=stop or asyncio.Event()
            )


def write_lines(run: SimulatorRun, file: BinaryIO, topic: str, ledger: Ledger) -> None:
    """Write the run as `kcat -J` would print it."""
    ledger.begin(topic=topic, seed=run.seed, mix=run.mix)
    with closing(run.records(ledger)) as stream:
        for line in lines(stream, topic, ledger.add_record):
            file.write(line)
            file.write(b"\n")


def now_us() -> int:
    """Return the time of the wall clock, in microseconds since 1970."""
    return time.time_ns() // 1000
