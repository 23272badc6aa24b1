"""Nothing is out of place, and pictures to look at.

`PICTURES=docs/pictures pytest tests/integration/page -k "picture or walks"` takes those of the
README and docs/dashboard.md again. It needs cwebp, which is in Debian's package webp.
"""

import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import msgspec
import pytest
from playwright.async_api import Browser

from bench.history import make_history
from tests.integration.page.browsing import (
    CUT_OFF,
    DESK,
    PHONE,
    Scheme,
    axe,
    change_answers,
    fully_drawn,
    looking,
    serving,
    show,
    take_picture,
)
from tests.integration.page.platform import Platform
from tests.support import view_rows
from tests.support.stack import Database
from tests.support.table_rows import connected, execute
from tests.support.view_rows import event
from tests.support.waiting import until

_SIZES: Final[Mapping[str, tuple[int, int]]] = {"desk": DESK, "phone": PHONE}
_THEMES: Final[tuple[Scheme, ...]] = ("light", "dark")


@pytest.mark.parametrize(
    ("size", "scheme"),
    [("desk", "light"), pytest.param("phone", "dark", marks=pytest.mark.soak)],
)
async def test_charts_follow_the_theme_and_a_picture_is_taken(
    browser: Browser,
    platform: Platform,
    size: str,
    scheme: Scheme,
) -> None:
    async with looking(browser, platform.url, size=_SIZES[size], scheme=scheme) as page:
        # A process that has just begun has sent no heartbeat yet.
        await page.wait_for_selector(".headline a[href='#freshness'] >> text=Caught up")
        await fully_drawn(page)
        for colours in _THEMES:
            await page.emulate_media(color_scheme=colours)
            await fully_drawn(page)
            await until(partial(page.evaluate, _IN_THE_THEMES_COLOURS), is_so=bool)
            # uPlot multiplies it by the pixels of the screen for each of the page.
            assert 10 <= await page.evaluate(_CHART_FONT_PX) <= 13
            picture = await take_picture(page, f"dashboard-{size}-{colours}", height=1270)
            assert len(picture) > 50_000
        await page.emulate_media(color_scheme=scheme)

        await page.locator("#errors td a").nth(1).click()
        await page.wait_for_selector(".calls li")
        await page.locator(".calls a.id").first.click()
        await page.wait_for_selector("#as-sent .json")
        await take_picture(page, f"execution-{size}-{scheme}")

        await page.goto(f"{platform.url}/api")
        await page.locator("#execution_calls summary").first.click()
        assert await page.is_visible("#execution_calls pre >> text=333895119667515392:fetch:1")
        assert await page.evaluate("document.documentElement.scrollWidth") == _SIZES[size][0]
        assert await axe(page) == []


async def test_trend_says_its_axes_and_shows_them(browser: Browser, platform: Platform) -> None:
    async with looking(browser, platform.url) as page:
        for place in (".headline", "#matrix", "#why"):
            trend = page.locator(f"{place} .spark").first
            said = await trend.get_attribute("title") or ""
            assert said == await trend.locator("svg").get_attribute("aria-label")
            found = re.fullmatch(r"Trend (.+): from (\S+) to (\S+), last \S+", said)
            assert found, said
            times, least, most = found.groups()

            assert await trend.evaluate(_AXES) == ["none", "none"]
            await trend.hover()
            values, shown_times = await trend.evaluate(_AXES)
            assert values == f"{most}\n{least}"
            assert shown_times == times


async def test_no_screen_of_panels_has_a_hole_between_them(
    browser: Browser, platform: Platform
) -> None:
    """The dashboard with retries and without any, and three screens of tables."""
    async with looking(browser, platform.url, visit=False) as page:
        for query in ("", "step=none", "show=retries", "show=workers", "show=producers"):
            await show(page, f"{platform.url}/?{query}")
            # The page packs the panels in the frame in which their height changes.
            await page.evaluate("() => new Promise(requestAnimationFrame)")
            assert await page.evaluate(_HOLES) == [], query


@pytest.fixture
async def busy(database: Database) -> AsyncIterator[str]:
    """A month of millions of calls: a short history in which each stands for 8,000."""
    async with connected(database) as connection:
        await make_history(connection, 5_000, until=datetime.now(UTC), per_day=5_000 / 30)
        await connection.execute(_MANY_TIMES)
    async with serving(database.url) as url:
        yield url


async def test_figures_of_many_digits_stay_in_their_panels(browser: Browser, busy: str) -> None:
    async with looking(browser, busy, visit=False) as page:
        for width, height in _SIZES.values():
            await page.set_viewport_size({"width": width, "height": height})
            await show(page, f"{busy}/?last=30d")

            assert re.search(r"\d{3},\d{3} of \d{3},\d{3}", await page.inner_text("#first"))
            assert await page.evaluate(_OUTSIDE) == []
            assert await page.evaluate(_BROKEN) == []


