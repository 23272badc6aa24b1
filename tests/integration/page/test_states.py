"""The page's own states: nothing there, no answer, a late answer, a rejected one."""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, get_args

import pytest
from playwright.async_api import APIResponse, Browser, Page, Route

from normalizer.errors import REJECTION_REASONS
from projector.api.parameters import Shapes
from tests.integration.page.browsing import (
    cells,
    change_answers,
    fully_drawn,
    looking,
    serving,
    show,
    texts,
)
from tests.integration.page.platform import Platform
from tests.support.lossy_proxy import Proxy
from tests.support.stack import Database, Stack
from tests.support.table_rows import connected, insert_row
from tests.support.waiting import until

_ALL_POLLED_MS: Final = 40_000
"""By then each query has failed: an answer may take its time."""
_EVERY_QUERY_NOW: Final = "dispatchEvent(new Event('live'))"
"""What the end of a pause does."""
_EVERY_QUERY_EACH_SECOND: Final = f"void setInterval(() => {_EVERY_QUERY_NOW}, 1000)"
"""The server may answer once more from its cache, and some queries are sent once a minute."""
_NOTE_WHAT_THE_BANNER_SAYS: Final = """() => {
  const banner = document.getElementById("banner");
  window.said = [];
  new MutationObserver(() => said.push(banner.textContent))
    .observe(banner, { childList: true, subtree: true, characterData: true });
}"""
_TOKEN: Final = "a-token-that-only-this-test-knows"


@pytest.fixture(scope="module")
async def empty(stack: Stack) -> AsyncIterator[str]:
    """The address of a page over a database that nobody writes."""
    cluster = await stack.cluster("current")
    async with cluster.database() as database, serving(database.url) as url:
        yield url


async def test_an_empty_database_is_said_to_be_empty(browser: Browser, empty: str) -> None:
    async with looking(browser, empty) as page:
        said = await page.evaluate(
            """() => [...document.querySelectorAll(".grid .panel .body")]
                .map((one) => one.textContent)"""
        )

        assert len(said) == 12
        for words in said:
            assert words.startswith(("No ", "Nothing ")), words
        assert await page.inner_text("#banner") == ""
        assert "0%" not in await page.inner_text(".headline")
        assert "Nothing received yet" in await page.inner_text(".first-run")
        assert await page.inner_text(".first-run pre") == "normalizer run"

        await show(page, f"{empty}/?view=wall")
        # Not a scale of billionths.
        assert min(await page.evaluate(_ENDS_OF_SCALES)) >= 1


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


async def test_a_delay_below_zero_is_shown_below_zero(browser: Browser, database: Database) -> None:
    """The clock of the producer that gave the last record its time is an hour ahead."""
    now = datetime.now(UTC)
    async with connected(database) as connection:
        ahead = _ms(now + timedelta(hours=1))
        last = {"next_offset": 1, "records": 1, "last_recorded_ms": ahead}
        await insert_row(connection, "normalizer.source_positions", **last, committed_at=now)
        seen = {"end_seen_at": now, "heartbeat_at": now + timedelta(minutes=1)}
        ends = {"log_end": 1, "next_offset": 1, "partition_count": 1}
        await insert_row(connection, "normalizer.source_heartbeats", **seen, **ends)
    async with serving(database.url) as url, looking(browser, url) as page:
        ((*_, delay, _),) = await cells(page, "#freshness")

    assert delay == "\N{MINUS SIGN}1 h 00 min"


_ENDS_OF_SCALES: Final = """
    async () => {
        const { drawn } = await pageModule("charts.js");
        return [...drawn.values()].map(({ plot }) => plot.scales.y.max);
    }
"""


async def test_a_database_that_stops_is_said_and_its_figures_stay(
    browser: Browser, platform: Platform
) -> None:
    async with contextlib.AsyncExitStack() as reachable:
        proxy = await reachable.enter_async_context(Proxy(platform.database.url))
        async with serving(proxy.url) as url, looking(browser, url, answers_fail=True) as page:
            figures = await page.inner_text("#errors table")

            await reachable.aclose()
            await page.evaluate(_EVERY_QUERY_EACH_SECOND)

            await page.wait_for_selector(
                "#banner >> text=The database hasn't answered for", timeout=_ALL_POLLED_MS
            )
            assert "the figures are from" in await page.inner_text("#banner")
            assert await page.locator(".panel[data-state=bad]").count() == 12
            assert await page.inner_text("#errors table") == figures
            assert "figures from" in await page.inner_text("#errors header")
            # Nobody knows now whether the log is caught up.
            log = await page.inner_text(".headline a[href='#freshness']")
            assert re.search(r"Unknown\s+last known: .+ at \d\d:\d\d:\d\d", log)

            await page.set_viewport_size({"width": 1920, "height": 1080})
            await page.goto(f"{url}/?view=wall")
            await page.wait_for_selector("#banner >> text=there are no figures yet")
            # Large text for distant readers is complete even when something is wrong.
            assert await page.evaluate("document.documentElement.scrollHeight") <= 1080
            await page.goto(url)
            await page.wait_for_selector("#banner >> text=there are no figures yet")
            assert "no record" not in await page.inner_text(".headline")


