"""Prints how calls ended, by attempts and status, every half minute while the stack runs.

It shows somebody who tries the stack for the first time that events arrive. The figures come from
the same view as those of the dashboard.
"""

import asyncio
import time
from typing import Final

import asyncpg

from normalizer.postgres.database import open_connection
from normalizer.runtime.screen import Screen

_LOOK_S: Final = 1.0
_FIRST_TABLE_S: Final = 5.0
_TABLE_EVERY_S: Final = 30.0
_READ_S: Final = 5.0
_AWAY: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
_CALLS: Final = """
    select   attempts, status, sum(calls)::bigint as calls
    from     projector.call_outcomes_by_attempt
    group by attempts, status
    order by attempts, status
"""
_WORDS: Final = ("COMPLETED", "FAILED", "ERROR", "CANCELLED")


async def print_call_summary_periodically(database_url: str, screen: Screen) -> None:
    """Print the table every half minute, even during outages.

    Raises BrokenPipeError once nobody reads the output.
    """
    next_table_s = time.monotonic() + _FIRST_TABLE_S
    while screen.is_read:
        await asyncio.sleep(_LOOK_S)
        if time.monotonic() >= next_table_s:
            await print_call_summary(database_url, screen)
            next_table_s = time.monotonic() + _TABLE_EVERY_S
    raise BrokenPipeError


async def print_call_summary(database_url: str, screen: Screen) -> None:
    """Print the table now, or say that the database is unreachable."""
    try:
        async with open_connection(database_url, application_name="normalizer up") as connection:
            screen.print_line(await _calls_by_attempts(connection))
    except _AWAY as error:
        screen.print_line(f"no table: {type(error).__name__}")


async def _calls_by_attempts(connection: asyncpg.Connection) -> str:
    """Format the finished calls, one line per number of attempts.

    They come from the view `projector.call_outcomes_by_attempt`.
    """
    rows = await connection.fetch(_CALLS, timeout=_READ_S)
    counts: dict[int, dict[str, int]] = {}
    for row in rows:
        counts.setdefault(row["attempts"], {})[row["status"]] = row["calls"]
    if not counts:
        return "no finished calls yet (projector.call_outcomes_by_attempt)"
    lines = ["finished calls by attempts and status (projector.call_outcomes_by_attempt):"]
    lines.append("  attempts " + "".join(f"{word:>12}" for word in _WORDS))
    lines += [
        f"  {attempts:>8} " + "".join(f"{by_status.get(word, 0):>12,}" for word in _WORDS)
        for attempts, by_status in counts.items()
    ]
    return "\n".join(lines)
