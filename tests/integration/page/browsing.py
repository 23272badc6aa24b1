"""A page in a real Chromium that fails its test for whatever it complains of."""

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, ConsoleMessage, FloatRect, Page, Route, async_playwright

from tests.support.stack import skip_or_fail

Scheme = Literal["light", "dark"]

DESK = (1440, 900)
PHONE = (390, 844)

_FAILED_ANSWER = "Failed to load resource"
"""Chromium's own message about each answer that's an error."""
_MODULE: Final = """
    window.pageModule = (name) => import(new URL(name, document.scripts[1].src).href);
    window.pageChart = async (id) =>
        (await pageModule("charts.js")).drawn.get(document.getElementById(id));
    window.copyOfChart = (canvas, variable) => {
        const copy = new OffscreenCanvas(canvas.width, canvas.height)
            .getContext("2d", { willReadFrequently: true });
        copy.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(variable);
        copy.fillRect(0, 0, 1, 1);
        const colour = [...copy.getImageData(0, 0, 1, 1).data];
        copy.clearRect(0, 0, 1, 1);
        copy.drawImage(canvas, 0, 0);
        return { copy, colour };
    };
"""
"""A module of the page by its name, for what no test can see from outside, a chart, and a copy of
its pixels with a colour of the theme to compare them with.
"""


@contextlib.asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    """The Chromium in PATH. Without its own windows it takes two thirds of the time."""
    names = ("chromium-headless-shell", "chromium", "chromium-browser")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        skip_or_fail("no Chromium: type `apt-get install chromium-headless-shell`")
    async with async_playwright() as playwright:
        # Without the sandbox because CI is root, and the page is ours.
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        await browser.close()


@contextlib.asynccontextmanager
async def looking(
    browser: Browser,
    url: str,
    *,
    size: tuple[int, int] = DESK,
    scheme: Scheme = "light",
    zone: str = "UTC",
    answers_fail: bool = False,
    visit: bool = True,
    drawn: bool = True,
) -> AsyncIterator[Page]:
    """A page with its own context, drawn unless it's to be visited later, or is never `drawn`.

    At the end no error was logged and no other host was called.
    """
    context = await browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,
        timezone_id=zone,
        reduced_motion="reduce",
    )
    context.set_default_timeout(60_000)
    page = await context.new_page()
    await page.add_init_script(_MODULE)
    home = urlsplit(url).netloc
    trouble: list[str] = []

    def said(message: ConsoleMessage) -> None:
        if not (answers_fail and message.text.startswith(_FAILED_ANSWER)):
            trouble.append(f"{message.type}: {message.text}")

    page.on("console", said)
    page.on("pageerror", lambda error: trouble.append(f"{error.stack or error}"))
    page.on(
        "request",
        lambda request: (
            None
            if urlsplit(request.url).netloc == home or request.url.startswith("data:")
            else trouble.append(f"requested {request.url}")
        ),
    )
    if visit:
        await (show(page, url) if drawn else page.goto(url))
    yield page
    await page.unroute_all(behavior="ignoreErrors")
    await context.close()
    assert trouble == []


async def show(page: Page, url: str) -> None:
    """Go to the address, and wait until it's fully drawn."""
    await page.goto(url)
    await fully_drawn(page)


async def change_answers(
    page: Page, addresses: str | re.Pattern[str], change: Callable[[dict[str, Any], str], None]
) -> None:
    """Let `change` edit the content of each answer from these addresses. It gets the address too.

    Answers come without an ETag, which would say that nothing has changed.
    """

    async def changed(route: Route) -> None:
        answer = await route.fetch()
        content = await answer.json()
        change(content, route.request.url)
        await route.fulfill(status=answer.status, json=content)

    await page.route(addresses, changed)