async def test_a_server_that_is_gone_is_said(browser: Browser, platform: Platform) -> None:
    async with looking(browser, platform.url, answers_fail=True) as page:
        await page.context.set_offline(offline=True)
        await page.evaluate(_EVERY_QUERY_EACH_SECOND)
        await page.wait_for_selector(
            "#banner >> text=The server hasn't answered for", timeout=_ALL_POLLED_MS
        )

        await page.context.set_offline(offline=False)
        await page.evaluate(_EVERY_QUERY_NOW)
        await page.wait_for_function("() => document.getElementById('banner').textContent === ''")


async def test_an_outage_is_as_old_on_the_next_screen(browser: Browser, platform: Platform) -> None:
    async with looking(browser, platform.url, visit=False, answers_fail=True) as page:
        await page.route("**/api/v1/**", _fail_all_but_settings)
        await page.goto(platform.url)
        await page.wait_for_selector(r"#banner >> text=/answered for [4-9](\.\d+)? s;/")

        await page.evaluate(_NOTE_WHAT_THE_BANNER_SAYS)
        await page.click("nav.screens >> text=Executions")
        await page.wait_for_function(
            r"() => said.some((text) => /for (9|\d\d)(\.\d+)? s;/.test(text))"
        )
        ages = re.findall(r"answered for ([\d.]+) (\w+)", await page.evaluate("said.join()"))
        assert min(float(age) if unit == "s" else 0 for age, unit in ages) >= 4

        async with page.expect_response("**/settings*"):
            await page.click("text=Wall")
        await page.evaluate("said.length = 0")
        await page.wait_for_function("() => said.length >= 2")  # drawn since
        assert "refreshed" not in await page.inner_text("body")


async def _fail_all_but_settings(route: Route) -> None:
    if "/settings" in route.request.url:
        await route.continue_()
    else:
        await route.fulfill(status=503, json={"reason": "database_unavailable"})


async def test_an_outage_is_as_old_after_a_reload(browser: Browser, platform: Platform) -> None:
    async def age() -> tuple[str, str]:
        said = await page.locator("#banner >> text=answered for").inner_text()
        ((number, unit),) = re.findall(r"answered for ([\d.]+) (\w+)", said)
        return number, unit

    async with looking(browser, platform.url, visit=False, answers_fail=True) as page:
        await page.clock.install()
        await page.route("**/api/v1/**", _fail_all_but_settings)
        await page.goto(platform.url)
        assert (await age())[1] in {"s", "ms"}
        await page.clock.fast_forward(600_000)

        await page.reload()
        assert (await age())[1] == "min"

        # The page was away, so it doesn't know whether that outage went on.
        await page.goto("about:blank")
        await page.clock.fast_forward(600_000)
        await page.goto(platform.url)
        assert (await age())[1] in {"s", "ms"}

        # An outage that ended isn't part of the next one.
        await page.clock.fast_forward(600_000)
        await page.unroute_all(behavior="ignoreErrors")
        await page.evaluate(_EVERY_QUERY_NOW)
        await page.wait_for_function("() => document.getElementById('banner').textContent === ''")
        await page.route("**/api/v1/**", _fail_all_but_settings)
        await page.reload()
        assert (await age())[1] in {"s", "ms"}


async def test_page_polls_less_often_in_an_outage(browser: Browser, platform: Platform) -> None:
    requested: list[str] = []

    async def fail(route: Route) -> None:
        requested.append(route.request.url.partition("/api/v1/")[2].partition("?")[0])
        await _fail_all_but_settings(route)

    async with looking(browser, platform.url, visit=False, answers_fail=True) as page:
        await page.clock.install()
        await page.route("**/api/v1/**", fail)
        await page.goto(platform.url)
        for _ in range(40):
            await page.clock.run_for(5_000)
            await page.wait_for_function(_NO_QUERY_IS_SENT)

        # After 200 s: at 0, 5, 15, 35, 65, 95, 125, 155, and 185 s or a little later.
        assert 6 <= requested.count("jobs") <= 9
        assert re.search(r"\. Next try at \d\d:\d\d:\d\d\.", await page.inner_text("#banner")), (
            await page.inner_text("#banner")
        )

        times = requested.count("jobs")
        await page.evaluate("dispatchEvent(new Event('focus'))")
        await until(partial(_times, requested, "jobs"), is_so=lambda now: now > times)


_NO_QUERY_IS_SENT: Final = """
    async () => {
        const { page } = await pageModule("state.js");
        return [...page.queries.values()].every((one) => one.sentAt === null);
    }
"""


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
        # The others come meanwhile.
        await page.wait_for_selector("#first[aria-busy=false]")
        await fully_drawn(page)


