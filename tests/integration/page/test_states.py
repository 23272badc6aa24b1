"""What the page says of itself: nothing there, no answer, a late answer, a refused one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Final

import pytest
from playwright.async_api import Browser, Route

from tests.integration.page.browsing import fully_drawn, looking, serving
from tests.integration.page.conftest import Platform
from tests.support.lossy_proxy import Proxy
from tests.support.stack import Database
from tests.support.waiting import until

_ALL_POLLED_MS: Final = 40_000
"""By then the page has polled every path again: some wait 15 seconds, and answers take time."""
_TOKEN: Final = "a-token-that-only-this-test-knows"


@pytest.fixture
async def empty(database: Database) -> AsyncIterator[str]:
    async with serving(database.url) as url:
        yield url


async def test_an_empty_database_is_said_to_be_empty(browser: Browser, empty: str) -> None:
    async with looking(browser, empty) as page:
        await fully_drawn(page)

        said = await page.evaluate(
            "() => [...document.querySelectorAll('.panel .body')].map((body) => body.textContent)"
        )

        assert len(said) == 11
        for words in said:
            assert words.startswith(("No ", "Nothing ")), words
        assert await page.inner_text("#banner") == ""
        assert "0%" not in await page.inner_text(".headline")


async def test_a_database_that_stops_is_said_and_its_figures_stay(
    browser: Browser, platform: Platform
) -> None:
    async with contextlib.AsyncExitStack() as reachable:
        proxy = await reachable.enter_async_context(Proxy(platform.database.url))
        async with serving(proxy.url) as url, looking(browser, url, answers_fail=True) as page:
            await fully_drawn(page)
            figures = await page.inner_text("#errors table")

            await reachable.aclose()

            await page.wait_for_selector(
                "#banner >> text=The database has not answered for", timeout=_ALL_POLLED_MS
            )
            assert "figures are of" in await page.inner_text("#banner")
            assert await page.locator(".panel[data-state=bad]").count() == 11
            assert await page.inner_text("#errors table") == figures
            assert "figures of" in await page.inner_text("#errors header")


async def test_a_server_that_is_gone_is_said(browser: Browser, platform: Platform) -> None:
    async with looking(browser, platform.url, answers_fail=True) as page:
        await fully_drawn(page)

        await page.context.set_offline(offline=True)
        await page.wait_for_selector(
            "#banner >> text=The server has not answered for", timeout=_ALL_POLLED_MS
        )

        await page.context.set_offline(offline=False)
        await page.wait_for_function("() => document.getElementById('banner').textContent === ''")


async def test_a_late_answer_is_awaited_aloud(browser: Browser, platform: Platform) -> None:
    said = asyncio.Event()

    async def late(route: Route) -> None:
        await said.wait()
        await route.continue_()

    async with looking(browser, platform.url, visit=False) as page:
        await page.route("**/api/v1/error-rate-by-attempt*", late)
        await page.goto(platform.url)

        await page.wait_for_selector("#errors >> text=Still waiting for the server")
        assert "Still waiting for the server" in await page.inner_text("#banner")
        said.set()
        # The others are there meanwhile.
        assert await page.get_attribute("#first", "aria-busy") == "false"
        await fully_drawn(page)
        await page.unroute_all(behavior="ignoreErrors")


async def test_what_adds_up_many_days_is_polled_less_often(
    browser: Browser, platform: Platform
) -> None:
    requested: list[str] = []

    async def noted(route: Route) -> None:
        requested.append(route.request.url.partition("/api/v1/")[2].partition("?")[0])
        await route.continue_()

    async with looking(browser, platform.url, visit=False) as page:
        await page.route("**/api/v1/*", noted)
        await page.goto(f"{platform.url}/?last=30d")
        await until(partial(_times, requested, "stuck-executions"), is_so=lambda times: times == 3)

        assert requested.count("error-rate-by-attempt") == 1
        await page.unroute_all(behavior="ignoreErrors")


async def _times(requested: list[str], name: str) -> int:
    return requested.count(name)


async def test_a_question_that_fails_is_no_zero(browser: Browser, platform: Platform) -> None:
    async def too_slow(route: Route) -> None:
        await route.fulfill(
            status=504,
            json={"status": 504, "reason": "too_slow", "detail": "statement time-out after 5 s"},
        )

    async with looking(browser, platform.url, answers_fail=True, visit=False) as page:
        await page.route("**/api/v1/stuck-executions*", too_slow)
        await page.goto(platform.url)
        await page.wait_for_selector("#stuck >> text=The database has taken too long to answer.")

        tile = await page.inner_text(".headline a[href='#stuck']")
        assert "0" not in tile.replace("5 minutes", "")
        assert "(1 of " in await page.inner_text("#banner")


async def test_a_token_is_requested_and_used(browser: Browser, platform: Platform) -> None:
    async with (
        serving(platform.database.url, PROJECTOR_TOKEN=_TOKEN) as url,
        looking(browser, url, answers_fail=True) as page,
    ):
        await page.wait_for_selector("dialog[open]")

        await page.fill("#token-value", _TOKEN)
        await page.keyboard.press("Enter")

        await fully_drawn(page)
        assert _TOKEN not in page.url
        assert await page.inner_text("#banner") == ""
