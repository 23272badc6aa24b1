"""The screens behind the dashboard, the wall, search, and windows by hand."""

import asyncio
import re
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.async_api import Browser, Page, Response, Route

from projector.api.endpoints import ENDPOINTS
from tests.integration.page.browsing import cells, change_answers, fully_drawn, looking, show, texts
from tests.integration.page.platform import Platform
from tests.integration.page.test_panels import error_text

WALL: Final = (1920, 1080)
ELSEWHERE: Final = {
    *("calls", "executions", "search", "error-group", "quarantine-records"),
    # The matrix and the error groups answer them in more detail.
    *("call-outcomes-by-attempt", "failures-by-error"),
}
"""Endpoints of a list, a search or one object, and those that another one contains."""


async def test_from_the_wall_to_a_failing_event_as_it_was_sent_in_three_clicks(
    browser: Browser, platform: Platform
) -> None:
    async with looking(browser, f"{platform.url}/?view=wall", size=WALL) as page:
        figures = await page.evaluate(
            """() => [...document.querySelectorAll(".big b")]
                .map((one) => parseFloat(getComputedStyle(one).fontSize))"""
        )
        assert len(figures) == 6
        assert min(figures) >= 64
        assert await page.evaluate("document.documentElement.scrollHeight") <= WALL[1]
        assert await page.evaluate("document.documentElement.scrollWidth") <= WALL[0]
        assert await page.locator(".chart canvas").count() == 6
        for unit in await page.locator(".wall .legend").all_inner_texts():
            assert re.search(r"\sper (minute|hour)(, last 2 h)?(, pale: so far)?$", unit), unit

        assert re.fullmatch(r"refreshed \d\d:\d\d:\d\d", await page.inner_text(".title time"))

        await page.click("#first-attempt a.big")
        call = page.locator(".calls li", has=page.locator(".error:not(.none)")).first
        error = await call.locator(".error").inner_text()
        await call.locator("a.id").click()
        await page.wait_for_selector("#as-sent .json")

        assert error in await page.inner_text("#event .error")


async def test_the_wall_says_its_filters_and_what_is_not_filtered(
    browser: Browser, platform: Platform
) -> None:
    async with looking(browser, f"{platform.url}/?step=fetch", size=WALL) as page:
        await page.click("#wall")
        await page.wait_for_selector("#storm[aria-busy=false]")

        assert await page.inner_text("h1") == "Wall: last 24 hours · step fetch"
        said = await texts(page, ".wall .panel", "header p")

    assert [words for (words,) in said] == [
        *("", "not filtered by step", "", "", "not filtered by step", "not filtered by step")
    ]


async def test_the_wall_gives_the_change_of_a_share_in_points(
    browser: Browser, platform: Platform
) -> None:
    def better_than_before(content: dict[str, Any], _: str) -> None:
        for row in content["rows"]:
            if row["tile"] == "first_attempt_success":
                row["change"] = 0.05

    def stored_for_long(content: dict[str, Any], _: str) -> None:
        content["rows"][0]["oldest_hour"] = "2020-01-01T00:00:00Z"

    async with looking(browser, f"{platform.url}/?view=wall", size=WALL, visit=False) as page:
        await change_answers(page, "**/tiles?*", better_than_before)
        await change_answers(page, "**/choices?*", stored_for_long)
        await page.goto(f"{platform.url}/?view=wall")
        await fully_drawn(page)

        assert "+5.0 points vs before" in await page.inner_text("#first-attempt .big")


async def test_the_answer_for_what_was_typed_before_is_not_followed(
    browser: Browser, platform: Platform
) -> None:
    held: asyncio.Future[Route] = asyncio.get_running_loop().create_future()

    async def search(route: Route) -> None:
        word = parse_qs(urlsplit(route.request.url).query)["q"][0]
        if word == "fet":
            held.set_result(route)
        else:
            await route.fulfill(json=_found(word))

    async with looking(browser, platform.url) as page:
        await page.route("**/api/v1/search?*", search)
        await page.fill("#search", "fet")
        first = await held
        await page.fill("#search", "fetch_orders")
        await first.fulfill(json=_found("fetters"))
        await page.keyboard.press("Enter")
        await page.wait_for_url("**show=calls")
        await page.unroute_all(behavior="ignoreErrors")

        assert "step=fetch_orders" in page.url