async def test_long_windows_are_polled_less_often(browser: Browser, platform: Platform) -> None:
    requested: list[str] = []

    async def noted(route: Route) -> None:
        requested.append(route.request.url.partition("/api/v1/")[2].partition("?")[0])
        await route.continue_()

    async with looking(browser, platform.url, visit=False) as page:
        await page.clock.install()
        await page.route("**/api/v1/*", noted)
        await show(page, f"{platform.url}/?last=30d")
        await page.clock.fast_forward(6_000)
        await until(partial(_times, requested, "stuck-executions"), is_so=lambda times: times >= 2)

        assert requested.count("error-rate-by-attempt") == 4 * requested.count("tiles") == 4


async def test_the_sleep_of_a_laptop_is_no_outage(browser: Browser, platform: Platform) -> None:
    """A request was on its way when the laptop fell asleep, and fails when it wakes up."""
    sent = asyncio.Event()
    awake = asyncio.Event()

    async def lost(route: Route) -> None:
        sent.set()
        await awake.wait()
        await route.abort()

    async with looking(browser, platform.url, answers_fail=True, visit=False) as page:
        await page.clock.install()
        await page.route("**/api/v1/jobs", lost)
        await page.goto(platform.url)
        await sent.wait()
        await page.clock.fast_forward("08:00:00")
        awake.set()

        said = await page.locator("#banner >> text=hasn't answered").inner_text()

        assert re.search(r" for 3\d s", said), said


async def test_the_answers_of_a_poll_are_drawn_together(
    browser: Browser, platform: Platform
) -> None:
    """Within half a second, here one after the other, each after the one before was taken in."""
    requested: set[str] = set()
    held: list[tuple[Route, APIResponse]] = []

    async def note(route: Route) -> None:
        requested.add(route.request.url)
        await route.continue_()

    async def hold(route: Route) -> None:
        """The answer as if it were new: the page draws nothing for one that it knows."""
        headers = await route.request.all_headers()
        held.append((route, await route.fetch(headers=headers | {"if-none-match": ""})))

    async def count_held() -> int:
        return len(held)

    async with looking(browser, platform.url, visit=False) as page:
        await page.add_init_script(_COUNT_DRAWINGS)
        await page.route("**/api/v1/*", note)
        await show(page, platform.url)
        await page.route("**/api/v1/*", hold)
        # Eight are sent less often: settings, choices, deployments, events, retries by minute,
        # what verify found, and the window before.
        await until(count_held, is_so=lambda count: count >= len(requested) - 8)
        before = await page.evaluate("drawings")
        answers = list(held)
        began_s = time.monotonic()
        for route, answer in answers:
            await route.fulfill(response=answer)
            await page.evaluate("new Promise(requestAnimationFrame)")
            await page.evaluate("new Promise(requestAnimationFrame)")
        await page.wait_for_function("before => drawings > before", arg=before)
        drawings = await page.evaluate("drawings") - before
        took_s = time.monotonic() - began_s

    assert len(answers) > 10
    # Each second also shows how old everything is.
    assert drawings < max(len(answers) / 2, 3 * took_s)


_READ_AT: Final = """
    async () => {
        const { page } = await pageModule("state.js");
        return [...page.queries.values()]
            .filter((one) => one.answer?.read_at)
            .map((one) => [one.address, one.answer.read_at]);
    }
"""

_COUNT_DRAWINGS: Final = """
    window.drawings = 0;
    const byId = document.getElementById.bind(document);
    // Each drawing ends with the footer.
    document.getElementById = (id) => (window.drawings += id === "foot", byId(id));
"""


@pytest.mark.parametrize("claimed", [True, False])
async def test_unread_figures_are_not_shown_as_zero(
    browser: Browser, platform: Platform, *, claimed: bool
) -> None:
    """The log was read up to five hours ago, or one partition never: charts end there."""

    def as_if_nobody_read(content: dict[str, Any], address: str) -> None:
        if "as_of" in content:
            read_at = datetime.fromisoformat(content["read_at"])
            content["as_of"] = (read_at - timedelta(hours=5)).isoformat()
            if "/freshness" in address:
                for row in content["rows"]:
                    row["as_of"] = content["as_of"]
            if not claimed:
                content["as_of"] = None

    async with looking(browser, platform.url, visit=False) as page:
        await change_answers(page, "**/api/v1/*", as_if_nobody_read)
        await show(page, platform.url)
        charts, trends = await page.evaluate(_ENDS)
        assert charts == [5, 5, 5]
        # 19 of 24 hours.
        assert len(trends) > 10
        assert max(trends) < 85

        await show(page, f"{platform.url}/?view=wall")
        assert min((await page.evaluate(_ENDS))[0]) >= 5


