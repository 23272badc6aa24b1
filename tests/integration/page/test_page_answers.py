"""An execution says why it is stuck, and links to its rejected records."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

import pytest
from playwright.async_api import Browser

from normalizer import Envelope, Normalizer, RawRecord
from tests.integration.page.browsing import (
    CUT_OFF,
    DESK,
    PHONE,
    cells,
    change_answers,
    fully_drawn,
    looking,
    serving,
    show,
)
from tests.integration.page.platform import Platform
from tests.integration.page.test_every_screen import OVERPRINTED
from tests.support import view_rows
from tests.support.stack import Database, Stack
from tests.support.table_rows import connected, execute, insert_row
from tests.support.view_rows import event

STUCK: Final = "333895119667515392"
HISTORY: Final = """
    insert into normalizer.source_positions
           (topic, incarnation, partition, cluster_id, owner, start_offset, next_offset, records,
            last_recorded_ms)
    values ('noetl.events', 0, 0, 'c', 'o', 0, 9, 9, extract(epoch from now()) * 1000);

    insert into normalizer.events
           (event_id, execution_id, event_type, step, status, attempts, created_at, worker_id,
            command_id, context, source_topic, source_partition, source_offset)
    select event_id, 333895119667515392, event_type, step, status, 0,
           now() - make_interval(secs => ago_s), worker_id, command_id, context::jsonb,
           'noetl.events', 0, event_id
    from   (
               values (1, 'playbook.started', 'flow', 'STARTED', 500, null, null,
                       '{"path": "team/flow", "version": "3"}'),
                      (2, 'command.issued', 'start', 'PENDING', 490, null,
                       '333895119667515392:start', '{}'),
                      (3, 'command.claimed', 'start', 'RUNNING', 405, 'worker-4',
                       '333895119667515392:start', '{}')
           ) as one (event_id, event_type, step, status, ago_s, worker_id, command_id, context);

    insert into normalizer.quarantine
           (reason, detail, shape, normalizer_version, source_topic, source_incarnation,
            source_partition, source_offset, source_index, value_bytes, batch_id, execution_id)
    values ('invalid_json', 'no JSON', '', 1, 'noetl.events', 0, 0, 8, 0, 7, 1, 333895119667515392);