async def test_a_hit_is_chosen_by_keyboard_and_a_pasted_id_leads_to_the_first_error(
    browser: Browser, platform: Platform
) -> None:
    step = await platform.connection.fetchval(
        "select step from projector.calls where step <> '' group by step order by count(*) desc"
    )
    execution = await platform.connection.fetchval(
        "select max(execution_id) from projector.calls where error <> '' and status <> 'COMPLETED'"
    )
    async with looking(browser, platform.url) as page:
        # The list follows the keys, and closes behind them.
        await page.route(
            "**/api/v1/search?*",
            lambda route: route.fulfill(
                json=_found(*(f"step-{n}" for n in range(40))) | {"more": ["error", "step"]}
            ),
        )
        # No panel of the page has this in its name.
        await page.fill("#search", "zzz")
        await page.wait_for_selector("#found-39")
        last = await page.locator("#found li").last.inner_text()
        assert last == "More errors and steps match. Type more to find them."
        for _ in range(38):
            await page.keyboard.press("ArrowDown")
        assert await page.evaluate(_IN_SIGHT) == "step-38"
        await page.keyboard.press("Tab")
        assert await page.is_hidden("#found")
        await page.unroute_all(behavior="ignoreErrors")

        await page.fill("#search", step)
        hit = page.locator("#found li", has_text="Step").filter(has_text=step).first
        await hit.wait_for()
        await page.keyboard.press("ArrowDown")
        assert await page.locator("#found li[aria-selected=true]").count() == 1
        await hit.click()
        await page.wait_for_selector(".calls li")
        assert re.search(r"[?&]step=", page.url)

        await page.keyboard.press("/")
        await page.keyboard.insert_text(str(execution))
        await page.keyboard.press("Enter")
        await page.wait_for_selector("#event .error")
        assert f"execution={execution}" in page.url
        assert await page.input_value("#search") == ""


_IN_SIGHT: Final = """
    () => {
        const chosen = document.querySelector("#found [aria-selected=true]");
        const { left, bottom } = chosen.getBoundingClientRect();
        const seen = document.elementFromPoint(left + 20, bottom - 5)?.closest("li");
        return seen?.querySelector("b").textContent;
    }
"""


def _found(*steps: str) -> dict[str, Any]:
    rows = [
        {"kind": "step", "label": one, "detail": "calls", "params": {"step": one}} for one in steps
    ]
    return {"rows": rows, "read_at": "2026-07-10T00:00:00Z"}


async def test_steps_that_never_succeeded_come_first(browser: Browser, platform: Platform) -> None:
    row = {"step": "never", "tries": 9, "succeeded": 0, "attempts_per_success": None}
    async with looking(browser, f"{platform.url}/?show=retries", visit=False) as page:
        await change_answers(
            page, "**/api/v1/attempts-per-success?*", lambda content, _: content["rows"].append(row)
        )
        await page.goto(f"{platform.url}/?show=retries")
        await page.wait_for_selector("#per-success tbody tr")
        rows = await cells(page, "#per-success")

    assert rows[0] == ["never", "9", "0", "\N{EN DASH}"]
    assert len(rows) > 1


async def test_an_empty_list_of_playbooks_names_the_days_that_were_counted(
    browser: Browser, platform: Platform
) -> None:
    """The server counts only the last 7 days of a longer window."""

    words = {"7d": "in the last 7 days.", "30d": "in the last 7 days of this window."}
    async with looking(browser, platform.url, visit=False) as page:
        await change_answers(
            page, "**/api/v1/*version*", lambda content, _: content["rows"].clear()
        )
        await change_answers(page, "**/deployments?*", lambda content, _: content["rows"].clear())
        for last, when in words.items():
            for playbook, panel, said in (
                ("", "versions", "No execution began"),
                ("&playbook=p", "versions", "No execution of this playbook began"),
                ("&playbook=p", "version-errors", "No call of this playbook failed"),
            ):
                await page.goto(f"{platform.url}/?show=playbooks&last={last}{playbook}")
                assert await page.inner_text(f"#{panel} .empty:not(.loading)") == f"{said} {when}"