_ENDS: Final = """
    async () => {
        const { drawn } = await pageModule("charts.js");
        const plots = [...drawn.values()].map(({ plot }) => plot);
        const after = (values) => values.length - 1 - values.findLastIndex((one) => one !== null);
        const line = (one) => Math.max(...[...one.points].map((point) => point.x));
        return [
            plots.filter((plot) => plot.root.closest("#chart-outcomes, .wall"))
                .flatMap((plot) => plot.data.slice(1).map(after)),
            [...document.querySelectorAll(".spark polyline:last-child")].map(line),
        ];
    }
"""


async def test_a_window_of_which_nothing_was_read_is_not_empty(
    browser: Browser, platform: Platform
) -> None:
    """The slowest partition wasn't read, and the page shows the records of the others."""
    others_read = False

    def as_if_nobody_read(content: dict[str, Any], address: str) -> None:
        read_at = datetime.fromisoformat(content["read_at"])
        content["as_of"] = (read_at - timedelta(hours=5)).isoformat()
        path = address.partition("/v1/")[2]
        if path.startswith("tiles"):
            rejected = 12 if others_read else 0
            for row in content["rows"]:
                row["value"] = rejected if row["tile"] == "rejected" else None
        elif path.startswith("retry-storms") and others_read:
            content["rows"] = [_STORM]
        elif not path.startswith("freshness"):
            content["rows"] = []

    async with looking(browser, platform.url, visit=False) as page:
        await change_answers(page, re.compile("/api/v1/(?!settings|choices)"), as_if_nobody_read)
        for others_read in (False, True):
            for screen, figures in (
                ("?last=1h", ".headline [href='#storms'], .headline [href*='quarantine']"),
                ("?last=1h&view=wall", "#storm .big, #rejected .big"),
            ):
                await show(page, f"{platform.url}/{screen}")
                shown = [text for (text,) in await texts(page, figures, "b")]
                panels = await page.inner_text("#main")

                assert shown == (["5", "12"] if others_read else ["\N{EN DASH}"] * 2), screen
                assert not re.search(
                    r"No (event|call|record|execution began|first attempt)", panels
                )


_STORM: Final = {
    "step": "fetch",
    "retries_now": 25,
    "per_minute_now": 5.0,
    "ratio_now": 0.5,
    "per_minute_baseline": 1.0,
    "ratio_baseline": 0.1,
    "storm": True,
}


async def _times(requested: list[str], name: str) -> int:
    return requested.count(name)


async def test_a_question_that_fails_is_no_zero(browser: Browser, platform: Platform) -> None:
    async def too_slow(route: Route) -> None:
        await route.fulfill(
            status=504,
            json={"status": 504, "reason": "too_slow", "detail": "statement time-out after 5 s"},
        )

    async with looking(browser, platform.url, answers_fail=True, visit=False) as page:
        # The panel also asks for those without a start event, by another address.
        await page.route(re.compile(r"/stuck-executions\?(?!.*begun=false)"), too_slow)
        await page.goto(platform.url)
        await page.wait_for_selector("#stuck >> text=The database takes too long to answer.")

        tile = await page.inner_text(".headline a[href='#stuck']")
        assert "0" not in tile.replace("5 minutes", "")
        assert "(1 of " in await page.inner_text("#banner")


async def test_a_token_is_requested_until_it_is_right_and_used(
    browser: Browser, platform: Platform
) -> None:
    async with (
        serving(platform.database.url, PROJECTOR_TOKEN=_TOKEN) as url,
        looking(browser, url, answers_fail=True, drawn=False) as page,
    ):
        # No header can carry the first one: it is wrong as any other.
        for typed in ("ключ", f" {_TOKEN} "):
            await page.wait_for_selector("dialog[open]")
            await page.fill("#token-value", typed)
            await page.keyboard.press("Enter")

        await fully_drawn(page)
        assert _TOKEN not in page.url
        assert await page.inner_text("#banner") == ""