"""


@pytest.fixture(scope="module")
async def stuck(stack: Stack) -> AsyncIterator[str]:
    """The address of a page over one stuck execution, read only."""
    async with (await stack.cluster("current")).database() as database:
        await execute(database, HISTORY)
        async with serving(database.url) as url:
            yield url


async def test_execution_and_its_rejected_record_link_to_each_other(
    browser: Browser, database: Database
) -> None:
    await execute(database, HISTORY)
    address = f"/?show=execution&execution={STUCK}"

    async with serving(database.url) as url, looking(browser, f"{url}{address}") as page:
        assert "1 record of this execution was rejected" in await page.inner_text("#execution")
        await page.click("#rejected tbody a")
        await page.wait_for_selector("h1 >> text=Rejected record")
        await fully_drawn(page)
        await page.click(f"#reason a:text-is('{STUCK}')")
        await page.wait_for_selector(f"h1 >> text=Execution {STUCK}")

        # Also where nothing but the rejected record names the execution.
        await execute(database, "update normalizer.quarantine set execution_id = 77")
        await page.fill("#search", "77")
        await page.press("#search", "Enter")
        await page.wait_for_selector("h1 >> text=Rejected record")


@pytest.mark.parametrize(
    ("pasted", "title", "panel"),
    [
        ("wall", "Wall: last 24 hours", "body[data-view=wall]"),
        ("too_large", "Quarantine", "#records"),
        ("queue waits", "Workers and queues", "#queue"),
        ("drift", "Producers", "#drift"),
    ],
)
async def test_enter_opens_what_was_pasted(
    browser: Browser, stuck: str, pasted: str, title: str, panel: str
) -> None:
    async with looking(browser, stuck) as page:
        await page.keyboard.press("/")
        await page.keyboard.insert_text(pasted)
        await page.keyboard.press("Enter")
        await page.wait_for_function(
            "([title]) => document.querySelector('h1').textContent === title", arg=[title]
        )
        await fully_drawn(page)
        assert await page.locator(panel).count() == 1


@pytest.mark.parametrize("screen", ["", "?show=calls"])
@pytest.mark.parametrize("by", ["click", "Enter"])
@pytest.mark.parametrize(("words", "panel"), [("stuck", "stuck"), ("retry storm", "storms")])
async def test_panel_that_search_lists_is_scrolled_to_and_has_the_focus(
    browser: Browser, stuck: str, screen: str, by: str, words: str, panel: str
) -> None:
    async with looking(browser, f"{stuck}/{screen}") as page:
        page.set_default_timeout(15_000)
        await fully_drawn(page)
        await page.fill("#search", words)
        await page.wait_for_selector("#found [data-found]")
        if by == "click":
            await page.click("#found [data-found='0']")
        else:
            await page.press("#search", "Enter")

        await page.wait_for_url(f"**/#{panel}")
        await fully_drawn(page)
        await page.wait_for_function(
            """([id]) => {
                const one = document.getElementById(id);
                const { top, bottom } = one.getBoundingClientRect();
                return scrollY > 0 && top >= 0 && bottom <= innerHeight + 1
                    && document.activeElement === one;
            }""",
            arg=[panel],
        )


async def test_any_panel_is_within_ten_keys_and_back_returns_the_focus(
    browser: Browser, stuck: str
) -> None:
    async with looking(browser, stuck) as page:
        panels = await page.locator("#main .panel").evaluate_all(
            "(all) => all.map((one) => one.id)"
        )
        for key in ("j", "k"):
            await page.evaluate("document.activeElement.blur()")
            for expected in (panels if key == "j" else panels[::-1])[: (len(panels) + 1) // 2]:
                await page.keyboard.press(key)
                assert await page.evaluate("document.activeElement.id") == expected
        assert len(panels) <= 20

        # A panel begins with a link that skips it. The last one leaves its #foot in the address.
        for panel, after in zip(panels, [*panels[1:], "foot"], strict=True):
            await page.focus(f"#{panel}")
            await page.keyboard.press("Tab")
            assert (await page.evaluate("document.activeElement.innerText")).startswith("Skip ")
            await page.keyboard.press("Enter")
            await page.keyboard.press("Tab")
            assert await page.evaluate("(id) => document.activeElement.closest(`#${id}`)", after)

        await page.keyboard.press("?")
        assert "next panel" in await page.inner_text("dialog[open]")
        await page.keyboard.press("Escape")

        link = page.locator("#stuck tbody a").first
        await link.focus()
        await page.keyboard.press("Enter")
        await page.wait_for_selector("h1 >> text=Execution")
        await fully_drawn(page)
        await page.go_back()
        await page.wait_for_function(
            "(text) => document.activeElement.textContent === text", arg=STUCK
        )


async def test_empty_lists_blame_no_filter_that_nobody_set(
    browser: Browser, database: Database
) -> None:
    async with serving(database.url) as url, looking(browser, url) as page:
        for listed in ("calls", "executions"):
            await show(page, f"{url}/?show={listed}")
            assert "filter" not in await page.inner_text("#main")
            await show(page, f"{url}/?show={listed}&playbook=none")
            assert "with these filters" in await page.inner_text("#main")


async def test_first_run_says_how_to_send_one_event(browser: Browser, database: Database) -> None:
    async with connected(database) as connection:
        await insert_row(connection, "normalizer.source_positions")

    async with serving(database.url) as url, looking(browser, url) as page:
        text = await page.locator(".first-run pre").last.inner_text()
        assert "--topic noetl.events" in text
        sent = text.split("'")[1]
        (outcome,) = Normalizer().normalize(
            RawRecord(sent.encode(), topic="noetl.events", recorded_ms=1)
        )
        assert isinstance(outcome, Envelope)


async def test_playbook_with_too_many_calls_says_since_when_they_are_counted(
    browser: Browser, stuck: str
) -> None:
    def cut(content: dict[str, Any], _: str) -> None:
        content |= {"truncated": True, "since": "2019-11-28T14:03:07Z"}

    async with looking(browser, stuck, visit=False) as page:
        for path in ("versions-of-playbook", "errors-by-version", "steps-by-version"):
            await change_answers(page, f"**/api/v1/{path}?*", cut)
        await show(page, f"{stuck}/?show=playbooks&playbook=team/flow")

        since = "28 Nov 2019 14:03:07"
        for panel in ("#versions", "#version-errors", "#version-steps"):
            said = await page.inner_text(f"{panel} header")
            assert f"too many calls, so only executions since {since} are counted" in said
        said = await page.inner_text("#version-errors .body")
        assert said == f"No call of this playbook failed since {since}."


@pytest.mark.parametrize(
    ("screen", "link", "title"),
    [
        (f"show=execution&execution={STUCK}", "#execution >> text=team/flow", "Playbook team/flow"),
        (
            "show=executions&playbook=team/flow",
            "#executions tbody >> text=team/flow",
            "Playbook team/flow",
        ),
        ("show=calls", "#calls li >> text=start", f"Execution {STUCK}"),
    ],
)
async def test_name_leads_to_what_it_names(
    browser: Browser, stuck: str, screen: str, link: str, title: str
) -> None:
    async with looking(browser, f"{stuck}/?{screen}") as page:
        await page.click(link)
        await page.wait_for_function(
            "([title]) => document.querySelector('h1').textContent === title", arg=[title]
        )


@pytest.mark.parametrize("silent", [False, True])
async def test_parent_is_stuck_if_its_child_is(
    browser: Browser, database: Database, *, silent: bool
) -> None:
    await execute(database, HISTORY.replace("'command.", "'step."))
    child = event(
        event_id=9, execution_id=77, parent_execution_id=int(STUCK), event_type="playbook.started",
        created_at=datetime.now(UTC) - timedelta(minutes=6 * silent), source_topic="noetl.events",
        context={"path": "team/child"},
    )  # fmt: skip
    await view_rows.add(database, child)
    async with serving(database.url) as url, looking(browser, url) as page:
        if not silent:
            assert "No execution is stuck." in await page.inner_text("#stuck")
            return
        assert "No call is open, and its child 77 is stuck too" in await page.inner_text("#stuck")
        await page.click("#stuck .why >> text=77")
        await page.wait_for_selector("h1 >> text=Execution 77")


async def test_timeline_of_a_running_execution_ends_now(browser: Browser, stuck: str) -> None:
    async with looking(browser, f"{stuck}/?show=execution&execution={STUCK}") as page:
        await page.wait_for_selector(".timeline .claim")
        # The claim is 405 s ago, and the first event 500 s.
        open_bar = "(bar) => bar.getBoundingClientRect().width / bar.parentElement.clientWidth"
        assert await page.locator(".timeline .claim").evaluate(open_bar) > 0.7

        await page.click(".zooms >> text=Events")
        await page.wait_for_url("**zoom=*")
        assert await page.locator(".timeline .claim").evaluate(open_bar) < 0.1


async def test_ticks_of_a_timeline_keep_clear_of_its_ends(browser: Browser, stuck: str) -> None:
    address = f"{stuck}/?show=execution&execution={STUCK}"
    async with looking(browser, address) as page:
        begin = int(await page.get_attribute(".timeline", "data-from") or "")
        for width in (768, 1180, 1440):
            await page.set_viewport_size({"width": width, "height": 900})
            for seconds in (21, 24, 25, 28, 70):
                await show(page, f"{address}&zoom={begin}~{begin + seconds * 1000}")
                assert await page.evaluate(OVERPRINTED) == [], (width, seconds)
                if width > 768:
                    assert await page.locator(".scale .ticks i").count() > 2, seconds


async def test_row_of_the_open_event_is_in_view(browser: Browser, database: Database) -> None:
    await execute(database, HISTORY)
    now = datetime.now(UTC)
    rows = [
        event(event_id=n, execution_id=int(STUCK), created_at=now - timedelta(seconds=400 - n))
        for n in range(10, 201)
    ]
    rows[-1] |= {"status": "HANDLED_BY_RULE_ENGINE"}
    await view_rows.add(database, *rows)
    async with serving(database.url) as url, looking(browser, url, visit=False) as page:
        opened = f"{url}/?show=execution&execution={STUCK}"
        for chosen in ("28", "120"):
            await show(page, f"{opened}&event={chosen}")
            await page.wait_for_selector("#as-sent")
            await page.wait_for_function(_IN_ITS_LIST)
            assert await page.evaluate("scrollY") == 0, chosen

        # The list ends below the window. The page stays at its top even so.
        await show(page, f"{opened}&event=200&command=c")
        await page.wait_for_selector("#as-sent")
        assert await page.evaluate("scrollY") == 0
        assert await page.evaluate(CUT_OFF, ".events .status") == []
        await show(page, f"{opened}&event=120")

        await page.click(".mark[data-href*='event=3&'], .mark[data-href$='event=3']", force=True)
        await page.wait_for_url("**event=3*")
        await page.wait_for_selector(".events [aria-current] >> text=command.claimed")
        assert await page.evaluate(_IN_ITS_LIST)


_IN_ITS_LIST: Final = """
    () => {
        const list = document.querySelector(".events").getBoundingClientRect();
        const row = document.querySelector(".events [aria-current]").getBoundingClientRect();
        const bottom = Math.min(list.bottom, innerHeight);
        return row.top >= list.top && row.bottom <= bottom + 1 && list.height < innerHeight;
    }
