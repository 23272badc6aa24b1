"""Measures the dashboard in a browser: assets, first paint, all panels, the work of an idle tab.

    python -m bench.page_load http://127.0.0.1:8384/
    python -m bench.page_load URL --before URL_OF_AN_EARLIER_STATE --results

Both pages must show the same database. Each is loaded in turn, a number of times: cold with an
empty cache, and warm in the same browser. The command needs Chromium.
"""

import argparse
import asyncio
import statistics
from collections.abc import Sequence
from typing import Final

import msgspec
from playwright.async_api import Browser, BrowserContext, async_playwright

from tests.support.results import command_line, write_results

SIZE: Final = {"width": 1440, "height": 900}
IDLE_S: Final = 30.0
_READY: Final = """() => {
    const panels = [...document.querySelectorAll(".panel")];
    return panels.length > 0 && panels.every((one) => one.getAttribute("aria-busy") === "false");
}"""
_PAINT: Final = """() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime"""


class Load(msgspec.Struct, frozen=True):
    """One load. Times in ms since the navigation; `assets` in bytes, as they came."""

    assets: int
    paint_ms: float
    panels_ms: float


async def main(urls: Sequence[str], rounds: int, *, results: bool) -> None:
    """Print a line for each page and kind of load."""
    figures: dict[str, str] = {}
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        names = [*(["this page", "the page before"][: len(urls)])]
        cold: dict[str, list[Load]] = {name: [] for name in names}
        warm: dict[str, list[Load]] = {name: [] for name in names}
        for _ in range(rounds):
            for name, url in zip(names, urls, strict=True):
                context = await browser.new_context(viewport=SIZE)  # type: ignore[arg-type]
                cold[name].append(await _load(context, url))
                warm[name].append(await _load(context, url))
                await context.close()
        for name, url in zip(names, urls, strict=True):
            figures[f"{name}, cold"] = _line(cold[name])
            figures[f"{name}, warm"] = _line(warm[name])
            figures[f"{name}, idle tab"] = f"{await _idle(browser, url):.1%} of a core"
        await browser.close()
    for name, line in figures.items():
        print(f"{name:30}{line}")
    if results:
        write_results("pages", command_line(), figures)


async def _load(context: BrowserContext, url: str) -> Load:
    page = await context.new_page()
    client = await context.new_cdp_session(page)
    await client.send("Network.enable")
    assets: set[str] = set()
    received = 0

    def sent(event: dict[str, object]) -> None:
        request = event["request"]
        assert isinstance(request, dict)
        if "/api/" not in request["url"]:
            assets.add(str(event["requestId"]))

    def came(event: dict[str, object]) -> None:
        nonlocal received
        if event["requestId"] in assets:
            received += int(str(event["encodedDataLength"]).partition(".")[0])

    client.on("Network.requestWillBeSent", sent)
    client.on("Network.loadingFinished", came)
    await page.goto(url)
    await page.wait_for_function(_READY, polling="raf")
    panels = await page.evaluate("performance.now()")
    await page.wait_for_load_state("networkidle")
    load = Load(received, await page.evaluate(_PAINT), panels)
    await page.close()
    return load


async def _idle(browser: Browser, url: str) -> float:
    """The CPU time of the tab's own thread while nobody touches it, as a share of a core."""
    page = await browser.new_page(viewport=SIZE)  # type: ignore[arg-type]
    client = await page.context.new_cdp_session(page)
    await page.goto(url)
    await page.wait_for_function(_READY)
    # By the clock it would be longer the busier the machine is with other work.
    await client.send("Performance.enable", {"timeDomain": "threadTicks"})

    async def busy_s() -> float:
        metrics = (await client.send("Performance.getMetrics"))["metrics"]
        return next(float(one["value"]) for one in metrics if one["name"] == "TaskDuration")

    before = await busy_s()
    await asyncio.sleep(IDLE_S)
    share = (await busy_s() - before) / IDLE_S
    await page.close()
    return share


def _line(loads: Sequence[Load]) -> str:
    paint = statistics.median(one.paint_ms for one in loads)
    panels = statistics.median(one.panels_ms for one in loads)
    size = statistics.median(one.assets for one in loads)
    return (
        f"{size / 1_000:,.0f} kB of assets, first paint {paint:.0f} ms, all panels {panels:.0f} ms"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The dashboard in a browser.")
    parser.add_argument("url")
    parser.add_argument("--before", metavar="URL", help="a page to compare with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", action="store_true", help="add rows to docs/results.csv")
    chosen = parser.parse_args()
    asyncio.run(
        main(
            [chosen.url, *([chosen.before] if chosen.before else [])],
            chosen.rounds,
            results=chosen.results,
        )
    )