async def test_a_verdict_says_how_much_was_compared_and_nothing_is_no_agreement(
    browser: Browser, database: Database
) -> None:
    stored = """
        insert into projector.verifications
               (projection, scope, verdict, compared, divergent, archived, detail, took_s, since,
                until)
        values ($1, $2, $3, $4, 0, 0, '', 0.1, $5, $6)
    """
    since, until = datetime(2026, 7, 1, 9, tzinfo=UTC), datetime(2026, 7, 1, 12, tzinfo=UTC)
    nothing = ("call_facts", "range", "match", 0, since, until)
    some = ("event_hours", "range", "match", 1_234, since, until)
    late = ("call_hours", "range", "inconclusive", 0, since, until)
    seen: list[tuple[str, str | None]] = []
    async with connected(database) as connection, serving(database.url) as url:
        now_ms = _ms(datetime.now(UTC))
        read = {"next_offset": 1, "records": 1, "last_recorded_ms": now_ms}
        await insert_row(connection, "normalizer.source_positions", **read)
        for rows in ([nothing], [some], [late], [("event_hours", "all", "match", 70, None, None)]):
            await connection.executemany(stored, rows)
            async with looking(browser, url) as page:
                seen.append(await _other_verdict(page, {words for words, _ in seen}))

    hours = "01 Jul 09:00\N{EN DASH}12:00"
    agrees = "1 projection agrees with the stored events: "
    ranged = f"{agrees}1,234 rows compared ({hours}). "
    whole = f"{agrees}70 rows compared (everything). "
    empty = f"1 projection had nothing to compare ({hours}), which is no agreement. "
    slow = f"1 comparison took too long and has no result ({hours}). "
    last = re.compile("(Compared .+ ago|Not all are compared yet)[.]$")
    assert [(last.sub("", words), state) for words, state in seen] == [
        (empty, "none"),
        (ranged + empty, "good"),
        (ranged + empty + slow, "none"),
        (whole + empty + slow, "none"),
    ]


async def _other_verdict(page: Page, seen: set[str]) -> tuple[str, str | None]:
    """Reload until the verdict is another one: the server keeps an answer for a second."""
    verdict = page.locator("#freshness .verdict")
    while (words := await verdict.inner_text()) in seen:
        await page.reload()
        await fully_drawn(page)
    return words, await verdict.get_attribute("data-state")


async def test_an_answer_whose_rows_the_browser_kept_is_as_of_now(
    browser: Browser, platform: Platform
) -> None:
    """As after a reload: the page knows no answer yet, but the browser has the bytes of one."""
    async with looking(browser, platform.url) as page:
        assert await page.evaluate(
            """async () => {
                const filters = new URLSearchParams({ last: "1h", limit: 100 });
                const { get } = await pageModule("api.js");
                const answer = () => get("error-groups", filters, AbortSignal.timeout(30_000));
                const readAt = async () => {
                    const address = `/api/v1/error-groups?${filters}`;
                    const response = await fetch(address, { cache: "no-cache" });
                    return JSON.parse(response.headers.get("answer-clock")).read_at;
                };
                const first = await readAt();
                let newer = first;
                while (newer === first) newer = await readAt();
                return (await answer()).read_at >= newer;
            }"""
        )


def _compared_now(content: dict[str, Any], _: str) -> None:
    """As if the calls had been compared at the moment of the answer, and agreed."""
    times = ("all_verified_at", "range_verified_at", "sample_verified_at")
    row = {"projection": "calls", "verdict": "match", "divergent_since": None}
    content["rows"] = [row | dict.fromkeys(times, content["read_at"])]


async def test_how_long_ago_is_by_the_clock_of_the_database(
    browser: Browser, platform: Platform
) -> None:
    """The clock of the reader is two days ahead."""
    async with looking(browser, platform.url, visit=False) as page:
        await page.clock.install(time=datetime.now(UTC) + timedelta(days=2))

        await change_answers(page, "**/api/v1/agreement", _compared_now)
        await page.goto(platform.url)
        await page.wait_for_selector("#freshness .verdict")

        said = await page.inner_text("#freshness .verdict")

    assert "Compared completely 0 ms ago, " in said


@pytest.mark.parametrize(
    ("screen", "tile"),
    [("", ".headline li:has([href='#freshness'])"), ("?view=wall", "#log .big")],
)
async def test_log_whose_projections_disagree_is_not_fine(
    browser: Browser, platform: Platform, screen: str, tile: str
) -> None:
    def divergent(content: dict[str, Any], address: str) -> None:
        _compared_now(content, address)
        content["rows"][0] |= {"verdict": "divergent", "divergent_since": content["read_at"]}

    async with looking(browser, platform.url, visit=False) as page:
        await change_answers(page, "**/api/v1/agreement*", divergent)
        await show(page, f"{platform.url}/{screen}")
        said = page.locator(tile)
        assert "1 projection disagrees" in await said.inner_text()
        assert await said.get_attribute("data-state") == "bad"


async def test_a_refused_query_is_not_sent_again_until_the_reader_retries(
    browser: Browser, platform: Platform
) -> None:
    requested: list[str] = []

    async def refuse(route: Route) -> None:
        requested.append("jobs")
        await route.fulfill(status=403, json={"status": 403, "reason": "database_refused"})

    async with looking(browser, platform.url, answers_fail=True, visit=False) as page:
        await page.clock.install()
        await page.route("**/api/v1/jobs", refuse)
        await page.goto(platform.url)
        await page.wait_for_selector(
            "#banner >> text=The database rejects the sign-in or the query"
        )

        await page.clock.fast_forward(60_000)
        assert requested == ["jobs"]

        await page.click("#again")
        await until(partial(_times, requested, "jobs"), is_so=lambda times: times >= 2)