"""


async def test_execution_opened_from_an_error_starts_at_its_top(
    browser: Browser, database: Database
) -> None:
    now = datetime.now(UTC)
    rows = [
        event(
            event_id=n, execution_id=n // 200, created_at=now - timedelta(seconds=9_000 - n),
            event_type="call.done", step="load", status="FAILED", error="disk full",
            command_id=f"{n // 200}:load:{n}", source_topic="noetl.events",
        )
        for n in range(200, 600)
    ]  # fmt: skip
    await execute(database, HISTORY)
    await view_rows.add(database, *rows)
    async with (
        serving(database.url) as url,
        looking(browser, f"{url}/?show=error&error_class=disk+full&last=6h") as page,
    ):
        link = page.locator("#calls .error a").nth(20)
        await link.scroll_into_view_if_needed()
        before = await page.evaluate("scrollY")
        assert before > 0

        await link.click()
        await page.wait_for_selector("#as-sent")
        await fully_drawn(page)
        assert await page.evaluate("scrollY") == 0

        await page.go_back()
        await page.wait_for_selector("h1 >> text=disk full")
        await fully_drawn(page)
        await page.wait_for_function("([before]) => Math.abs(scrollY - before) < 5", arg=[before])


async def test_back_leads_to_where_the_reader_came_from(browser: Browser, stuck: str) -> None:
    async with looking(browser, f"{stuck}/?last=6h") as page:
        await page.click("#stuck tbody th a")
        await page.wait_for_selector("#as-sent")
        await page.click(".events a >> nth=0")
        await page.wait_for_url("**event=1")
        assert await page.inner_text(".back") == "\N{LEFTWARDS ARROW} Dashboard"
        await page.click(".back")
        await page.wait_for_url(f"{stuck}/?last=6h")

        await page.goto(f"{stuck}/?show=execution&execution={STUCK}")
        assert await page.inner_text(".back") == "\N{LEFTWARDS ARROW} Executions"
        await page.click(".back")
        await page.wait_for_url("**show=executions")


async def test_hour_with_the_most_failures_leads_to_its_minutes(
    browser: Browser, platform: Platform
) -> None:
    async with looking(browser, platform.url) as page:
        for panel, more in (("rate", ""), ("group", "&show=error")):
            kind = await platform.connection.fetchval(
                "select error_class from projector.failed_calls "
                "where finished_at >= now() - interval '20 hours' group by 1 "
                "order by count(*) desc limit 1"
            )
            await show(
                page, f"{platform.url}/?error_class={quote(kind)}{more}" if more else platform.url
            )
            assert "per hour" in await page.inner_text(f"#{panel} .legend")
            said = await page.inner_text(f"#{panel} .most")
            await page.click(f"#{panel} .most a")
            await page.wait_for_url("**since=*until=*")
            await fully_drawn(page)
            assert "per hour" not in await page.inner_text(f"#{panel} .legend")
            assert re.match(r"Most failed calls: [\d,]+, \d+ \w+ (\d\d):00.{3,12}:00$", said), said


@pytest.mark.parametrize("versions", [5, 30])
async def test_many_versions_draw_no_lines_through_the_figures(
    browser: Browser, platform: Platform, versions: int
) -> None:
    def begun(content: dict[str, Any], _: str) -> None:
        now = datetime.now(UTC)
        begins = {n: (now - timedelta(minutes=n)).isoformat() for n in range(5, 5 + versions)}
        content["rows"] = [
            {"playbook": "p", "version": str(n), "first_at": at} for n, at in begins.items()
        ]

    async with looking(browser, platform.url, visit=False) as page:
        await change_answers(page, "**/api/v1/deployments?*", begun)
        await show(page, f"{platform.url}/?last=1h")
        names = await page.inner_text("#rate .marks")
        assert f"All {versions} new versions" in names
        assert names.count(", ") == 1
        dashes = await page.evaluate(_DASHES)
        # A figure may have that colour too, but not at every mark.
        assert (min(dashes) > 0) == (versions == 5), dashes

        await page.click(f"#rate .marks >> text=All {versions} new versions")
        await fully_drawn(page)
        rows = [row[:3] for row in await cells(page, "#versions")][:versions]
        assert [row[:2] for row in rows] == [["p", str(n)] for n in range(5, 5 + versions)]
        assert all(re.fullmatch(r"(\d\d \w+ )?\d\d:\d\d:\d\d new", row[2]) for row in rows)


async def test_a_mark_of_a_chart_names_what_began_and_when(
    browser: Browser, platform: Platform
) -> None:
    now = datetime.now(UTC)
    at = now - timedelta(minutes=20)

    def begun(content: dict[str, Any], _: str) -> None:
        content["rows"] = [
            {"playbook": "a/quite/long/path/of/a/playbook", "version": "7", "first_at": one}
            for one in (at.isoformat(), (now - timedelta(hours=3)).isoformat())
        ]

    for size in (DESK, PHONE):
        async with looking(browser, platform.url, size=size, visit=False) as page:
            await change_answers(page, "**/api/v1/deployments?*", begun)
            await show(page, f"{platform.url}/?last=1h")
            named = f"a/quite/long/path/of/a/playbook v7 began {at:%H:%M:%S}"
            tip = page.locator("#chart-rate .tip")
            await page.locator("#chart-rate").scroll_into_view_if_needed()
            x, y = await page.evaluate(_TRIANGLE)
            await page.mouse.move(x + 3, y - 3)
            assert named in await tip.inner_text()
            assert await tip.evaluate(_ON_SCREEN)
            await page.mouse.move(x - 40, y - 3)
            await tip.wait_for(state="detached")
            await page.focus("#rate .marks a")
            assert named in await tip.inner_text()
            # What began before the window has no mark.
            assert await page.locator("#rate .marks a").count() == 1


_ON_SCREEN: Final = """
    (tip) => {
        const { left, right } = tip.getBoundingClientRect();
        return left >= 0 && right <= innerWidth;
    }