async def test_walk_rejected_records_and_their_commands(
    browser: Browser, platform: Platform
) -> None:
    async with looking(browser, platform.url) as page:
        await page.click("#quarantine li a")
        await page.wait_for_selector("#records tbody tr")
        # No panel here has a filter.
        assert await page.locator("select").count() == 0
        (first, *_) = await cells(page, "#records")
        reason = page.url.partition("reason=")[2].partition("&")[0]
        hint = f"normalizer quarantine redrive --reason {reason} --dry-run"
        assert hint in await page.inner_text("#records")

        await page.click("#records tbody tr:first-child a")
        await page.wait_for_selector("#commands pre")

        assert first[0].split(" ")[0] in await page.inner_text("#reason")
        commands = await page.inner_text("#commands")
        assert "normalizer quarantine redrive" in commands
        assert "--dry-run" in commands
        # Today's rules rejected it, so their answer is known without a dry run.
        assert "that's today's version" in await page.inner_text("#tries")


async def test_error_groups_and_rejected_records_of_a_month_agree_with_sql(
    browser: Browser, platform: Platform
) -> None:
    async with looking(browser, f"{platform.url}/?last=30d&show=errors") as page:
        groups = await cells(page, "#groups")
        rows = await platform.connection.fetch(
            """
            select   error_class, sum(calls)::bigint as n
            from     projector.failures_by_error
            where    hour < now()  -- some calls of a play end after it
            group by error_class
            """
        )
        assert {row[0]: row[2] for row in groups} == {
            await error_text(platform.connection, row["error_class"]): f"{row['n']:,}"
            for row in rows
        }

        await show(page, f"{platform.url}/?last=30d&show=quarantine")
        rejected = await platform.connection.fetchval(
            "select sum(rejected) from projector.quarantine_by_reason"
        )
        shown = await page.locator("#reasons b").all_inner_texts()
        assert sum(int(one.replace(",", "")) for one in shown) == rejected
        # A record is named once, in its own column.
        assert "]@" not in await page.inner_text("#records tbody")
        assert await page.inner_text("#over-time .unit") == "Records per day"
        by_time = await cells(page, "#over-time .figures")
        assert sum(int(row[2].replace(",", "")) for row in by_time) == rejected


def _endpoint(response: Response) -> str:
    return response.url.partition("/api/v1/")[2].partition("?")[0]


async def test_a_window_is_dragged_typed_and_moved(browser: Browser, platform: Platform) -> None:
    async with looking(browser, platform.url) as page:
        box = await page.locator("#chart-outcomes .u-over").bounding_box()
        assert box is not None
        await _drag(
            page, box["x"] + box["width"] * 0.5, box["x"] + box["width"] * 0.7, box["y"] + 20
        )
        await page.wait_for_url("**/?since=*&until=*")

        since = _since(page)
        await page.click("nav.windows a[title='Step back']")
        assert _since(page) < since
        await page.click("nav.windows a[title='Step forward']")
        assert _since(page) == since
        await page.click("#now")
        assert "since" not in page.url

        await page.click(".picker summary")
        await page.fill("#range input[name=from]", "2026-01-02T06:04")
        await page.fill("#range input[name=until]", "2026-01-02T05:00")
        await page.click("#range button")
        assert "since" not in page.url
        await page.fill("#range input[name=from]", "2026-01-02T03:04")
        await page.click("#range button")
        assert "since=2026-01-02T03%3A04%3A00.000Z&until=2026-01-02T05%3A00" in page.url
        await page.wait_for_selector("#matrix >> text=No call finished on 02 Jan 03:04")

        # Text typed for one window isn't there for the next.
        await page.click("nav.windows >> text=24h")
        await page.click(".picker summary")
        assert await page.input_value("#range input[name=until]") == ""
        await page.fill("#range input[name=until]", "2026-01-02T05:00")
        await page.click(".picker summary")
        await page.click(".picker summary")
        assert await page.input_value("#range input[name=until]") == ""

        await page.fill("#range input[name=until]", "2100-01-02T05:00")
        await page.click("#range button")
        await page.wait_for_selector(".picker:not([open])")
        assert _since(page).endswith("%3A00.000Z")


