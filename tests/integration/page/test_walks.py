"""From a figure to its reason: by mouse, by keyboard, by an address that was sent."""

import json
import re
from typing import Any, Final

import pytest
from playwright.async_api import Browser, Page

from tests.integration.page.browsing import (
    CUT_FILTERS,
    CUT_OFF,
    DESK,
    PHONE,
    change_answers,
    fully_drawn,
    looking,
    show,
    texts,
)
from tests.integration.page.platform import Platform

ZOOMED: Final = (960, 540)
"""A screen of 1920 x 1080 at 200 %."""


async def _focused(page: Page) -> str:
    found: str = await page.evaluate(
        "document.activeElement.textContent.trim() || document.activeElement.id"
    )
    return found


async def test_each_try_of_an_execution_has_a_row_and_each_event_a_mark(
    browser: Browser, platform: Platform
) -> None:
    row = await platform.connection.fetchrow(
        """
        select   execution_id, count(*) as calls
        from     projector.calls
        where    execution_id in (select execution_id from projector.calls where attempts > 0)
        group by execution_id
        having   count(*) < 40
        order by count(*) desc, execution_id
        limit    1
        """
    )
    assert row is not None
    events, of_no_call = await platform.connection.fetchrow(
        """
        select count(*),
               count(*) filter (
                   where step = '__orchestrate__' and command_id is not null
                   or    event_type like 'call.%' and command_id is null
                         and not exists (
                             select
                             from   projector.calls
                             where  calls.execution_id = event.execution_id
                             and    calls.step = event.step
                             and    calls.attempts = event.attempts
                         )
               )
        from   projector.execution_timeline as event
        where  execution_id = $1
        """,
        row["execution_id"],
    )
    address = f"{platform.url}/?show=execution&execution={row['execution_id']}"

    async with looking(browser, address) as page:
        await page.wait_for_selector("#as-sent .json")

        rows = await texts(page, ".timeline li", "b")
        marks = await page.locator(".mark").count()
        listed = await page.locator(".events li").count()
        assert rows[0] == ["workflow"]
        # The engine's own calls are in no view, and some events name no call. They share a row.
        assert rows[1:].count(["other calls"]) == bool(of_no_call)
        assert len(rows) == 1 + row["calls"] + bool(of_no_call)
        assert marks == listed == events
        heights: list[float] = await page.locator(".timeline li").evaluate_all(
            "(all) => all.map((one) => one.getBoundingClientRect().height)"
        )
        # The first has no line above it.
        assert max(heights) - min(heights) <= 1

        # Marks of one moment lie above each other.
        await page.locator(".mark").first.dispatch_event("click")
        await page.wait_for_url("**event=*")


@pytest.mark.parametrize(
    ("time", "kind", "attribution"),
    [
        ("finished_at", "%", "inferred"),
        # The worker numbers its ends, so no number of the command's attempts was inferred.
        ("issued_at", "%issued", "declared"),
    ],
)
async def test_an_event_that_nobody_numbered_stands_in_the_row_of_its_call(
    browser: Browser, platform: Platform, time: str, kind: str, attribution: str
) -> None:
    execution, command, attempts, event = await platform.connection.fetchrow(
        f"""
        select call.execution_id, call.command_id, call.attempts, event.event_id
        from   projector.calls as call
        join   projector.execution_timeline as event
               on  event.execution_id = call.execution_id
               and event.command_id = call.command_id
               and event.created_at = call.{time}
               and event.event_type like $1
        where  call.attempts > 0
        and    event.evidence < 100
        and    $2 = all (
                   select attribution
                   from   projector.calls as other
                   where  other.execution_id = call.execution_id
                   and    other.command_id = call.command_id
               )
        order by call.execution_id, call.begun_at
        limit  1
        """,
        kind,
        attribution,
    )

    def ended_when_it_was_issued(content: dict[str, Any], _: str) -> None:
        """As if the attempt before had ended at the microsecond in which the retry was issued."""
        own = {row["attempts"]: row for row in content["rows"] if row["command_id"] == command}
        own[attempts - 1]["finished_at"] = own[attempts]["issued_at"]

    address = f"{platform.url}/?show=execution&execution={execution}"
    async with looking(browser, address, visit=False) as page:
        await change_answers(page, "**/calls?*", ended_when_it_was_issued)
        await page.goto(address)
        await page.wait_for_selector("#as-sent .json")

        mark = page.locator(f'[data-key="mark-{event}"]')
        key = await page.locator(".timeline li", has=mark).get_attribute("data-key") or ""
        row = key.removeprefix(f"row-{command}-").split("-")

    assert row[1] == str(attempts)


