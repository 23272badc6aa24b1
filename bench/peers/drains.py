"""Measures how fast a program reads a full topic into an empty database, and at what cost.

The clock starts when the program's consumer group is stable, so the start of its processes doesn't
count. It ends when everything is stored. For the service, that is when its positions reach the end
of the log. For the others, it's the end of their last statement, once their group has committed the
offsets of the whole topic.
"""

import asyncio
import time
from typing import Final

import asyncpg
import msgspec

from bench.peers.contestants import Contestant
from bench.peers.costs import cpu_s, peak_mb
from bench.peers.servers import MONITOR, Servers, stop

_START_S: Final = 180.0
_QUIET_S: Final = 60.0
"""A contestant that commits nothing for so long stands still, though it may try again and again."""
_READ: Final = "select coalesce(sum(next_offset), 0)::bigint from normalizer.source_positions"
_PROGRESS: Final = """
    select extract(epoch from max(state_change))::double precision
    from   pg_stat_activity
    where  datname = current_database() and application_name is distinct from $1
"""


class Drain(msgspec.Struct, kw_only=True):
    """One drain. `seconds` is None where it failed; CPU is in microseconds."""

    who: str
    round: int
    records: int
    rows: int
    seconds: float | None
    rate: float = 0.0
    own_us: float = 0.0
    postgres_us: float = 0.0
    kafka_us: float = 0.0
    memory_mb: float = 0.0
    last_words: str = ""


async def drain(
    servers: Servers,
    who: Contestant,
    number: int,
    topic: str,
    events: int,
    *,
    expected: int | None = None,
    unguarded: bool = False,
    keep: bool = False,
) -> Drain:
    """Drain the topic once. It fails if other than the `expected` rows are stored.

    `keep` leaves the database, named after contestant and round.
    """
    name = f"{who.name}{'-unguarded' if unguarded else ''}-{topic}-{number}"
    group = f"connect-{name}" if who.kind == "connect" else name
    records = await servers.count_records(topic)
    url = await servers.create_database(name, who)
    monitor = await asyncpg.connect(url, server_settings={"application_name": MONITOR})
    children = await servers.start(who, topic, url, group, unguarded=unguarded)
    pids = [child.pid for child in children]
    try:
        await until_stable(servers, who, group)
        costs = _costs(servers, pids)
        began_s = time.time()
        ended_s = await _until_read(servers, who, group, records, monitor)
        costs = [after - before for before, after in zip(costs, _costs(servers, pids), strict=True)]
        table = "normalizer.events" if who.kind == "service" else "events"
        rows = await monitor.fetchval(f"select count(*) from {table}")  # noqa: S608 - our names
        made = Drain(who=who.name, round=number, records=records, rows=rows, seconds=None)
        made.memory_mb = peak_mb(pids)
        if ended_s is None:
            made.last_words = _last_words(servers, group)
            return made
        if expected not in {None, rows}:
            made.last_words = f"{rows:,} rows of {expected:,} stored"
            return made
        handled = rows if who.kind == "connect" else events
        made.seconds = ended_s - began_s
        made.rate = handled / made.seconds
        made.own_us, made.postgres_us, made.kafka_us = (one / handled * 1e6 for one in costs)
        return made
    finally:
        await stop(children)
        await monitor.close()
        if not keep:
            await servers.drop_database(name)


async def until_stable(servers: Servers, who: Contestant, group: str) -> None:
    """Wait until the contestant's group has all its members.

    Raises SystemExit with the end of its log if that takes three minutes.
    """
    try:
        async with asyncio.timeout(_START_S):
            while not await servers.is_stable(group, who.members):
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise SystemExit(f"{who.name} hasn't started: {_last_words(servers, group)}") from None


def _costs(servers: Servers, pids: list[int]) -> list[float]:
    return [cpu_s(of) for of in (pids, [servers.postgres.pid], [servers.kafka.pid])]


async def _until_read(
    servers: Servers,
    who: Contestant,
    group: str,
    records: int,
    monitor: asyncpg.Connection,
) -> float | None:
    """Return the time when everything was stored, or None for a contestant that's stuck."""
    before = -1
    moved_s = time.time()
    last_s = 0.0
    while True:
        if who.kind == "service":
            read = await monitor.fetchval(_READ)
            last_s = time.time()
        else:
            read = await servers.committed(group)
            last_s = max(last_s, await monitor.fetchval(_PROGRESS, MONITOR) or 0.0)
        if read >= records:
            return last_s
        if read != before:
            before, moved_s = read, time.time()
        elif time.time() - moved_s > _QUIET_S:
            return None
        await asyncio.sleep(0.05)


def _last_words(servers: Servers, group: str) -> str:
    log = servers.log_path(group)
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    said = [line.strip() for line in lines if "stops at" in line or "Error" in line]
    return said[-1][:160] if said else ""
