"""Compares what the dashboard costs in this checkout and in an earlier commit, in one run.

    python -m bench.page f79b3ef9                          five rounds, each idle for 30 s
    python -m bench.page f79b3ef9 --rounds 1 --idle 6      a smoke test: no figures
    python -m bench.page f79b3ef9 --results                also into docs/results.csv

Both serve the same history, each from a separate database. Each round opens both pages in a new
browser, in alternating order, and leaves them open after everything is loaded. It counts requests,
bytes, the time of the page's main thread, and the CPU time of `projector serve`.
"""

import argparse
import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from playwright.async_api import Browser, async_playwright

from bench.against import HERE, checkout
from bench.views import postgres_server
from tests.support.results import command_line, option_parser, write_results

MOST_REQUESTS: Final = 75
MOST_KB: Final = 200
NO_DEARER: Final = 1.05
AFTER_LOAD_S: Final = 5.0
"""Then nothing of the first load is left to do."""
_CHARTS: Final = "projector/api/page/charts"
_FILL: Final = """
import asyncio, sys
from datetime import UTC, datetime
import asyncpg
from bench.history import make_history
from normalizer.store.migrate import migrate
async def main(url, events):
    await migrate(url, report=lambda _: None)
    connection = await asyncpg.connect(url)
    await make_history(connection, events, until=datetime.now(UTC), per_day=events)
    await connection.execute("vacuum (analyze)")
    await connection.close()
asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


class Cost(NamedTuple):
    """Of one visit: the first load, then the time in which nobody touches the page."""

    requests: float
    kb: float
    first_paint_ms: float
    idle_requests: float
    idle_kb: float
    idle_page_s: float
    idle_server_s: float


async def main(options: argparse.Namespace) -> int:
    """Print the medians. Returns 1 if the first load is too large, or this state is dearer."""
    costs: dict[str, list[Cost]] = {"then": [], "now": []}
    with checkout(options.commit) as there:
        shutil.copytree(HERE / _CHARTS, there / _CHARTS, dirs_exist_ok=True)
        async with contextlib.AsyncExitStack() as started:
            postgres = await started.enter_async_context(postgres_server())
            playwright = await started.enter_async_context(async_playwright())
            path = shutil.which("chromium-headless-shell") or shutil.which("chromium")
            browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
            started.push_async_callback(browser.close)
            served = {}
            for name, folder in (("then", there), ("now", HERE)):
                url = await postgres.create_database(f"page_{name}")
                await _run(folder, "-c", _FILL, url, str(options.events))
                served[name] = await started.enter_async_context(_serving(folder, url))
            for number in range(options.rounds):
                for name in ("then", "now") if number % 2 else ("now", "then"):
                    cost = await _visit(browser, *served[name], options.idle)
                    costs[name].append(cost)
                    print(f"round {number + 1}, {name}: {cost}", flush=True)
    then, now = (Cost(*map(median, zip(*costs[name], strict=True))) for name in ("then", "now"))
    figures = {
        what: f"{a:.2f}; now: {b:.2f}; factor: {b / a if a else 1:.2f}"
        for what, a, b in zip(Cost._fields, then, now, strict=True)
    }
    for what, figure in figures.items():
        print(f"{what}: then: {figure}")
    if options.results:
        write_results("page", command_line(), {k: f"then: {v}" for k, v in figures.items()})
    small = now.requests <= MOST_REQUESTS and now.kb <= MOST_KB
    compared = zip(then[2:], now[2:], strict=True)
    return int(not small or any(b > a * NO_DEARER for a, b in compared))


async def _run(folder: Path, *arguments: str) -> None:
    child = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=folder)
    if await child.wait():
        raise SystemExit(f"{folder.name}: exited with {child.returncode}")


@contextlib.asynccontextmanager
async def _serving(folder: Path, database_url: str) -> AsyncIterator[tuple[str, int]]:
    """`projector serve` of this folder: its address and process id."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "projector", "serve", "--port", "0"),
        cwd=folder,
        env={"PATH": os.environ["PATH"], "DATABASE_URL": database_url, "NORMALIZER_CORE": "python"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert child.stdout is not None
    try:
        yield (await child.stdout.readline()).decode().split()[-1], child.pid
    finally:
        child.terminate()
        await child.communicate()


async def _visit(browser: Browser, url: str, server: int, idle_s: float) -> Cost:
    """Open the dashboard with nothing cached, wait until it's drawn, and leave it alone."""
    context = await browser.new_context(viewport={"width": 1440, "height": 900})
    page = await context.new_page()
    session = await context.new_cdp_session(page)
    sent: list[str] = []
    sizes: list[float] = []
    session.on("Network.requestWillBeSent", lambda one: sent.append(one["requestId"]))
    # An answer that hasn't changed isn't read, so it's sent and never finished.
    session.on("Network.loadingFinished", lambda one: sizes.append(one["encodedDataLength"]))
    await session.send("Network.enable")
    await session.send("Performance.enable")
    await page.goto(url)
    await page.wait_for_function(_DRAWN)
    await page.wait_for_load_state("networkidle")
    paint = await page.evaluate(
        "performance.getEntriesByName('first-contentful-paint')[0].startTime"
    )
    loaded, bytes_loaded = len(sent), sum(sizes)
    await asyncio.sleep(min(idle_s, AFTER_LOAD_S))
    requested, bytes_read = len(sent), sum(sizes)
    busy, used = await _busy_s(session), _cpu_s(server)
    await asyncio.sleep(idle_s)
    cost = Cost(
        requests=loaded,
        kb=bytes_loaded / 1000,
        first_paint_ms=paint,
        idle_requests=len(sent) - requested,
        idle_kb=(sum(sizes) - bytes_read) / 1000,
        idle_page_s=await _busy_s(session) - busy,
        idle_server_s=_cpu_s(server) - used,
    )
    await context.close()
    return cost


_DRAWN: Final = """() => {
    const panels = [...document.querySelectorAll(".panel")];
    return panels.length > 5 && panels.every((one) => one.getAttribute("aria-busy") === "false")
        && [...document.querySelectorAll(".chart")].every((one) => one.querySelector("canvas"));
}"""


async def _busy_s(session: Any) -> float:
    """CPU time of the page's main thread."""
    metrics = (await session.send("Performance.getMetrics"))["metrics"]
    found: float = next(one["value"] for one in metrics if one["name"] == "TaskDuration")
    return found


def _cpu_s(process: int) -> float:
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1e9


if __name__ == "__main__":
    parser = option_parser(__doc__, results=True)
    parser.add_argument("commit", help="the earlier commit")
    parser.add_argument("--events", type=int, default=100_000, help="in one day; 100000")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--idle", type=float, default=30, help="seconds; 30")
    sys.exit(asyncio.run(main(parser.parse_args())))