async def test_events_of_calls_that_have_no_row_are_none_of_the_workflow(
    browser: Browser, platform: Platform
) -> None:
    execution = await platform.connection.fetchval(
        "select execution_id from projector.calls group by execution_id having count(*) > 1 limit 1"
    )

    address = f"{platform.url}/?show=execution&execution={execution}"
    async with looking(browser, address, visit=False) as page:
        # As if the calls were not among the first 500.
        await change_answers(page, "**/calls?*", lambda content, _: content["rows"].clear())
        await page.goto(address)
        await page.wait_for_selector("#as-sent .json")

        rows = await texts(page, ".timeline li", "b")
        marks = await page.locator(".timeline li >> nth=0 >> .mark").all()
        of_workflow = [await mark.get_attribute("title") or "" for mark in marks]

    assert rows == [["workflow"], ["other calls"]]
    assert not [words for words in of_workflow if words.startswith(("call.", "command."))]


@pytest.mark.parametrize("case", ["on a later page", "without an error text", "not stored"])
async def test_the_event_that_opens_is_one_of_the_call_that_the_reader_came_from(
    browser: Browser, platform: Platform, case: str
) -> None:
    execution, command = await platform.connection.fetchrow(
        """
        select execution_id, max(command_id) from projector.calls
        where status in ('FAILED', 'ERROR')
        group by execution_id having count(distinct command_id) > 1 order by execution_id limit 1
        """
    )

    def changed(content: dict[str, Any], address: str) -> None:
        own = [row for row in content["rows"] if row["command_id"] == command]
        if case == "without an error text":
            for row in own:
                row["error"] = None
        elif case == "not stored" or "command=" not in address:
            content["rows"] = [row for row in content["rows"] if row not in own]

    address = f"{platform.url}/?show=execution&execution={execution}&command={command}"
    async with looking(browser, address, visit=False) as page:
        await change_answers(page, re.compile(r"/(calls|events)\?"), changed)
        await page.goto(address)
        if case == "not stored":
            await page.wait_for_selector("#timeline >> text=No event of this call is stored")
            assert await page.locator("#event").count() == 0
        else:
            await page.wait_for_selector("#as-sent .json")
            assert f"Command{command}" in (await page.text_content("#event .facts") or "")
            status = await page.locator("#event .status").get_attribute("data-status")
            assert status in {"FAILED", "ERROR"}


async def test_an_event_is_shown_beside_or_below_the_list_it_is_chosen_in(
    browser: Browser, platform: Platform
) -> None:
    execution = await platform.connection.fetchval(
        "select execution_id from projector.executions where status = 'FAILED' limit 1"
    )
    address = f"{platform.url}/?show=execution&execution={execution}"

    async with looking(browser, address, visit=False) as page:
        for width, height in (ZOOMED, PHONE):
            await page.set_viewport_size({"width": width, "height": height})
            await page.goto(address)
            await page.wait_for_selector("#as-sent .json")
            listed = await page.evaluate(_PLACE, "events")
            shown = await page.evaluate(_PLACE, "event")
            assert shown["top"] == listed["top"] or shown["top"] >= listed["bottom"]
            assert await page.locator(".json .string").count() > 5
            assert await page.evaluate(_SPLIT_VALUES) == []


async def test_an_event_that_is_chosen_is_seen(browser: Browser, platform: Platform) -> None:
    """Also if it lies below the window and grows while it's drawn."""
    executions = await platform.connection.fetch(
        "select execution_id from projector.executions where status = 'FAILED' limit 12"
    )
    width, height = ZOOMED
    async with looking(browser, platform.url, visit=False) as page:
        await page.set_viewport_size({"width": width, "height": height})
        for (execution,) in executions:
            await page.goto(f"{platform.url}/?show=execution&execution={execution}")
            await page.wait_for_selector("#as-sent .json")

            await page.locator(".events a").first.click()
            await page.wait_for_function(
                "document.querySelector('.events li a').getAttribute('aria-current') === 'true'"
            )
            await page.wait_for_selector("#as-sent .json")

            assert 0 <= (await page.evaluate(_PLACE, "event"))["seen_at"] <= height - 100


# A value that begins behind its name and ends on another line.
_SPLIT_VALUES: Final = """
    () => [...document.querySelectorAll(".json .name-of + *")]
        .filter((value) => value.checkVisibility()).filter((value) => {
        const [name] = value.previousElementSibling.getClientRects();
        const written = [...value.getClientRects()];
        return written[0].top < name.bottom - 2 && written.at(-1).bottom > name.bottom + 8;
    }).map((value) => value.textContent)
"""

_PLACE: Final = """
    (id) => {
        const box = document.getElementById(id).getBoundingClientRect();
        return { top: box.top + scrollY, bottom: box.bottom + scrollY, seen_at: box.top };
    }
"""