async def test_expanded_list_of_stuck_executions_has_a_line_for_each(
    browser: Browser, platform: Platform
) -> None:
    async with looking(browser, platform.url) as page:
        await page.click("[data-expand=stuck]")
        await page.wait_for_selector("#stuck >> text=First 10 only")

        heights = await page.locator("#stuck tbody tr").evaluate_all(
            "all => all.map((one) => one.offsetHeight)"
        )
        assert len(heights) > 10
        assert max(heights) < 1.5 * min(heights)
        assert await page.evaluate(CUT_OFF, "#stuck .scroll") == []


@pytest.mark.parametrize("size", [DESK, PHONE])
async def test_count_of_the_window_before_stays_in_its_cell(
    browser: Browser, platform: Platform, size: tuple[int, int]
) -> None:
    def with_counts_before(content: dict[str, Any], _: str) -> None:
        for row, before in zip(content["rows"], (12_345, 189), strict=False):
            row |= {"calls": 2 * before, "calls_before": before}

    async with looking(browser, platform.url, size=size, visit=False) as page:
        await change_answers(page, "**/api/v1/error-groups?*", with_counts_before)
        await show(page, f"{platform.url}/?last=1h")

        assert "before 12,345" in await page.inner_text("#why")
        assert await page.evaluate(CUT_OFF, "#why li small") == []


async def test_no_name_moves_what_stands_beside_it(browser: Browser, database: Database) -> None:
    """A name of 900 letters, and one that turns what comes after it to the left."""
    await execute(database, _NAMED, 1, "x" * 900)
    await execute(database, _NAMED, 2, "\u202efetch \u05e9\u05dc\u05d5\u05dd")
    async with serving(database.url) as url, looking(browser, url, visit=False) as page:
        for width, height in _SIZES.values():
            await page.set_viewport_size({"width": width, "height": height})
            for screen in (
                *("", "show=calls", "show=executions", "show=execution&execution=1"),
                *("show=errors", "show=retries"),
            ):
                await show(page, f"{url}/?{screen}")
                assert await page.evaluate(_WIDER, "html, .scroll, #event") == [], (width, screen)
            await page.goto(f"{url}/?show=execution&execution=2")
            await page.wait_for_selector(".event .status")
            assert await page.evaluate(_WRITTEN_TO_THE_LEFT, ".event .status") is False
            await page.goto(f"{url}/?show=calls&step=%E2%80%AEfetch&attempts=0")
            assert await page.inner_text("h1") == "Calls of \\u202efetch on the first attempt"
            assert await page.evaluate(_WRITTEN_TO_THE_LEFT, "h1 :last-child") is False


async def test_no_event_can_reverse_a_text(browser: Browser, database: Database) -> None:
    """Characters that turn what comes after them are shown as JSON writes them, everywhere."""
    controls = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    name = f"{controls}fdp.exe"
    await execute(database, _NAMED, 2, name)
    said = {"step": name, "worker_id": name, "error": name, "status": "ERROR"}
    call = {"event_type": "call.done", "command_id": "3:1", "created_at": datetime.now(UTC)}
    await view_rows.add(database, event(event_id=31, execution_id=3, **call, **said))
    shown = name.translate({ord(one): f"\\u{ord(one):04x}" for one in controls})
    encoded = quote(name)
    async with serving(database.url) as url, looking(browser, url, visit=False) as page:
        for screen in (
            *("", "view=wall", "show=calls", "show=executions", "show=errors", "show=retries"),
            *(f"show=error&error_class={encoded}", f"show=calls&step={encoded}&attempts=0"),
            *(f"worker={encoded}&view=wall", "show=execution&execution=2&event=22"),
        ):
            await show(page, f"{url}/?{screen}")
            if "view=wall" not in screen:
                await page.fill("#search", "fdp.exe")
                await page.wait_for_selector("#found li >> text=fdp.exe")
                assert shown in await page.inner_text("#found")
                await page.keyboard.press("Escape")

            assert await page.evaluate(_TURNING, controls) == [], screen
            if "show=" in screen and "executions" not in screen:
                assert shown in await page.inner_text("body"), screen

        # Text copied from the page is found, and a button copies what was sent.
        await page.goto(url)
        await page.fill("#search", shown)
        await page.keyboard.press("Enter")
        await page.wait_for_url("**show=*")
        assert encoded in page.url
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await page.goto(f"{url}/?show=execution&execution=2&event=22")
        await page.click("#canonical [data-copy]")
        await page.wait_for_selector("#said:not(:empty)", state="attached")
        copied = await page.evaluate("navigator.clipboard.readText()")
        assert msgspec.json.decode(copied)["step"] == name