"""
_TRIANGLE: Final = """
    async () => {
        const { plot, spec } = await pageChart("chart-rate");
        const { left, top } = plot.over.getBoundingClientRect();
        return [left + plot.valToPos(spec.marks[0].at, "x"), top];
    }
"""


_DASHES: Final = """
    async () => {
        const { plot, spec } = await pageChart("chart-rate");
        const { copy, colour: ink } = copyOfChart(plot.ctx.canvas, "--ink-2");
        return spec.marks.map(({ at }) => {
            const x = Math.floor(plot.valToPos(at, "x", true));
            const height = Math.round(plot.bbox.height / 2);
            const { data } = copy.getImageData(x, plot.bbox.top + 20, 1, height);
            const isInk = (y) => [0, 1, 2].every((n) => Math.abs(data[4 * y + n] - ink[n]) < 12);
            return [...Array(height).keys()].filter(isInk).length;
        });
    }
"""
"""How many pixels below each mark have the colour of its line."""


async def test_list_under_the_pointer_keeps_its_order(browser: Browser, stuck: str) -> None:
    worst = ["charge", "ship"]

    def changing(content: dict[str, Any], _: str) -> None:
        rows = [
            {"step": step, "calls": 100, "succeeded": n + 50, "success_rate": n / 100 + 0.5}
            for n, step in enumerate(worst)
        ]
        young = {"step": "young", "calls": 15, "succeeded": 0, "success_rate": 0}
        content["rows"] = [*rows, young]

    async with looking(browser, stuck, visit=False) as page:
        page.set_default_timeout(20_000)
        await change_answers(page, "**/api/v1/first-attempt-success?*", changing)
        await show(page, f"{stuck}/?last=15m")
        order = page.locator("#first .what")
        assert await order.all_inner_texts() == ["young", "charge", "ship"]

        await order.first.hover()
        worst.reverse()
        await page.wait_for_selector("#first li:nth-child(2) b >> text=51")
        assert await order.all_inner_texts() == ["young", "charge", "ship"]

        await page.mouse.move(0, 0)
        await page.wait_for_selector("#first li:nth-child(2) .what >> text=ship")


async def test_stuck_executions_say_how_long_and_the_longest_is_first(
    browser: Browser, database: Database
) -> None:
    await execute(database, HISTORY)
    silent_since = datetime.now(UTC) - timedelta(minutes=72)
    rows = [
        event(
            event_id=20 + n, execution_id=70 + n, context={"path": "team/child"},
            event_type="step.enter" if n == 1 else "playbook.started",
            created_at=silent_since - timedelta(seconds=n), source_topic="noetl.events",
        )
        for n in range(1, 13)
    ]  # fmt: skip
    await view_rows.add(database, *rows)
    async with serving(database.url) as url, looking(browser, url) as page:
        page.set_default_timeout(20_000)
        await fully_drawn(page)
        said = " ".join((await page.inner_text("#stuck .body > p >> nth=0")).split())
        assert said.startswith("12 executions: 1 silent for 6 min, 11"), said
        assert "11 for 1 h 12 min" in said
        tile = " ".join((await page.inner_text(".headline a[href='#stuck']")).split())
        assert "silent for 6 min to 1 h 12 min" in tile
        assert "82" in await page.inner_text("#stuck tbody tr:first-child")

        await page.click("#stuck .strays a >> text=1 execution")
        await page.wait_for_selector("tr:has-text('no start event') >> text=71")
        assert await page.locator("#executions tbody tr").count() == 1
        assert await page.inner_text("#executions .counted") == (
            "1 execution without a start event. The dashboard counts those with one: 12"
        )

        await page.click("text=All stuck executions")
        await page.wait_for_selector("#executions tbody tr:first-child >> text=82")
        assert await page.locator("#executions tbody tr").count() == 13
        assert await page.inner_text("#executions .counted") == (
            "13 executions: 12 with a start event, as on the dashboard, and 1 without one, "
            "which the dashboard doesn't count"
        )

        await page.click("#executions .counted a >> text=12 with a start event")
        await page.wait_for_selector("#executions .counted >> text=1 without one isn't listed")
        assert await page.locator("#executions tbody tr").count() == 12


async def test_stuck_executions_are_counted_by_reason_and_filtered_by_it(
    browser: Browser, database: Database
) -> None:
    await execute(database, HISTORY)
    silent_since = datetime.now(UTC) - timedelta(minutes=72)
    rows = [
        event(
            event_id=20 + n, execution_id=70 + n // 2, step="ship", command_id=f"{n // 2}:ship",
            event_type="call.done" if n % 2 else "playbook.started", status="COMPLETED",
            created_at=silent_since + timedelta(seconds=n), source_topic="noetl.events",
        )
        for n in range(6)
    ]  # fmt: skip
    await view_rows.add(database, *rows)
    reasons = (
        "3 without an open call and without an end event, "
        "1 whose call was claimed and never started"
    )
    listed_at = "/?show=executions&status=STUCK&begun=true"
    async with serving(database.url) as url, looking(browser, f"{url}{listed_at}") as page:
        page.set_default_timeout(20_000)
        assert await page.inner_text("#executions [data-key=reasons]") == reasons

        await page.click("#executions [data-key=reasons] a >> nth=0")
        await page.wait_for_selector("#executions >> text=All reasons")
        assert await page.inner_text("#executions [data-key=reasons]") == f"{reasons}. All reasons"
        listed = await page.locator("#executions .why").all_inner_texts()
        assert listed == 3 * [
            "No call is open, and no end event came. Its last event is call.done of ship"
        ]

        await page.click("#executions >> text=All reasons")
        await page.wait_for_selector("#executions tbody tr:nth-child(4)")


@pytest.mark.parametrize(
    ("in_key", "source"), [(True, "from the record's key"), (False, "from its value")]
)
async def test_rejected_record_says_where_its_execution_was_read(
    browser: Browser, database: Database, *, in_key: bool, source: str
) -> None:
    async with connected(database) as connection:
        await connection.execute(HISTORY)
        (entry,) = await connection.fetchrow(
            "update normalizer.quarantine set execution_in_key = $1 returning quarantine_id", in_key
        )
    address = f"/?show=record&record={entry}"
    async with serving(database.url) as url, looking(browser, f"{url}{address}") as page:
        said = await page.inner_text("#reason [data-key=fact-Execution]")

    assert " ".join(said.split()) == f"Execution {STUCK} {source}"


async def test_record_that_lacks_its_execution_is_redriven_with_one(
    browser: Browser, database: Database
) -> None:
    async with connected(database) as connection:
        await connection.execute(HISTORY)
        (entry,) = await connection.fetchrow(
            "update normalizer.quarantine set reason = 'missing_execution_id', execution_id = null "
            "returning quarantine_id"
        )
    address = f"/?show=record&record={entry}"
    async with serving(database.url) as url, looking(browser, f"{url}{address}") as page:
        commands = await page.inner_text("#commands")
        assert f"redrive --id {entry} --set execution_id=ID --dry-run" in commands
        assert f"redrive --id {entry}\n" not in commands
        assert "lacks its execution's id" in await page.inner_text("#tries")