async def test_an_event_with_a_large_list_is_shown_and_says_what_is_left_out(
    browser: Browser, platform: Platform
) -> None:
    execution = await platform.connection.fetchval(
        "select execution_id from projector.executions where status = 'FAILED' limit 1"
    )

    def large(content: dict[str, Any], _: str) -> None:
        content["rows"][0]["canonical"] = json.dumps({"list": [0] * 130_000, "text": ":" * 130_000})

    address = f"{platform.url}/?show=execution&execution={execution}"
    async with looking(browser, address, visit=False) as page:
        await change_answers(page, re.compile(r"/events/\d"), large)
        await page.goto(address)
        await page.wait_for_selector("#canonical .json")

        assert "and 129,000 more. Copy takes all" in (
            await page.text_content("#canonical .json") or ""
        )
        assert await page.locator("#difference tr").count() == 1_001
        assert "showing 1,000 of" in (await page.text_content("#difference") or "")


async def test_the_count_of_all_statuses_leads_nowhere_unless_one_is_chosen(
    browser: Browser, platform: Platform
) -> None:
    """The list of calls has open ones too."""
    async with looking(browser, platform.url) as page:
        assert await page.locator("#matrix td:nth-last-child(2) a").count() > 0
        assert await page.locator("#matrix td:last-child b").count() > 0
        assert await page.locator("#matrix td:last-child a").count() == 0

        await show(page, f"{platform.url}/?status=COMPLETED")
        assert await page.locator("#matrix td:last-child a").count() > 0


async def test_grafana_opens_with_the_window_and_filters_of_the_page(
    browser: Browser, platform: Platform
) -> None:
    def with_grafana(content: dict[str, Any], _: str) -> None:
        content["grafana"] = "https://grafana.example"

    async with looking(browser, platform.url, visit=False) as page:
        await change_answers(page, "**/settings", with_grafana)
        await page.goto(
            f"{platform.url}/?since=2026-07-10T09:00:00Z&until=2026-07-10T10:00:00Z&step=fetch"
        )
        link = await page.get_attribute("#foot a[href*=grafana]", "href")

    assert link is not None
    assert "/d/workflows?from=1783674000000&to=1783677600000&var-step=fetch" in link


async def test_a_call_without_an_end_does_not_run_after_its_execution_has_ended(
    browser: Browser, platform: Platform
) -> None:
    execution = await platform.connection.fetchval(
        """
        select execution_id from projector.calls join projector.executions using (execution_id)
        where  ended_at is not null and started_at is not null
        group by execution_id having count(*) > 1 order by execution_id limit 1
        """
    )

    def without_ends(content: dict[str, Any], _: str) -> None:
        """As if of the first call the start, and of all calls the end was not read."""
        for row in content["rows"]:
            row |= {"claimed_at": row["begun_at"], "finished_at": None, "duration_s": None}
        content["rows"][0]["started_at"] = None

    address = f"{platform.url}/?show=execution&execution={execution}"
    async with looking(browser, address, visit=False) as page:
        await change_answers(page, "**/calls?*", without_ends)
        await page.goto(address)
        await page.wait_for_selector("#as-sent .json")

        assert "no end read" in await page.inner_text(".timeline li >> nth=1")
        assert await page.locator(".timeline li >> nth=1 >> .run").count() == 0
        assert await page.locator(".run").count() > 0
        assert await page.locator(".run:not([data-open])").count() == 0


async def test_filters_are_in_the_address_and_its_next_reader_sees_the_same(
    browser: Browser, platform: Platform
) -> None:
    async with looking(browser, platform.url) as page:
        step = await page.locator("#errors tbody tr:nth-child(2) th").inner_text()

        await page.select_option("select[name=step]", step)
        await page.select_option("select[name=attempts]", "0")
        await page.click("nav.windows >> text=6h")
        await fully_drawn(page)

        assert re.search(r"\?last=6h&step=[^&]+&attempts=0$", page.url)
        assert await page.evaluate(CUT_FILTERS) == []
        cell = "#errors tbody tr:nth-child(2)"
        shown = await page.locator(cell).inner_text()
        assert await page.locator("#errors tbody tr").count() == 2
        assert "not filtered by step, attempt" in await page.inner_text("#outcomes header")
        # A tile has the filters of its panel.
        assert "not filtered by attempt" in await page.inner_text(".headline a[href='#first']")

        async with looking(browser, page.url) as colleague:
            await fully_drawn(colleague)
            assert await colleague.locator(cell).inner_text() == shown
            assert await colleague.input_value("select[name=step]") == step

        await page.go_back()
        await page.go_back()
        await page.go_back()
        await fully_drawn(page)
        assert page.url == f"{platform.url}/"
        assert await page.locator("#errors tbody tr").count() > 2


