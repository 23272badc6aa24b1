"""Reads database and log for the live line and the table that `normalizer up` shows."""

import asyncio
import time
from collections.abc import Mapping
from typing import Final

import asyncpg
import msgspec

from normalizer.database import connected
from normalizer.errors import BrokerUnavailable
from normalizer.kafka import TopicReader
from normalizer.process.screen import Screen

_EVERY_S: Final = 1.0
_FIRST_TABLE_S: Final = 5.0
_TABLE_EVERY_S: Final = 30.0
_READ_S: Final = 5.0
_AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    BrokerUnavailable,
)
_FIGURES: Final = """
    select coalesce(sum(outcomes), 0)    as outcomes,
           coalesce(sum(stored), 0)      as stored,
           coalesce(sum(duplicate), 0)   as duplicate,
           coalesce(sum(merged), 0)      as merged,
           coalesce(sum(quarantined), 0) as quarantined,
           (
               select coalesce(sum(next_offset), 0)
               from   (
                          select   distinct on (partition) next_offset
                          from     normalizer.source_positions
                          where    topic = $1
                          order by partition, incarnation desc
                      ) as newest
           )                             as read_to,
           (
               select count(*) from projector.freshness where topic = $1 and state = 'stopped'
           )                             as stopped
    from   normalizer.source_positions
"""
_CALLS: Final = """
    select   attempts, status, sum(events)::bigint as events
    from     projector.attempts_by_status
    where    event_type in ('call.done', 'action_done', 'call_done')
    group by attempts, status
    order by attempts, status
"""
_WORDS: Final = ("COMPLETED", "FAILED", "ERROR", "CANCELLED")


class StackStats(msgspec.Struct, frozen=True, kw_only=True):
    """Totals since the beginning; `lag` is records still to read, None without a log.

    stopped: partitions that nobody reads until somebody acts.
    """

    outcomes: int
    stored: int
    duplicate: int
    merged: int
    quarantined: int
    lag: int | None
    stopped: int

    def line(self, events_a_second: float) -> str:
        """The totals as one line; of constant width while no partition is stopped."""
        lag = "-" if self.lag is None else f"{self.lag:,}"
        stopped = f"   STOPPED partitions: {self.stopped}, /readyz says why" if self.stopped else ""
        return (
            f"{events_a_second:>7,.0f} events/s   lag {lag:>6}   rows {self.stored:>10,}"
            f"   duplicates {self.duplicate:>7,}   merged {self.merged:>7,}"
            f"   quarantined {self.quarantined:>5,}{stopped}"
        )


async def read_stats(
    connection: asyncpg.Connection, log: TopicReader | None, topic: str
) -> StackStats:
    """Read the totals over every topic, and the lag of `topic`.

    Raises what asyncpg raises, and BrokerUnavailable.
    """
    ends = 0
    if log is not None:
        bounds = await log.bounds(await log.partitions(topic))
        ends = sum(bound.end for bound in bounds.values())
    row: Mapping[str, int] = await connection.fetchrow(_FIGURES, topic, timeout=_READ_S)
    return StackStats(
        outcomes=int(row["outcomes"]),
        stored=int(row["stored"]),
        duplicate=int(row["duplicate"]),
        merged=int(row["merged"]),
        quarantined=int(row["quarantined"]),
        lag=None if log is None else max(0, ends - int(row["read_to"])),
        stopped=row["stopped"],
    )


async def calls_by_attempts(connection: asyncpg.Connection) -> str:
    """Format `projector.attempts_by_status` of finished calls as a table, a line per attempt."""
    rows = await connection.fetch(_CALLS, timeout=_READ_S)
    counts: dict[int, dict[str, int]] = {}
    for row in rows:
        counts.setdefault(row["attempts"], {})[row["status"]] = row["events"]
    if not counts:
        return "no finished calls yet (projector.attempts_by_status)"
    lines = ["finished calls by attempts and status (projector.attempts_by_status):"]
    lines.append("  attempts " + "".join(f"{word:>12}" for word in _WORDS))
    lines += [
        f"  {attempts:>8} " + "".join(f"{by_status.get(word, 0):>12,}" for word in _WORDS)
        for attempts, by_status in counts.items()
    ]
    return "\n".join(lines)


async def show_stats(
    database_url: str, log: TopicReader | None, topic: str, screen: Screen
) -> None:
    """Print a line every second and the table every half minute, also in outages.

    Raises BrokenPipeError once nobody reads them.
    """
    while screen.is_read:
        try:
            async with connected(database_url, application_name="normalizer up") as connection:
                await _show_while_connected(connection, log, topic, screen)
        except _AWAY as error:
            screen.print_live(f"no figures: {type(error).__name__}; trying again")
        await asyncio.sleep(_EVERY_S)
    raise BrokenPipeError


async def show_calls(database_url: str, screen: Screen) -> None:
    """Print the table now, or that the database is away."""
    try:
        async with connected(database_url, application_name="normalizer up") as connection:
            screen.print_line(await calls_by_attempts(connection))
    except _AWAY as error:
        screen.print_line(f"no table: {type(error).__name__}")


async def _show_while_connected(
    connection: asyncpg.Connection, log: TopicReader | None, topic: str, screen: Screen
) -> None:
    before, before_s = await read_stats(connection, log, topic), time.monotonic()
    next_table_s = before_s + _FIRST_TABLE_S
    while screen.is_read:
        await asyncio.sleep(_EVERY_S)
        now, now_s = await read_stats(connection, log, topic), time.monotonic()
        screen.print_live(now.line((now.outcomes - before.outcomes) / (now_s - before_s)))
        before, before_s = now, now_s
        if now_s >= next_table_s:
            screen.print_line(await calls_by_attempts(connection))
            next_table_s = now_s + _TABLE_EVERY_S