@pytest.mark.parametrize(
    ("since", "until"),
    [
        # Clocks go back from 03:00 to 02:00 at 01:00Z, so 02:30 is there twice.
        ("2026-10-25T00:15:00.000Z", "2026-10-25T00:30:00.000Z"),
        ("2026-10-25T00:30:00.000Z", "2026-10-25T01:30:00.000Z"),
        ("2026-10-25T01:15:00.000Z", "2026-10-25T01:30:00.000Z"),
        # Clocks go on from 02:00 to 03:00 at 01:00Z.
        ("2026-03-29T00:30:00.000Z", "2026-03-29T01:30:00.000Z"),
        ("2026-01-02T03:04:05.678901Z", "2026-01-02T03:04:35Z"),
    ],
)
async def test_the_picker_means_the_window_that_is_shown(
    browser: Browser, platform: Platform, since: str, until: str
) -> None:
    window = urlencode({"since": since, "until": until})
    async with looking(browser, f"{platform.url}/?{window}", zone="Europe/Berlin") as page:
        await page.click(".picker summary")
        await page.click("#range button")
        await page.wait_for_selector(".picker:not([open])")
        assert page.url.endswith(f"/?{window}")

        await page.click(".picker summary")
        await page.fill("#range input[name=until]", "2026-11-01T04:00")
        await page.click("#range button")
        await page.wait_for_selector(".picker:not([open])")
        later = urlencode({"since": since, "until": "2026-11-01T03:00:00.000Z"})
        assert page.url.endswith(f"/?{later}")


async def test_an_hour_that_is_not_there_is_typed_as_the_next_one(
    browser: Browser, platform: Platform
) -> None:
    async with looking(browser, platform.url, zone="Europe/Berlin") as page:
        await page.click(".picker summary")
        await page.fill("#range input[name=from]", "2026-03-29T02:30")
        await page.click("#range button")
        await page.wait_for_selector(".picker:not([open])")

        assert _since(page) == "2026-03-29T01%3A30%3A00.000Z"
        assert await page.input_value("#range input[name=from]") == "2026-03-29T03:30"


def _since(page: Page) -> str:
    found = re.search(r"since=([^&]+)", page.url)
    assert found is not None
    return found[1]


async def _drag(page: Page, start: float, end: float, y: float) -> None:
    await page.mouse.move(start, y)
    await page.mouse.down()
    await page.mouse.move((start + end) / 2, y)
    await page.mouse.move(end, y)
    await page.mouse.up()


async def test_tables_sort_and_are_saved_and_legends_hide(
    browser: Browser, platform: Platform
) -> None:
    async with looking(browser, f"{platform.url}/?show=executions") as page:
        await page.click("#executions thead >> text=Events")
        events = [int(row[6].replace(",", "")) for row in await cells(page, "#executions")]
        assert events == sorted(events, reverse=True)
        assert page.url.endswith("sort=executions%3AEvents%3Adown")

        async with page.expect_download() as started:
            await page.click("#executions button[data-as=csv]")
        saved = (await (await started.value).path()).read_text().splitlines()
        assert saved[0].startswith("Execution,Status,Playbook,Version,Begun,Took,Events")
        assert [int(line.split(",")[6]) for line in saved[1:]] == events

        await page.click("#executions thead >> text=Events")
        assert page.url.endswith("sort=executions%3AEvents%3Aup")
        rows = await cells(page, "#executions")
        assert [int(row[6].replace(",", "")) for row in rows] == sorted(events)

        await show(page, platform.url)
        await page.click("#outcomes .legend >> text=completed")
        drawn = await page.evaluate(
            """async () => {
                const { spec } = await pageChart("chart-outcomes");
                return spec.traces.map((one) => one.name);
            }"""
        )
        assert drawn == ["failed", "cancelled"]
        assert "hide=outcomes.completed" in page.url