async def fully_drawn(page: Page) -> None:
    """The screen of the address is there, with every figure and every chart."""
    await page.wait_for_function(
        """() => {
            const panels = [...document.querySelectorAll(".panel")];
            const drawn = [...document.querySelectorAll(".chart")];
            const tiles = [...document.querySelectorAll(".headline b")];
            return !document.querySelector("main[aria-busy=true]") && panels.length > 0
                && panels.every((panel) => panel.getAttribute("aria-busy") === "false")
                && tiles.every((tile) => tile.textContent !== "…")
                && drawn.every((chart) => chart.querySelector("canvas"));
        }"""
    )


async def cells(page: Page, table: str) -> list[list[str]]:
    """The visible texts of a table's body, one list a row."""
    found: list[list[str]] = await page.evaluate(
        """(table) => [...document.querySelectorAll(`${table} tbody tr`)]
            .map((row) => [...row.cells].map((cell) => {
                const copy = cell.cloneNode(true);
                for (const one of copy.querySelectorAll(".hidden")) one.remove();
                return copy.textContent.trim();
            }))""",
        table,
    )
    return found


async def texts(page: Page, each: str, *parts: str) -> list[list[str]]:
    """The texts of these parts of each element."""
    found: list[list[str]] = await page.evaluate(
        """([each, parts]) => [...document.querySelectorAll(each)]
            .map((one) => parts.map((part) => one.querySelector(part).textContent.trim()))""",
        [each, list(parts)],
    )
    return found


@contextlib.asynccontextmanager
async def serving(database_url: str, **variables: str) -> AsyncIterator[str]:
    """`projector serve` as a process of its own, on any free port; gives its address.

    An answer may take long: the machine does other work too.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "projector", "serve", "--port", "0"),
        env={
            "PATH": os.environ["PATH"],
            "DATABASE_URL": database_url,
            "PROJECTOR_TIMEOUT_S": "30",
        }
        | variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert child.stdout is not None
        said = (await child.stdout.readline()).decode()
        assert "http://" in said, said
        yield said.split()[-1]
    finally:
        child.terminate()
        await child.communicate()


async def take_picture(page: Page, name: str, *, height: int | None = None) -> bytes:
    """The page as a PNG. The folder that PICTURES names gets it too, without loss in a third."""
    size = page.viewport_size
    assert size is not None
    clip: FloatRect = {"x": 0, "y": 0, "width": size["width"], "height": height or size["height"]}
    picture = await page.screenshot(full_page=height is not None, clip=clip)
    if folder := os.environ.get("PICTURES"):
        written = Path(folder) / f"{name}.webp"
        command = ("cwebp", "-quiet", "-lossless", "-z", "8", "-o", str(written), "--", "-")
        await asyncio.to_thread(subprocess.run, command, input=picture, check=True)
    return picture


async def axe(page: Page, *, only: str | None = None) -> list[dict[str, Any]]:
    """Return axe-core's findings, each with its place. Two rules aren't on by default."""
    rules = {"target-size": {"enabled": True}, "label-content-name-mismatch": {"enabled": True}}
    which = {"runOnly": [only]} if only else {"rules": rules}
    found = await Axe().run(page, options={"resultTypes": ["violations"], **which})
    return [
        {"rule": one["id"], "help": one["help"], "where": [node["target"] for node in one["nodes"]]}
        for one in found.response["violations"]
    ]


CUT_OFF: Final = """
    (within) => [...document.querySelectorAll(within)]
        .flatMap((one) => [one, ...one.querySelectorAll("*")])
        .filter((one) => one.scrollWidth > one.clientWidth + 1 && one.clientWidth > 0)
        .map((one) => one.textContent)
"""

CUT_FILTERS: Final = """
    () => [...document.querySelectorAll(".filters select")].map((filter) => {
        const alone = document.createElement("select");
        alone.append(new Option(filter.selectedOptions[0].textContent));
        alone.style = "position: absolute; width: max-content; max-width: none";
        filter.after(alone);
        const needed = alone.offsetWidth;
        alone.remove();
        return [filter.name, needed, filter.offsetWidth];
    }).filter(([, needed, has]) => needed > has)
"""
"""What is chosen in a filter, alone in one that is as wide as it needs."""