async def test_a_screen_that_is_opened_in_a_pause_is_read_until_it_is_answered(
    browser: Browser, platform: Platform
) -> None:
    requested: list[str] = []

    async def fail_first(route: Route) -> None:
        requested.append(route.request.url)
        if len(requested) > 1:
            await route.continue_()
        else:
            await route.fulfill(status=503, json={"status": 503, "reason": "busy"})

    async with looking(browser, platform.url, answers_fail=True) as page:
        await page.click("#pause")
        await page.route("**/api/v1/error-groups*", fail_first)
        await page.click("nav.screens >> text=Errors")
        await page.wait_for_selector("#banner >> text=The server is too busy")

        await page.wait_for_selector("#banner >> text=Paused")
        first = await page.evaluate(_READ_AT)

        # Panels drawn from memory on the way back are read again.
        await page.click("nav.screens >> text=Dashboard")
        await until(partial(_read_later, page, first), is_so=bool)

        await page.click("#wall")
        await page.wait_for_selector("body[data-view=wall]")
        await fully_drawn(page)
        assert await page.inner_text("#banner") == ""


async def _read_later(page: Page, first: list[tuple[str, str]]) -> bool:
    newest = max(at for _, at in first)
    return all(at >= newest for _, at in await page.evaluate(_READ_AT))


async def test_a_wrong_address_falls_back_and_says_so(browser: Browser, platform: Platform) -> None:
    async with looking(browser, f"{platform.url}/?last=forever&show=nothing&step=a") as page:
        await page.wait_for_selector("#matrix")

        assert "last=forever, show=nothing" in await page.inner_text("#banner")
        assert await page.input_value("select[name=step]") == "a"

        # The API refuses these: 10,080 minutes are 7d.
        await show(page, f"{platform.url}/?last=10080m&attempts=007")
        assert "last=10080m, attempts=007" in await page.inner_text("#banner")

        found = "select execution_id, event_id from projector.execution_timeline limit 1"
        execution, event = await platform.connection.fetchrow(found)
        shown = f"{platform.url}/?show=execution&execution={execution}&event={event}"
        for zoom in ("1~Infinity", "9~1", "1783674000041~9e15", "x"):
            await page.goto(f"{shown}&zoom={zoom}")
            await page.wait_for_selector(".timeline .mark >> nth=0")
            assert f"zoom={zoom}" in await page.inner_text("#banner")

        # The end of a window whose begin nobody said.
        await show(page, f"{platform.url}/?until=2026-07-11T09:00:00Z")
        said = await page.inner_text("#banner")
        assert "until=2026-07-11T09:00:00Z without since" in said

        # The page has one value of each, but the API may have more.
        await show(page, f"{platform.url}/?step=a&step=b&step=a")
        assert (await page.inner_text("#banner")).endswith("doesn't know: step=b.")
        assert await page.input_value("select[name=step]") == "a"

        # Nor does the API know a time without a zone, or one that is only a day.
        await show(page, f"{platform.url}/?since=2026-07-10T09:00:00&until=2026-07-11&step=a")
        said = await page.inner_text("#banner")
        assert "since=2026-07-10T09:00:00, until=2026-07-11" in said
        assert await page.input_value("select[name=step]") == "a"


async def test_an_empty_page_keeps_every_rule_of_pages(browser: Browser, empty: str) -> None:
    async with looking(browser, empty, visit=False) as page:
        for claim in (
            _names_that_are_empty_have_an_address,
            _what_has_the_focus_keeps_it_where_others_come_and_go,
            _the_page_knows_what_the_api_refuses,
            _a_rule_leads_to_its_panel_without_loading_the_page_again,
            _how_a_copy_went_is_said_and_stays_when_the_page_is_drawn_again,
        ):
            await claim(page, empty)


async def _names_that_are_empty_have_an_address(page: Page, empty: str) -> None:
    await show(page, f"{empty}/?step=&worker=&show=calls")
    assert await page.inner_text("h1") == "Calls of (no step) by an unknown worker"
    chosen = "document.querySelector('select[name=step]').selectedOptions[0].textContent"
    assert await page.evaluate(chosen) == "(none)"

    await page.select_option("select[name=step]", label="All steps")
    assert page.url == f"{empty}/?worker=&show=calls"
    assert await page.evaluate(chosen) == "All steps"

    await page.goto(f"{empty}/?show=quarantine&shape=")
    assert await page.inner_text("#records h2") == "Records with shape (no shape)"
    await page.wait_for_selector("#records >> text=with these filters")
    said = await page.inner_text("#shapes header")
    assert "unknown means that no known form fits" in said


async def test_the_window_before_is_before_the_one_of_now(browser: Browser, empty: str) -> None:
    async with looking(browser, f"{empty}/?last=15m", visit=False) as page:
        await page.clock.install()
        await show(page, f"{empty}/?last=15m")
        back = "nav.windows a[title='Step back']"
        first = await page.get_attribute(back, "href")

        await page.clock.fast_forward("02:00:00")
        await page.wait_for_function(
            "([back, first]) => document.querySelector(back).getAttribute('href') !== first",
            arg=[back, first],
            timeout=20_000,
        )