async def test_a_bar_leads_to_the_executions_that_ended_in_it(
    browser: Browser, platform: Platform
) -> None:
    async with looking(browser, f"{platform.url}/?last=7d") as page:
        await page.click("#outcomes .figures summary")
        rows = await cells(page, "#outcomes .figures")
        # The oldest hour in which one ended: that in which the traffic begins may have no end, and
        # the newest more than are listed.
        at, completed, failed, cancelled, _ = next(
            row for row in reversed(rows) if row[1:4] != ["0", "0", "0"]
        )
        await page.click(f"#outcomes .figures >> text={at}")
        await page.wait_for_selector("#executions >> text=by their end")
        await fully_drawn(page)
        statuses = [row[1] for row in await cells(page, "#executions")]

    assert 0 < len(statuses) <= 50
    of = {"COMPLETED": completed, "FAILED": failed, "CANCELLED": cancelled}
    for status, shown in of.items():
        assert sum(status in one for one in statuses) == int(shown.replace(",", "")), statuses


async def test_the_longest_axis_ends_now_ratios_may_be_above_one_and_no_text_is_a_formula(
    browser: Browser, platform: Platform
) -> None:
    async with looking(browser, platform.url) as page:
        bins = await page.evaluate(_LONGEST_AXIS)
        assert bins == {"number": 6_000, "last": "2026-07-09T00:00:00.000Z"}
        assert await page.evaluate(_AS_WORDS) == [
            *("0%", "<0.1%", ">99.9%", "100%", ">100%", "120.0%", "800.0%", "00Z")
        ]
        async with page.expect_download() as started:
            await page.evaluate(_SAVE_FORMULAS)
        saved = (await (await started.value).path()).read_text().splitlines()
    assert saved == [
        "Text,Number",
        "'=1,1",
        "'-2+3,-2",
        "'+4,",
        "'@a,0",
        "a=1,1.5",
        "a;'=2,2",
        "'\t'=6,3",
    ]


_AS_WORDS: Final = """
    async () => {
        const { earliest, percent } = await pageModule("format.js");
        const first = earliest(["2026-07-10T09:00:00.5Z", null, "2026-07-10T09:00:00Z"]);
        return [...[0, 0.0001, 0.9999, 1, 1.0001, 1.2, 8].map(percent), first.slice(-3)];
    }
"""


_LONGEST_AXIS: Final = """
    async () => {
        const { bins } = await pageModule("panel_parts.js");
        const window = { every: "day", since: "1970-01-01T00:00:00Z" };
        const all = bins({ ...window, until: "2026-07-10T00:00:00Z" });
        return { number: all.length, last: new Date(all.at(-1)).toISOString() };
    }
"""


_SAVE_FORMULAS: Final = """
    async () => {
        const { exportTable, table } = await pageModule("tables.js");
        const columns = ["Text", "Number"].map((name, n) =>
            ({ name, value: (row) => row[n], cell: (row) => String(row[n]) }));
        const rows = [["=1", 1], ["-2+3", -2], ["+4", null], ["@a", 0], ["a=1", 1.5], ["a;=2", 2],
            ["\\t=6", 3]];
        table("Tried", columns, rows, null, { id: "tried" });
        await exportTable("tried", "csv");
    }
"""


async def test_sorting_leaves_the_line_of_all_where_it_is(
    browser: Browser, platform: Platform
) -> None:
    async with looking(browser, platform.url) as page:
        for panel, column, at in (("matrix", "COMPLETED", -1), ("errors", "Step", 0)):
            # Among the others it would be the first by its figure, the last by its name.
            await show(page, f"{platform.url}/?sort={panel}:{column}:down")
            assert await page.locator(f"#{panel} th[aria-sort]").count() == 1
            lines = await page.locator(f"#{panel} tbody th").all_inner_texts()
            assert len(lines) > 2
            assert lines[at].startswith("all"), (panel, lines)


