"""What was asked for in, records and their ledger out: into a topic, or as lines of a file."""

import asyncio
import time
from collections.abc import Generator
from contextlib import closing
from typing import BinaryIO

import msgspec

from simulator import kafka
from simulator.ledger import Ledger
from simulator.lines import lines
from simulator.mix import Mix
from simulator.record import Record
from simulator.topic import records


class Play(msgspec.Struct, frozen=True, kw_only=True):
    """So much traffic of one mix and seed: until `events` or `executions` have run out."""

    mix: Mix = Mix()
    seed: int = 1
    executions: int | None = None
    events: int | None = None

    def records(self, ledger: Ledger) -> Generator[Record, None, None]:
        """The records; `ledger` hears of every execution, at the latest when this is closed."""
        seen = 0
        stream = records(self.mix, self.seed, executions=self.executions, lived=ledger.lived)
        with closing(stream):
            for record in stream:
                if self.events is not None and seen >= self.events:
                    return
                seen += len(record.outcomes)
                yield record


async def play_into_topic(
    play: Play,
    bootstrap_servers: str,
    topic: str,
    ledger: Ledger,
    *,
    paced: bool = False,
    stop: asyncio.Event | None = None,
) -> int:
    """Send the play to a topic and wait for all of it to be acknowledged; gives how many records.

    `paced`: each record at its own time, else as fast as the broker takes them. The topic says how
    many partitions there are. `stop` ends it early.
    """
    async with kafka.producer(bootstrap_servers, topic, ledger.placed) as sender:
        mix = msgspec.structs.replace(play.mix, partitions=await sender.partitions())
        ledger.begin(topic=topic, seed=play.seed, mix=mix)
        with closing(msgspec.structs.replace(play, mix=mix).records(ledger)) as stream:
            clock = now_us if paced else None
            return await kafka.send_all(stream, sender, now_us=clock, stop=stop or asyncio.Event())


def write_lines(play: Play, file: BinaryIO, topic: str, ledger: Ledger) -> None:
    """Write the play as `kcat -J` would print it."""
    ledger.begin(topic=topic, seed=play.seed, mix=play.mix)
    with closing(play.records(ledger)) as stream:
        for line in lines(stream, topic, ledger.placed):
            file.write(line)
            file.write(b"\n")


def now_us() -> int:
    """The wall clock, in microseconds since 1970."""
    return time.time_ns() // 1000