async def _what_has_the_focus_keeps_it_where_others_come_and_go(page: Page, empty: str) -> None:
    """As does a list that was scrolled, when the rows above it vanish."""
    await page.goto(empty)
    kept = await page.evaluate(_PATCHED, ["xabcd", "abcd"])
    assert kept == {"order": "abcd", "focused": "c", "scrolled": 40}
    moved = await page.evaluate(_PATCHED, ["abcd", "cabd"])
    assert moved["order"] == "cabd"
    assert moved["focused"] == "c"


_PATCHED: Final = """
    async ([before, after]) => {
        const { h, patch } = await pageModule("dom.js");
        const vars = { height: "20px", overflow: "auto" };
        const row = (key) => h("div", { "data-key": key, tabindex: "0", vars },
            h("p", { vars: { height: "300px" } }, key));
        const rows = (keys) => [...keys].map(row);
        const list = h("div");
        document.body.append(list);
        patch(list, rows(before));
        const one = list.querySelector("[data-key=c]");
        one.focus();
        one.scrollTop = 40;
        patch(list, rows(after));
        const found = { order: [...list.children].map((row) => row.dataset.key).join(""),
            focused: document.activeElement.dataset.key ?? "", scrolled: one.scrollTop };
        list.remove();
        return found;
    }
"""


async def _the_page_knows_what_the_api_refuses(page: Page, empty: str) -> None:
    rejected = ("reason=foo", "shape=bar", "failed=maybe", "since=0000-01-01T00:00:00Z")
    await show(page, f"{empty}/?show=quarantine&{'&'.join(rejected)}")
    for one in rejected:
        assert one in await page.inner_text("#banner")

    for reason in REJECTION_REASONS:
        assert await page.evaluate(_IGNORED, f"reason={reason}") == []
    for shape in get_args(get_args(get_args(Shapes)[0])[0]):
        assert await page.evaluate(_IGNORED, f"shape={shape}") == []


_IGNORED: Final = """
    async (query) => {
        const router = await pageModule("router.js");
        history.replaceState(null, "", `/?show=quarantine&${query}`);
        router.read();
        return router.ignored;
    }
"""


async def _a_rule_leads_to_its_panel_without_loading_the_page_again(page: Page, empty: str) -> None:
    await show(page, f"{empty}/?show=calls")
    await page.evaluate(
        """() => {
            window.same = true;
            const link = document.createElement("a");
            link.href = "/#quarantine";
            link.textContent = "(rule x)";
            document.getElementById("main").append(link);
            link.click();
        }"""
    )
    await page.wait_for_selector("#quarantine")

    assert await page.evaluate("window.same === true")
    assert page.url == f"{empty}/#quarantine"


async def _how_a_copy_went_is_said_and_stays_when_the_page_is_drawn_again(
    page: Page, empty: str
) -> None:
    await page.goto(empty)
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await fully_drawn(page)
    assert await page.evaluate(_MARKED_AND_DRAWN) == "Done"

    await page.click(".first-run [data-copy]")
    await page.wait_for_selector("#said:not(:empty)", state="attached")

    label = await page.get_attribute(".first-run [data-copy]", "aria-label")
    assert await page.text_content("#said") == f"Done: {label}"


_MARKED_AND_DRAWN: Final = """
    async () => {
        const button = document.querySelector(".first-run [data-copy]");
        button.dataset.done = "Done";
        dispatchEvent(new Event("resize"));
        await new Promise((resolve) => setTimeout(resolve, 800));
        return button.dataset.done ?? null;
    }
"""


@pytest.mark.parametrize(
    ("zone", "said"), [("UTC", "28 Nov 2019"), ("America/New_York", "27 Nov 2019 19:00")]
)
async def test_a_day_that_is_none_here_is_written_with_its_time(
    browser: Browser, empty: str, zone: str, said: str
) -> None:
    """Days are counted by UTC."""
    async with looking(browser, empty, zone=zone) as page:
        assert await page.evaluate(_WRITTEN_AS_A_DAY, "2019-11-28T00:00:00Z") == said


_WRITTEN_AS_A_DAY: Final = """
    async (time) => {
        return (await pageModule("panel_parts.js")).stamp(time, "day");
    }
"""


async def test_a_day_of_another_year_has_its_year(browser: Browser, platform: Platform) -> None:
    window = "since=2019-01-01T00:00:00Z&until=2020-01-01T00:00:00Z"
    async with looking(browser, f"{platform.url}/?{window}") as page:
        said = await page.inner_text(".picker summary")

    assert said.startswith("01 Jan 2019 00:00 \N{EN DASH} 01 Jan 2020 00:00")