async def test_two_screens_have_every_answer_and_every_table_can_be_copied_and_saved(
    browser: Browser, platform: Platform
) -> None:
    every = {one.path.strip("/") for one in ENDPOINTS if "{" not in one.path}
    requested: set[str] = set()
    async with looking(browser, platform.url, visit=False) as page:
        page.on("response", lambda one: requested.add(_endpoint(one)))
        screens = ("", "show=retries", "show=workers", "show=producers", "show=playbooks")
        for screen in (*screens, "show=playbooks&playbook=none", "show=errors", "show=quarantine"):
            await show(page, f"{platform.url}/?{screen}")
            assert await page.evaluate(_WITHOUT_TOOLS) == [], screen
            assert await page.locator(".panel[data-state=bad]").count() == 0
            for name in ("recovery", "workers"):
                if await page.locator(f"#{name}").count():
                    assert await page.locator(f"#{name} tbody tr").count() > 0
        for listed in ("show=executions", "show=executions&status=STUCK"):
            await show(page, f"{platform.url}/?{listed}")
        # Every other question is on one of these screens.
        assert every - requested <= ELSEWHERE

        await show(page, platform.url)
        shown = await page.locator("#matrix tbody b").all_inner_texts()
        async with page.expect_download() as started:
            await page.click("#matrix button[data-as=csv]")
        head, *lines = (await (await started.value).path()).read_text().splitlines()
        assert head == "Attempt,COMPLETED,FAILED,ERROR,CANCELLED,All"
        saved = [number for line in lines for number in line.split(",")[1:]]
        assert saved == [number.replace(",", "") for number in shown] != []


_WITHOUT_TOOLS: Final = """
    () => [...document.querySelectorAll(".panel table")]
        .map((table) => table.closest("details, .panel"))
        .filter((whole) => !whole.querySelector(".tools [data-as=copy]"))
        .map((whole) => whole.id || whole.dataset.key)
"""


async def test_an_execution_is_zoomed_compared_and_downloaded(
    browser: Browser, platform: Platform
) -> None:
    execution = await platform.connection.fetchval(
        "select execution_id from projector.calls where attempts > 0 order by execution_id limit 1"
    )
    address = f"{platform.url}/?show=execution&execution={execution}"
    async with looking(browser, address) as page:
        await page.wait_for_selector("#as-sent .json")
        marks = await page.locator(".mark").count()

        box = await page.locator(".track").first.bounding_box()
        assert box is not None
        await _drag(page, box["x"] + 3, box["x"] + box["width"] * 0.4, box["y"] + 3)
        await page.wait_for_url("**zoom=*")
        assert await page.locator(".mark").count() < marks
        await page.click(".zooms >> text=Whole")
        assert await page.locator(".mark").count() == marks

        for name in ("Copy the id", "Copy as JSON"):
            button = page.locator("#execution").get_by_role("button", name=name)
            assert await button.count() == 1

        await page.click("#difference summary")
        assert await page.evaluate(_DIFFERENCE) == [["error", "object"], ["error.code", None]]

        # A file may take longer than any answer.
        await page.evaluate("AbortSignal.timeout = () => AbortSignal.abort()")
        async with page.expect_download() as started:
            await page.get_by_role("button", name="Download its events").click()
        lines = (await (await started.value).path()).read_text().splitlines()
        assert len(lines) == marks
        assert all(str(execution) in line for line in lines)


_DIFFERENCE: Final = """
    async () => {
        const { difference } = await pageModule("json_tree.js");
        const sent = '{"error": {"code": 7}, "step": null}';
        const kept = '{"error": "7", "context": null}';
        return difference(sent, kept).rows.map((row) => [row.path, row.kindBefore ?? null]).sort();
    }
"""


async def test_how_far_a_loop_is(browser: Browser, platform: Platform) -> None:
    loop = await platform.connection.fetchrow(
        "select execution_id, step, issued, done, failed from projector.loops "
        "order by failed desc, issued desc, execution_id limit 1"
    )
    address = f"{platform.url}/?show=execution&execution={loop['execution_id']}"
    async with looking(browser, address) as page:
        await page.wait_for_selector("#loops tbody tr")

        rows = await cells(page, "#loops")

        assert [loop["step"], *(str(loop[one]) for one in ("done", "issued", "failed"))] in [
            [step, *counts] for step, _, *counts in rows
        ]