_HOLES: Final = """
    () => {
        const gap = parseFloat(getComputedStyle(document.querySelector(".packed")).columnGap);
        const columns = Map.groupBy(document.querySelectorAll(".packed > .panel"),
            (panel) => panel.getBoundingClientRect().left);
        const box = (one) => one.getBoundingClientRect();
        return [...columns.values()].flatMap((panels) => {
            const order = panels.sort((a, b) => box(a).top - box(b).top);
            const between = order.slice(1)
                .map((panel, n) => [panel.id, box(panel).top - box(order[n]).bottom]);
            const inside = panels.map((panel) => [panel.id,
                box(panel).bottom - box(panel.querySelector(".body").lastElementChild).bottom]);
            return [...between.filter(([, px]) => px < gap - 1 || px > gap + 5),
                ...inside.filter(([, px]) => px > 40)];
        });
    }
"""

_AXES: Final = """
    (trend) => ["::before", "::after"].map((part) => {
        const { content } = getComputedStyle(trend, part);
        return content === "none" ? content : JSON.parse(content.replaceAll("\\\\a ", "\\\\n"));
    })
"""

_TURNING: Final = """
    (controls) => {
        const turns = (text) => [...(text ?? "")].some((one) => controls.includes(one));
        const found = turns(document.title) ? ["title"] : [];
        const nodes = document.createTreeWalker(document.documentElement, NodeFilter.SHOW_ALL);
        for (let node = nodes.currentNode; node; node = nodes.nextNode()) {
            if (node.nodeType === Node.TEXT_NODE && turns(node.data)) found.push(node.data);
            for (const name of ["title", "aria-label", "data-label"]) {
                if (turns(node.getAttribute?.(name))) found.push(`${name} of ${node.nodeName}`);
            }
        }
        return found;
    }
"""

_NAMED: Final = """
    insert into normalizer.events
           (event_id, execution_id, event_type, step, status, attempts, created_at, recorded_at,
            command_id, shape, worker_id, error, source_topic, source_partition)
    select 10 * $1::bigint + number, $1::bigint, event_type, $2::text, status, number / 3, now(),
           now(), command_id, 'executor', $2, error, 'noetl.events', 0
    from   (
               values (1, 'playbook.started', 'STARTED', null, null),
                      (2, 'call.done', 'ERROR', 'HTTP 500', $1::bigint || ':1'),
                      (3, 'command.issued', 'PENDING', null, $1::bigint || ':1'),
                      (4, 'command.claimed', 'CLAIMED', null, $1::bigint || ':1')
           ) as event (number, event_type, status, error, command_id)
"""

_WIDER: Final = """
    (places) => [...document.querySelectorAll(places)]
        .filter((one) => one.scrollWidth > one.clientWidth)
        .map((one) => `${one.tagName} ${one.className} ${one.scrollWidth} > ${one.clientWidth}`)
"""

_WRITTEN_TO_THE_LEFT: Final = """
    (place) => {
        const letters = document.querySelector(place).lastChild;
        const left = (n) => {
            const one = document.createRange();
            one.setStart(letters, n);
            one.setEnd(letters, n + 1);
            return one.getBoundingClientRect().left;
        };
        // Of one word, which stands on one line.
        return left(0) > left(1);
    }
"""

_MANY_TIMES: Final = "update projector.call_hours set calls = calls * 8000"

_IN_THE_THEMES_COLOURS: Final = """
    async () => {
        const { plot } = await pageChart("chart-outcomes");
        const ink = getComputedStyle(document.documentElement).getPropertyValue("--ink-2").trim();
        return plot.axes[1].stroke(plot, 1) === ink;
    }
"""

_CHART_FONT_PX: Final = """
    async () => {
        return (await pageChart("chart-outcomes")).plot.axes[1].font[2];
    }
"""

_BROKEN: Final = """
    () => [...document.querySelectorAll(".heat b, .heat small")].map((figure) => {
        const written = document.createRange();
        written.selectNodeContents(figure);
        return [figure.textContent, written.getClientRects().length];
    }).filter(([, lines]) => lines > 1)
"""

_OUTSIDE: Final = """
    () => [...document.querySelectorAll(".panel")].flatMap((panel) => {
        const edge = panel.querySelector(".body").getBoundingClientRect().right;
        const written = document.createRange();
        return [...panel.querySelectorAll(".body *")]
            .filter((one) => !one.closest(".scroll, .chart, .figures, table"))
            .filter((one) => {
                written.selectNodeContents(one);
                return written.getBoundingClientRect().right > edge + 1;
            })
            .map((one) => `${panel.id}: ${one.textContent}`);
    })
"""