async def test_without_the_library_there_are_figures_and_a_word_about_charts(
    browser: Browser, platform: Platform
) -> None:
    async with looking(browser, platform.url, answers_fail=True, visit=False) as page:
        await page.route("**/uplot.*", lambda route: route.fulfill(status=404))
        await page.goto(platform.url)

        await page.wait_for_selector("#outcomes >> text=installed without Maven")
        await page.click("#outcomes summary")
        assert await page.locator("#outcomes tbody tr").count() > 0

        await page.goto(f"{platform.url}/?view=wall")
        await page.wait_for_selector("#log >> text=installed without Maven")
        # The wall has no tables, so nothing there may name one.
        assert "table" not in await page.inner_text("#main")


_BANNER_SAYS: Final = """
    (said) => {
        const banner = document.getElementById("banner").cloneNode(true);
        banner.querySelector(".guide")?.remove();
        return banner.textContent.trim() === said;
    }
"""
_UNREAD: Final = {
    "": "",
    "heartbeat_at = $1, end_seen_at = $1 where partition = 1": (
        "Nobody has read 1 of 2 partitions since {at}. What came later isn't here."
    ),
    "heartbeat_at = $1, end_seen_at = $1": (
        "Nobody has read the log since {at}. What came later isn't here."
    ),
    "stopped = true, behind_since = $1 where partition = 1": (
        "The normalizer has left 1 of 2 partitions unread, and its log says why. "
        "What came after {at} isn't here."
    ),
    "end_seen_at = $1": (
        "The broker hasn't answered the normalizer since {at}. What came later isn't here."
    ),
    "log_end = 9, behind_since = $1": (
        "The views are 3 h 00 min behind the log. What came after {at} isn't here."
    ),
    "log_end = 9, behind_since = heartbeat_at - interval '30 s'": "",
    "partition_count = 3": (
        "Nobody has read 1 of 3 partitions yet. Not all that was sent is here."
    ),
}
"""Faults of the heartbeats, and the text of every screen then."""
_SCREENS: Final = (
    *("", "view=wall", "show=executions", "show=calls", "show=errors", "show=error&error_class=x"),
    *("show=quarantine", "show=playbooks", "show=retries", "show=workers", "show=producers"),
    *("show=execution&execution=1", "show=record&record=1"),
)


@pytest.mark.parametrize("happened", _UNREAD)
async def test_every_screen_says_what_was_not_read(
    browser: Browser, database: Database, happened: str
) -> None:
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
    day = "" if at.date() == datetime.now(UTC).date() else f"{at:%d %b} "
    said = _UNREAD[happened].format(at=f"{day}{at:%H:%M:%S}")
    async with connected(database) as connection:
        later = datetime.now(UTC) + timedelta(hours=1)
        for partition in range(2):
            place = {"partition": partition, "next_offset": 5}
            read = {"last_recorded_ms": _ms(at), "records": 5, "committed_at": at, "claimed_at": at}
            await insert_row(connection, "normalizer.source_positions", **place, **read)
            seen = {"log_end": 5, "end_seen_at": later, "heartbeat_at": later}
            await insert_row(connection, "normalizer.source_heartbeats", **place, **seen)
        if happened:
            change = happened.replace("$1", f"'{at.isoformat()}'::timestamptz")
            await connection.execute(f"update normalizer.source_heartbeats set {change}")
    async with (
        serving(database.url) as url,
        looking(browser, url, visit=False, answers_fail=True) as page,
    ):
        for screen in _SCREENS:
            await page.goto(f"{url}/?{screen}")
            await page.wait_for_selector("body:not([data-log=''])")
            # A screen's own code arrives later, and draws the banner again.
            await page.wait_for_function(_BANNER_SAYS, arg=said)

            live = page.locator("#pause")
            state = "Not live" if said else "Live"
            assert await live.text_content() == state, screen
            assert await live.get_attribute("title") == "Pause", screen
            assert await live.get_attribute("aria-label") == f"{state}. Pause", screen


async def test_the_state_of_the_log_is_said_in_a_word(browser: Browser, platform: Platform) -> None:
    state = ""

    def as_if(content: dict[str, Any], _: str) -> None:
        for row in content["rows"]:
            row["state"] = state

    async with looking(browser, platform.url, visit=False) as page:
        await change_answers(page, "**/api/v1/freshness", as_if)
        for state, word in (
            ("dead", "No reader"),
            ("caught_up", "Caught up"),
            ("broker_away", "Broker away"),
        ):
            await page.goto(platform.url)

            await page.wait_for_selector(f".headline a[href='#freshness'] b >> text={word}")
            await fully_drawn(page)
            # The waiting records are unknown while nobody reads.
            waiting = {row[3] for row in await cells(page, "#freshness")}
            assert waiting
            assert all(one[0].isdigit() for one in waiting) == (state != "dead")
