"""Everybody can use each screen: axe-core, the keyboard alone, and a phone, on one loaded page."""

import asyncio
import re
from typing import Final

import pytest
from playwright.async_api import Browser, Page

from tests.integration.page.browsing import CUT_FILTERS, CUT_OFF, PHONE, axe, fully_drawn, looking
from tests.integration.page.platform import Platform

_TABLES: Final = {
    "last=24h": 5,
    "view=wall": 0,
    "show=executions": 1,
    "show=calls": 0,
    "show=errors": 1,
    "show=error&error_class=connection%20refused": 0,
    "show=quarantine": 2,
    "show=record&record=1": 0,
    "show=playbooks": 1,
    "show=retries": 2,
    "show=workers": 1,
    "show=producers": 1,
    "show=execution&execution={changed}": 0,
}
"""Each screen, and how many tables it has at least."""


@pytest.mark.timeout(240)  # the first test also fills the platform
@pytest.mark.parametrize("screen", _TABLES)
async def test_everybody_can_read_the_screen_and_reach_all_of_it(
    browser: Browser, platform: Platform, screen: str
) -> None:
    changed = await platform.connection.fetchval(
        "select execution_id from projector.execution_timeline where coercions is not null limit 1"
    )
    async with looking(browser, platform.url, visit=False) as page:
        await page.goto(f"{platform.url}/?{screen.format(changed=changed)}")
        # An element that appears while Tab is pressed may lie behind it. The wall has no button.
        for pause in await page.locator("#pause:visible").all():
            await pause.click()
        await fully_drawn(page)
        if "changed" in screen:
            await page.wait_for_selector("#as-sent")
        assert await page.locator("table").count() >= _TABLES[screen]

        assert await page.evaluate(_WIDER, ".wall .legend") == []
        assert await page.evaluate(_HIGHER, "body[data-view=wall], .wall .body") == []
        assert await page.evaluate(CUT_FILTERS) == []
        assert await axe(page) == []
        # Nothing else depends on the theme.
        await page.emulate_media(color_scheme="dark")
        assert await axe(page, only="color-contrast") == []

        await _walk_by_tab(page)
        assert await page.evaluate(_MISSED) == []

        await page.set_viewport_size({"width": 768, "height": 1024})
        assert await page.evaluate(_WIDER, ".wall .legend") == []

        await page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
        await page.reload()
        await fully_drawn(page)
        if "changed" in screen:
            await page.wait_for_selector("#as-sent")
        assert await page.evaluate(_WIDER, ".wall .legend") == []
        assert await axe(page) == []
        await _fits_a_phone(page, screen)


async def _walk_by_tab(page: Page) -> None:
    """Hold Tab for as long as it takes to come round."""
    listed = await page.evaluate(_NOTE_WHAT_GETS_FOCUS)
    async with asyncio.TaskGroup() as presses:
        for _ in range(listed + 10):
            presses.create_task(page.keyboard.down("Tab"), name="Tab")
    await page.keyboard.up("Tab")


async def _fits_a_phone(page: Page, screen: str) -> None:
    """All of it fits, or a row is a card, with each value beside the name of its column."""
    assert await page.evaluate("document.documentElement.scrollWidth") == PHONE[0]
    if screen == "last=24h":
        await page.click("#filters")
        assert await page.is_visible("select[name=playbook]")
        # Every screen can be seen, without a list that scrolls out of sight.
        assert await page.is_visible("nav.screens >> text=Producers")
        assert await page.evaluate(CUT_OFF, "nav.screens, #first") == []
        links = ".legend a, .figures summary, .screens a"
        assert min(await page.evaluate(_HEIGHTS, links)) >= 30
        # A row of a table is a card, and nothing of it is left out.
        assert await page.is_visible("#durations td[data-label=p99]")
    elif "record=" in screen:
        assert await page.evaluate(CUT_OFF, "#commands, #reason") == []
        # It has no filters, so it has no button for them.
        assert await page.locator("#filters").count() == 0
    elif "execution=" not in screen:
        assert min(await page.evaluate(_HEIGHTS, _TOUCHED), default=30) >= 30
    if screen == "show=calls":
        times = await page.locator(".calls .times").all_inner_texts()
        assert any(re.fullmatch("ended .*took .*", one) for one in times), times

    await page.evaluate(_OPEN_ALL)
    assert await page.evaluate(_WIDER_THAN_ITS_SCREEN) == []
    assert await page.evaluate(OVERPRINTED) == []


_WIDER: Final = """
    (places) => [...document.querySelectorAll(places)]
        .filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.outerHTML)
"""

_HIGHER: Final = """
    (places) => [...document.querySelectorAll(places)]
        .filter((one) => one.scrollHeight > one.clientHeight + 1).map((one) => one.outerHTML)
"""

_TOUCHED: Final = ".back, .under a, .turn a, #foot a, tbody a, .calls .id"
"""Links that a finger has to hit."""

_NOTE_WHAT_GETS_FOCUS: Final = """
    () => {
        window.reached = new Set();
        document.addEventListener("focusin", ({ target }) => window.reached.add(target));
        window.visible = () => [...document.querySelectorAll(
            "a[href], button, input, select, summary, [tabindex='0']")]
            .filter((one) => one.checkVisibility());
        return visible().length;
    }
"""
_MISSED: Final = """
    () => visible().filter((one) => !reached.has(one)).map((one) => one.outerHTML.slice(0, 200))
"""

_OPEN_ALL: Final = "for (const one of document.querySelectorAll('details')) one.open = true"
_WIDER_THAN_ITS_SCREEN: Final = """
    () => [...document.querySelectorAll("table")].filter((table) => table.checkVisibility())
        .flatMap((table) => {
            const right = table.closest(".panel").getBoundingClientRect().right;
            const cells = [...table.querySelectorAll("tbody th, tbody td")];
            return cells.filter((cell) => cell.getBoundingClientRect().right > right
                || cell.scrollWidth > cell.clientWidth + 1
                || (cell.tagName === "TD" && cell.childNodes.length && !cell.dataset.label
                    && !cell.querySelector(".range")));
        })
        .map((cell) => `${cell.closest(".panel").id}: ${cell.textContent}`)
"""

OVERPRINTED: Final = """
    () => [...document.querySelectorAll(".scale .ticks i")].filter((tick) => tick.checkVisibility())
        .filter((tick, n, all) => n > 0
            && tick.getBoundingClientRect().left < all[n - 1].getBoundingClientRect().right + 4)
        .map((tick) => tick.textContent)
"""

_HEIGHTS: Final = """
    (within) => [...document.querySelectorAll(within)].filter((one) => one.checkVisibility())
        .map((one) => one.getBoundingClientRect().height)
"""
