"""Measures how long the page's searches and its comparison of versions take over a long history.

    python -m bench.search                                three million events in thirty days
    python -m bench.search --events 30000000 --results    the full form, into docs/results.csv

Each query runs as the page runs it, with the page's window of 24 hours and with 30 days, and must
end within a second. A search by id must not read more than a few blocks, however much is stored.
"""

import argparse
import asyncio
import sys
import time
from datetime import UTC, datetime, timedelta
from statistics import quantiles
from typing import Final
from urllib.parse import urlencode

import asyncpg

from bench.history import make_history, repeat_history
from bench.views import postgres_server
from normalizer.store.migrate import migrate
from tests.support.api_client import api_client
from tests.support.results import command_line, option_parser, write_results

AIM_S: Final = 1.0
REPEATS: Final = 20
COPIES: Final = 28
"""Copies of one day: in 30 days, because no two may share an hour of the counters."""
LATER: Final = timedelta(hours=26)
_MISSING: Final = "an id that isn't stored"
_STORED: Final = """
    select   call.execution_id::text as execution, call.command_id as command, call.error,
             event.event_id::text as event,
             concat_ws(':', event.source_topic, event.source_partition, event.source_offset)
                 as place,
             execution.playbook
    from     projector.calls as call
    join     projector.executions as execution using (execution_id)
    join     normalizer.events as event
             on  event.execution_id = call.execution_id and event.command_id = call.command_id
    where    call.hour >= now() - interval '4 hours' and call.error <> ''
    order by call.execution_id desc
    limit    1
"""


async def main(options: argparse.Namespace) -> int:
    """Print the 95th percentile of each question. Returns 1 if one takes more than a second."""
    async with postgres_server() as postgres:
        url = await postgres.create_database("search")
        await migrate(url, report=lambda _: None)
        connection = await asyncpg.connect(url)
        until = datetime.now(UTC)
        day = options.events // COPIES
        first = until - (COPIES - 1) * LATER
        made = COPIES * await make_history(connection, day, until=first, per_day=day)
        await repeat_history(connection, COPIES, later=LATER)
        print(f"loaded in {datetime.now(UTC) - until}", flush=True)
        await connection.execute("vacuum (analyze)")
        calls = await connection.fetchval("select count(*) from projector.call_facts")
        stored = await connection.fetchrow(_STORED)
        await connection.close()
        print(f"{made:,} events, {calls:,} calls", flush=True)
        figures: dict[str, object] = {}
        slow = []
        async with api_client(url) as client:
            for what, path in _questions(dict(stored)):
                took, rows = [], 0
                for number in range(REPEATS):
                    began = time.perf_counter()
                    # No two requests share an answer.
                    answer = await client.get(f"{path}&until={_moment(until, number)}")
                    took.append(time.perf_counter() - began)
                    rows = len(answer.raise_for_status().json()["rows"])
                p95_s = quantiles(took, n=20, method="inclusive")[-1]
                figures[what] = f"p95 ms: {p95_s * 1000:.0f}; rows: {rows}"
                print(f"{what}: {figures[what]}", flush=True)
                slow += [what] if p95_s > AIM_S or bool(rows) is what.endswith(_MISSING) else []
    print(f"over {AIM_S:.0f} s, or with the wrong rows: {', '.join(slow) or 'none'}")
    if options.results and not slow:
        write_results("search", command_line(), figures)
    return int(bool(slow))


def _moment(until: datetime, number: int) -> str:
    return until.replace(microsecond=number).isoformat().replace("+00:00", "Z")


def _questions(stored: dict[str, str]) -> list[tuple[str, str]]:
    """The name of a question, and its path."""
    command = stored["command"]
    texts = {
        "execution": stored["execution"],
        "event": stored["event"],
        "command": command,
        "beginning of a command": command.rpartition(":")[0],
        "coordinates": stored["place"],
        "a log line with an id": f'ERROR execution_id="{stored["execution"]}": no answer',
        "step": "fetch",
        "playbook": stored["playbook"],
        "worker": "worker-1",
        "error text": stored["error"],
        "part of many names": "e",
        _MISSING: "333895119667515393",
    }
    searches = [
        (f"search, {last}: {what}", f"/api/v1/search?{urlencode({'q': text, 'last': last})}")
        for what, text in texts.items()
        for last in ("24h", "30d")
    ]
    versions = [
        (
            f"{path}, {last}",
            f"/api/v1/{path}?{urlencode({'playbook': stored['playbook'], 'last': last})}",
        )
        for path in (
            "versions-of-playbook",
            "errors-by-version",
            "steps-by-version",
            "playbook-versions",
        )
        for last in ("24h", "7d", "30d")
    ]
    versions += [
        (f"playbook-versions of all playbooks, {last}", f"/api/v1/playbook-versions?last={last}")
        for last in ("24h", "7d", "30d")
    ]
    return searches + versions


if __name__ == "__main__":
    parser = option_parser(__doc__, results=True)
    parser.add_argument("--events", type=int, default=3_000_000, help="in 30 days; 3000000")
    sys.exit(asyncio.run(main(parser.parse_args())))