async def test_all_of_it_can_be_walked_by_keyboard(browser: Browser, platform: Platform) -> None:
    async with looking(browser, platform.url) as page:
        await page.keyboard.press("Tab")
        assert await _focused(page) == "Skip to the figures"
        await page.keyboard.press("Enter")
        assert await page.evaluate("document.activeElement.id") == "main"

        # The way down from there to the first cell of the heat, over what can be focused.
        for _ in range(200):
            await page.keyboard.press("Tab")
            if await page.evaluate("!!document.activeElement.closest('#errors td')"):
                break
        assert " calls failed, " in await page.evaluate("document.activeElement.textContent")
        assert (
            await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        )

        # New figures come while it has the focus, and it keeps it.
        async with page.expect_response("**/error-rate-by-attempt*"):
            pass
        assert await page.evaluate("!!document.activeElement.closest('#errors td')")

        await page.keyboard.press("Enter")
        await page.wait_for_selector(".calls li")
        assert await page.evaluate("document.activeElement.id") == "main"
        # Past the panel of errors.
        await page.keyboard.press("j")
        await page.keyboard.press("j")
        assert await page.evaluate("document.activeElement.id") == "calls"
        for _ in range(5):
            await page.keyboard.press("Tab")
            if await page.evaluate("document.activeElement.classList.contains('id')"):
                break
        await page.keyboard.press("Enter")
        await page.wait_for_selector("#as-sent .json")
        assert "show=execution" in page.url


async def test_figures_can_be_held_and_let_go(browser: Browser, platform: Platform) -> None:
    async with looking(browser, platform.url, visit=False) as page:
        await page.clock.install()
        await show(page, platform.url)

        await page.click("button[title=Pause]")
        assert "You see the figures from" in await page.inner_text("#banner")
        requested: list[str] = []
        page.on("request", lambda request: requested.append(request.url))
        await page.clock.fast_forward(60_000)
        assert requested == []

        await page.click("button[title='Go live']")
        await page.wait_for_function("() => document.getElementById('banner').textContent === ''")
        assert requested


@pytest.mark.parametrize("size", [DESK, ZOOMED])
async def test_a_tile_leads_to_the_title_of_its_panel(
    browser: Browser, platform: Platform, size: tuple[int, int]
) -> None:
    async with looking(browser, platform.url, size=size) as page:
        await page.click(".headline a[href='#freshness']")

        await page.wait_for_function("scrollY > 0")
        on_top = await page.evaluate(
            """() => {
                const { x, y } = document.getElementById("freshness-title").getBoundingClientRect();
                return document.elementFromPoint(x + 3, y + 3).id;
            }"""
        )
        assert on_top == "freshness-title"


async def test_nothing_is_cut_off_on_a_zoomed_desk(browser: Browser, platform: Platform) -> None:
    async with looking(browser, platform.url, size=ZOOMED) as page:
        await page.fill("#search", "demo")
        await page.wait_for_selector("#found li b")
        assert await page.evaluate("document.documentElement.scrollWidth") == ZOOMED[0]
        # The bar leaves most of the screen to the figures.
        assert await page.evaluate("document.getElementById('head').offsetHeight") <= 90
        await page.set_viewport_size({"width": DESK[0], "height": DESK[1]})
        assert await page.evaluate(_LEFT_EDGES, ".search input, #found") == 1
        await page.set_viewport_size({"width": ZOOMED[0], "height": ZOOMED[1]})

        await show(page, f"{platform.url}/?show=calls&failed=true")
        assert await page.evaluate(CUT_OFF, ".calls") == []
        assert await page.evaluate(_BROKEN_NAMES) == []
        assert "took" in await page.inner_text(".calls .took >> nth=0")
        assert await page.locator("select[name=status] option").first.text_content() == (
            "Without success"
        )
        assert await page.locator(".calls li").count() > 1
        assert await page.evaluate(_LEFT_EDGES, ".calls .when") == 1

        await show(page, f"{platform.url}/?show=error&error_class=connection%20refused")
        assert await page.locator("#where .what").count() > 10
        assert await page.evaluate(CUT_OFF, "#where") == []

        # Where a panel has the whole width, names have the room.
        await show(page, f"{platform.url}/?show=retries")
        assert await page.locator("#with-failures .cut").count() > 0
        assert await page.evaluate(CUT_OFF, "td .cut, td small") == []


_LEFT_EDGES: Final = """
    (each) => new Set([...document.querySelectorAll(each)]
        .map((one) => Math.round(one.getBoundingClientRect().left))).size
"""

_BROKEN_NAMES: Final = """
    () => [...document.querySelectorAll(".calls .by, .calls .of > *")].filter((one) => {
        const written = document.createRange();
        written.selectNodeContents(one);
        return written.getClientRects().length > 1;
    }).map((one) => one.textContent)
"""
