"""A figure says what it counts, and what it lacks, so that nobody takes it for more than it is."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

import pytest
from playwright.async_api import Browser, Page

from tests.integration.page.browsing import (
    cells,
    change_answers,
    fully_drawn,
    looking,
    serving,
    show,
)
from tests.integration.page.platform import Platform
from tests.integration.page.test_page_answers import HISTORY, STUCK
from tests.support import view_rows
from tests.support.stack import Database, Stack
from tests.support.table_rows import connected, execute
from tests.support.view_rows import event

_RETRIED: Final = 41
_HEADS: Final = """
    () => [...document.querySelectorAll(".panel > header")].map((head) => {
        const [title, subtitle] = [head.querySelector("h2"), head.querySelector("p")];
        return [title.textContent, !subtitle.textContent
            || subtitle.offsetTop >= title.offsetTop + title.offsetHeight - 1];
    })
"""
_ERROR: Final = "TemplateError: unknown field ?"
_EVENTS: Final = """
    insert into normalizer.events
           (event_id, execution_id, parent_execution_id, event_type, step, status, attempts,
            created_at, command_id, error, context, source_topic, source_partition, source_offset)
    select event_id, execution_id, parent, event_type, step, status, attempts,
           now() - make_interval(secs => ago_s), command_id, error, context::jsonb, 'noetl.events',
           0, event_id
    from   (
               values (30, 41, null, 'playbook.started', 'bill', 'STARTED', 0, 900, null, null,
                       '{"path": "team/bill", "version": "7"}'),
                      (31, 41, null, 'call.done', 'load', 'ERROR', 0, 890, '41:load',
                       'no such host', '{}'),
                      (32, 41, null, 'call.done', 'render', 'ERROR', 0, 880, '41:render',
                       'TemplateError: unknown field ''vat_id''', '{}'),
                      (33, 41, null, 'call.done', 'render', 'ERROR', 1, 870, '41:render',
                       'TemplateError: unknown field ''vat_id''', '{}'),
                      (34, 41, null, 'playbook.failed', 'bill', 'FAILED', 0, 860, null, null, '{}'),
                      (35, 42, null, 'playbook.started', 'bill', 'STARTED', 0, 10, null, null,
                       '{"path": "team/bill", "version": "7"}'),
                      (36, 43, 333895119667515392, 'playbook.started', 'child', 'STARTED', 0, 700,
                       null, null, '{"path": "team/child"}'),
                      (37, 44, null, 'step.enter', 'late', 'STARTED', 0, 600, null, null, '{}')
           ) as one (event_id, execution_id, parent, event_type, step, status, attempts, ago_s,
                     command_id, error, context);
"""
_CALLS: Final = """
    insert into normalizer.events
           (event_id, execution_id, event_type, step, status, attempts, created_at, command_id,
            context, source_topic, source_partition, source_offset, worker_id)
    select $1 + i, $1 + i, 'call.done', $2,
           case when i > $5::bigint then 'COMPLETED' else 'FAILED' end, 0,
           now() - make_interval(hours => $3::integer), ($1 + i) || ':' || $2, '{}',
           'noetl.events', 0, $1 + i, $6
    from   generate_series(1, $4::bigint) as i
"""


@pytest.fixture(scope="module")
async def figures(stack: Stack) -> AsyncIterator[str]:
    """The address of a page over a retried, a running, and three stuck executions, read only."""
    async with (await stack.cluster("current")).database() as database:
        await execute(database, HISTORY)
        await execute(database, _EVENTS)
        async with serving(database.url) as url:
            yield url


_LINES: Final = "(one) => new Set([...one.getClientRects()].map(({ top }) => top)).size"
_WHY_BELOW_ITS_NAME: Final = """
    () => {
        const words = document.createRange();
        const link = document.querySelector("#stuck .why > a");
        words.selectNodeContents(link.firstChild);
        return words.getBoundingClientRect().top - link.closest("td").getBoundingClientRect().top;
    }
"""


async def _text(page: Page, selector: str) -> str:
    await fully_drawn(page)
    return " ".join((await page.inner_text(selector)).split())


async def test_window_before_the_first_data_is_not_compared(browser: Browser, figures: str) -> None:
    async with looking(browser, f"{figures}/?last=1h") as page:
        await page.wait_for_selector("#rate >> text=no data before")
        for name in ("Executions completed", "First-attempt success"):
            assert "no data before" in await _text(page, f".headline li:has-text('{name}')")
        assert "an old error may look new" in await _text(page, "#why")

        await page.goto(f"{figures}/?show=errors&last=1h")
        await page.wait_for_selector("#groups >> text=an old error may look new")
        await page.goto(f"{figures}/?show=error&error_class={quote(_ERROR)}&last=1h")
        await page.wait_for_selector("[data-key='fact-Window before'] >> text=no data before")


async def test_window_before_with_data_is_compared(browser: Browser, database: Database) -> None:
    await execute(database, HISTORY)
    await execute(database, _EVENTS.replace("secs => ago_s)", "hours => 5, secs => ago_s)"))
    call = {"event_type": "call.done", "step": "load", "status": "COMPLETED", "command_id": "c"}
    await view_rows.add(database, event(event_id=90, created_at=datetime.now(UTC), **call))
    async with serving(database.url) as url, looking(browser, f"{url}/?last=3h") as page:
        await page.wait_for_selector(".headline li:has-text('First-attempt') >> text=vs before")
        assert "no data before" not in await _text(page, "main")


async def test_step_that_fails_most_is_first_and_its_change_is_beside_it(
    browser: Browser, database: Database
) -> None:
    async with connected(database) as connection:
        for number, (step, hours_ago, calls, failed) in enumerate(
            (
                ("worse", 40, 40, 0),
                ("worse", 1, 20, 6),
                ("bad as ever", 40, 40, 20),
                ("bad as ever", 1, 40, 20),
                ("young", 1, 20, 8),
            ),
            1,
        ):
            await connection.execute(
                _CALLS, number * 1000, step, hours_ago, calls, failed, "worker-1"
            )
    async with serving(database.url) as url, looking(browser, f"{url}/?last=24h") as page:
        said = await _text(page, "#rate")
        said = said[said.index("Before") :]
        assert said.index("bad as ever") < said.index("young") < said.index("worse")
        changes = await page.locator("#rate tbody tr[data-key] td:nth-child(4)").all_inner_texts()
        assert changes == ["as before", "\N{EN DASH}", "+30.0 points"]
        young = page.locator("#rate tr:has-text('young') td").nth(1)
        assert await young.inner_text() == "new"
        title = await young.locator("span").get_attribute("title")
        assert title == "No call of it ended in the window before"


async def test_worst_worker_is_first_whether_it_has_few_calls_or_many(
    browser: Browser, database: Database
) -> None:
    workers = (
        ("big", 410, 48),
        ("usual", 800, 60),
        ("bad", 15, 14),
        ("once", 1, 1),
        ("young", 1, 0),
    )
    async with connected(database) as connection:
        for number, (worker, calls, failed) in enumerate(workers, 1):
            step = f"step of {worker}"
            await connection.execute(_CALLS, number * 1000, step, 1, calls, failed, worker)
    async with serving(database.url) as url, looking(browser, url, visit=False) as page:
        await show(page, f"{url}/?show=workers")
        shown = await page.locator("#workers tbody th").all_inner_texts()
        assert shown == ["bad", "once", "big", "usual", "young"]

        await show(page, url)
        shown = await page.locator("#first .what").all_inner_texts()
        assert shown == [f"step of {worker}" for worker in ("bad", "once", "big", "usual", "young")]


async def test_stuck_executions_are_sorted_by_the_silence_that_is_shown(
    browser: Browser, figures: str
) -> None:
    silences = [590, 587, 591]

    def changing(content: dict[str, Any], _: str) -> None:
        for row, silent_s in zip(content["rows"], silences, strict=False):
            row["silent_s"] = silent_s

    async with looking(browser, figures, visit=False) as page:
        await change_answers(page, "**/api/v1/stuck-executions?*", changing)
        await show(page, figures)
        silent = page.locator("#stuck tbody td:nth-child(2)")
        shown = await silent.all_inner_texts()
        assert len(shown) > 1
        assert shown == sorted(shown, reverse=True)

        await page.hover("#stuck tbody")
        silences[:] = [595, 599, 580]
        await page.wait_for_selector("#stuck tbody >> text=9 min 59")
        assert "9 min 59" not in (await silent.all_inner_texts())[0]

        await page.mouse.move(0, 0)
        await page.wait_for_selector("#stuck tbody tr:first-child >> text=9 min 59")


async def test_time_is_written_with_the_same_units_everywhere(
    browser: Browser, figures: str
) -> None:
    seconds = [59.4, 59.6, 83, 90, 599, 600, 3599, 3600, 4320, 5400, 86340]
    async with looking(browser, figures) as page:
        said = await page.evaluate(
            "async (all) => all.map((await pageModule('format.js')).span)", seconds
        )

    assert said == [
        "59 s", "1 min 00 s", "1 min 23 s", "1 min 30 s", "9 min 59 s", "10 min", "59 min",
        "1 h 00 min", "1 h 12 min", "1 h 30 min", "23 h 59 min",
    ]  # fmt: skip


async def test_mark_of_a_copy_stays_for_five_seconds(browser: Browser, figures: str) -> None:
    async with looking(browser, figures) as page:
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await page.clock.install()
        await page.click("#first .rule")
        await page.wait_for_selector("#first .rule[data-done=Done]")

        await page.clock.run_for(4500)
        assert await page.locator("#first .rule[data-done]").count() == 1

        await page.clock.run_for(1000)
        await page.wait_for_selector("#first .rule:not([data-done])")


async def test_rule_is_copied_without_the_permission_of_the_clipboard(
    browser: Browser, figures: str
) -> None:
    async with looking(browser, figures) as page:
        await page.click("#first .rule")
        await page.wait_for_selector("#first .rule[data-done=Done]")


@pytest.mark.parametrize(
    ("command", "detail"),
    [("41:load", "load, first attempt, ERROR"), ("41:render", "render, retry 1, ERROR")],
)
async def test_hit_of_a_command_names_its_latest_attempt(
    browser: Browser, figures: str, command: str, detail: str
) -> None:
    async with looking(browser, figures) as page:
        await page.fill("#search", command)
        hit = page.locator("#found li", has_text="Command")

        assert " ".join((await hit.inner_text()).split()) == f"Command {command} {detail}"


@pytest.mark.parametrize("filters", ["", "?step=load"])
async def test_hit_of_a_command_opens_the_attempt_that_it_names(
    browser: Browser, database: Database, filters: str
) -> None:
    call: dict[str, Any] = {"execution_id": 61, "event_type": "call.done", "step": "charge"}
    now = datetime.now(UTC)
    await view_rows.add(
        database,
        event(
            event_id=70,
            **call,
            status="FAILED",
            error="declined",
            attempts=0,
            command_id="61:c",
            created_at=now - timedelta(minutes=2),
        ),
        event(
            event_id=71,
            **call,
            status="COMPLETED",
            attempts=1,
            command_id="61:c",
            created_at=now - timedelta(minutes=1),
        ),
    )
    async with serving(database.url) as url, looking(browser, f"{url}/{filters}") as page:
        await page.fill("#search", "61:c")
        await page.wait_for_selector("#found li:has-text('charge, retry 1, COMPLETED')")
        await page.press("#search", "Enter")

        await page.wait_for_selector("#event [data-key=fact-Attempt] >> text=retry 1")
        assert "event=71" in page.url


async def test_quoted_part_of_an_error_is_no_question_mark(browser: Browser, figures: str) -> None:
    shown = "TemplateError: unknown field '…'"
    async with looking(browser, figures) as page:
        assert shown in await _text(page, "#why")
        # The search finds what the page shows.
        await page.keyboard.press("/")
        await page.keyboard.insert_text(shown)
        await page.wait_for_selector(f"#found >> text={shown}")
        await page.keyboard.press("Enter")
        await page.wait_for_selector(f"h1 >> text={shown}")


async def test_group_says_that_its_first_and_last_call_ignore_filters(
    browser: Browser, figures: str
) -> None:
    seen = "#groups thead th:is(:has-text('First'), :has-text('Last'))"
    async with looking(browser, f"{figures}/?show=errors", visit=False) as page:
        for screen in ("errors", "calls&failed=true"):
            await show(page, f"{figures}/?show={screen}")
            assert await page.locator(seen).all_inner_texts() == ["First seen", "Last seen"]

            for chosen in ("step=render", "attempts=0", "playbook=team%2Fbill"):
                await show(page, f"{figures}/?show={screen}&{chosen}")
                said = await page.locator(seen).all_inner_texts()
                assert said == ["First", "Last"], chosen
                head = await _text(page, "#groups .body > p >> nth=0")
                assert "new anywhere, whatever the filters" in head

        await show(page, f"{figures}/?show=errors&step=render&attempts=0")
        assert await page.inner_text("h1") == "Errors of render on the first attempt"
        await show(page, f"{figures}/?show=error&error_class={quote(_ERROR)}&step=render")
        head = await _text(page, "#group header")
        assert head == "Summary All calls with this error \N{MIDDLE DOT} not filtered by step"


async def test_execution_without_an_end_names_the_child_it_waits_for(
    browser: Browser, database: Database
) -> None:
    await execute(database, HISTORY)
    now = datetime.now(UTC)
    parent = {"execution_id": 50, "created_at": now - timedelta(minutes=17)}
    started = {"event_type": "playbook.started", "source_topic": "noetl.events"}
    done = {"event_type": "call.done", "step": "load", "status": "COMPLETED", "command_id": "50:1"}
    child = {"execution_id": 51, "parent_execution_id": 50, "created_at": now}
    await view_rows.add(
        database,
        event(event_id=60, **parent, **started),
        event(event_id=61, **parent, **done, source_topic="noetl.events"),
        event(event_id=62, **child, **started),
    )
    async with serving(database.url) as url, looking(browser, url, visit=False) as page:
        await show(page, f"{url}/?show=workers")
        assert "waits for 51" in await _text(page, "#without-end tbody tr")
        await page.click("#without-end tbody >> text=51")
        await page.wait_for_selector("h1 >> text=Execution 51")

        await show(page, f"{url}/?show=execution&execution=50")
        assert "waits for 51" in await _text(page, "#execution [data-key=fact-Ended]")
        await show(page, f"{url}/?show=execution&execution=51")
        assert "waits" not in await _text(page, "#execution")


async def test_latest_call_of_an_error_opens_that_attempt(browser: Browser, figures: str) -> None:
    async with looking(browser, f"{figures}/?show=error&error_class={quote(_ERROR)}") as page:
        assert "render, retry 1" in await _text(page, "[data-key='fact-Latest call']")

        await page.click("[data-key='fact-Latest call'] a")

        await page.wait_for_selector("#event [data-key=fact-Attempt] >> text=retry 1")
        assert "render" in await _text(page, "#event .event")


async def test_failed_execution_says_why_and_opens_the_attempt_that_decided(
    browser: Browser, figures: str
) -> None:
    where = f"{figures}/?show=execution&execution={_RETRIED}"
    async with looking(browser, where) as page:
        said = await _text(page, "#execution [data-key=decided]")
        assert said == "Failed: render failed on retry 1: TemplateError: unknown field 'vat_id'"

        await page.wait_for_selector("#event [data-key=fact-Attempt] >> text=retry 1")
        assert "event=33" in page.url

        # Also if the reader comes from a search for the command, which names no attempt.
        await show(page, f"{where}&command=41%3Arender")
        await page.wait_for_selector("#event [data-key=fact-Attempt] >> text=retry 1")
        # A call that was clicked keeps its own attempt.
        await show(page, f"{where}&command=41%3Arender&try=0")
        await page.wait_for_selector("#event [data-key=fact-Attempt] >> text=first attempt")


@pytest.mark.parametrize(
    ("events", "why"),
    [
        (
            [{"event_type": "playbook.failed", "status": "FAILED", "error": "no such step"}],
            "Failed: playbook.failed says: no such step",
        ),
        (
            [{"event_type": "playbook.failed", "status": "FAILED"}],
            "Failed, and no call or event says why.",
        ),
        # A step that failed and then succeeded decided nothing.
        (
            [
                {"step": "a", "status": "FAILED", "error": "lost", "command_id": "c:a"},
                {"step": "b", "status": "FAILED", "error": "later", "command_id": "c:b"},
                {"step": "b", "status": "COMPLETED", "attempts": 1, "command_id": "c:b"},
                {"event_type": "playbook.failed", "status": "FAILED"},
            ],
            "Failed: a failed on the first attempt: lost",
        ),
    ],
)
async def test_reason_of_a_failed_execution_is_what_the_data_allow(
    browser: Browser, database: Database, events: list[dict[str, Any]], why: str
) -> None:
    await execute(database, HISTORY)
    begun = datetime.now(UTC) - timedelta(minutes=5)
    common = {"execution_id": 60, "event_type": "call.done", "source_topic": "noetl.events"}
    rows = [
        event(**common | {"event_id": 70 + n, "created_at": begun + timedelta(seconds=n)} | one)
        for n, one in enumerate(events)
    ]
    await view_rows.add(database, *rows)
    async with (
        serving(database.url) as url,
        looking(browser, f"{url}/?show=execution&execution=60") as page,
    ):
        assert await _text(page, "#execution [data-key=decided]") == why


async def test_event_of_no_call_has_no_first_attempt(browser: Browser, figures: str) -> None:
    where = f"{figures}/?show=execution&execution={_RETRIED}&event="
    async with looking(browser, f"{where}30") as page:
        said = await _text(page, "#event [data-key=fact-Attempt]")
        assert "none, because this event isn't part of a call. Its meta.attempts is 0" in said
        assert "As sent, rebuilt from the stored event" in await _text(page, "#as-sent")

        await page.goto(f"{where}31")
        assert "first attempt (" in await _text(page, "#event [data-key=fact-Attempt]")


async def test_list_of_events_says_the_attempt_on_a_phone(browser: Browser, figures: str) -> None:
    where = f"{figures}/?show=execution&execution={_RETRIED}"
    async with looking(browser, where, size=(390, 844)) as page:
        shown = page.locator(".events .try:visible")
        assert [one for one in await shown.all_inner_texts() if one] == [
            "first\N{NO-BREAK SPACE}attempt", "first\N{NO-BREAK SPACE}attempt",
            "retry\N{NO-BREAK SPACE}1",
        ]  # fmt: skip
        clear = "all => all.every((one) => one.scrollWidth <= one.clientWidth)"
        assert await page.locator(".events a").evaluate_all(clear)


async def test_share_of_completed_executions_is_of_those_that_ended(
    browser: Browser, figures: str
) -> None:
    async with looking(browser, f"{figures}/?show=playbooks&playbook=team%2Fbill") as page:
        said = await _text(page, "#versions")
        assert "Executions Ended Not ended Completed of ended" in said
        assert "v7 2 1 1 0%" in said
        errors = await _text(page, "#version-errors tbody")
        assert "2 (66.7%)" in errors
        assert "1 (33.3%)" in errors
        assert "7 days" not in await _text(page, "main")

        await page.goto(f"{figures}/?show=playbooks&playbook=team%2Fbill&last=30d")
        assert "of the last 7 days only" in await _text(page, "#versions")


async def test_stuck_is_a_status_of_the_list_of_executions(browser: Browser, figures: str) -> None:
    async with looking(browser, f"{figures}/?show=executions&last=15m") as page:
        await page.select_option("select[name=status]", "STUCK")
        await page.wait_for_selector("h1 >> text=Stuck executions")
        said = await _text(page, "#executions tbody")
        listed = await page.locator("#executions tbody th").all_inner_texts()
        assert listed == ["43", "44", STUCK]
        assert said.count("no start event") == 1
        assert "start was claimed by worker-4 and never started" in said
        await page.get_by_role("link", name="start", exact=True).first.click()
        await page.wait_for_url(f"**execution={STUCK}&command={STUCK}%3Astart*")
        await page.go_back()

        # No call has this status.
        await page.click("nav.screens >> text=Calls")
        await page.wait_for_selector("h1 >> text=Calls")
        assert "STUCK" not in page.url
        await page.goto(f"{figures}/?status=STUCK")
        assert "doesn't know: status=STUCK" in await _text(page, "#banner")


async def test_tree_says_which_executions_are_stuck(browser: Browser, figures: str) -> None:
    async with looking(browser, f"{figures}/?show=execution&execution={STUCK}") as page:
        await page.wait_for_selector("#tree")
        rows = await page.locator("#tree li").all_inner_texts()
        assert ["silent for" in row for row in rows] == [True, True]
        assert [row.endswith("no end event came") for row in rows] == [False, True]


async def test_last_commit_of_a_partition_without_a_reader_has_its_time(
    browser: Browser, database: Database
) -> None:
    await execute(database, HISTORY)
    await execute(database, "update normalizer.source_positions set committed_at = now()")
    async with serving(database.url) as url, looking(browser, url) as page:
        said = await _text(page, "#freshness tbody")
        assert "No reader" in said
        assert "just now" not in said
        assert said.count(":") == 2


async def test_tile_says_on_one_line_that_it_lacks_a_filter(browser: Browser, figures: str) -> None:
    async with looking(browser, f"{figures}/?step=render") as page:
        tile = page.locator(".headline li:has-text('Stuck executions')")
        heights = await tile.locator("small").evaluate_all(
            "all => all.map((one) => one.offsetHeight)"
        )
        assert heights[0] == heights[1]
        assert (await tile.inner_text()).endswith("not filtered by step")
        # It isn't a warning.
        colours = await page.locator("#stuck :is(h2, em)").evaluate_all(
            "all => all.map((one) => getComputedStyle(one).color)"
        )
        assert len(colours) == 2
        assert colours[0] == colours[1]


_PLACES: Final = """
    () => [...document.querySelectorAll(".panel")].map((panel) => {
        const { top, height } = panel.getBoundingClientRect();
        const lists = [...panel.querySelectorAll(".body > .scroll, .bars")];
        return [panel.id, height, ...lists.map((one) => one.getBoundingClientRect().top - top)];
    })
"""


async def test_line_that_comes_moves_no_list(browser: Browser, figures: str) -> None:
    says = False

    def changing(content: dict[str, Any], address: str) -> None:
        minute = content.get("read_at", "")[:17] + "00Z"
        if "attempts-matrix" in address:
            content["unfinished"] = says
        elif "retries-by-minute" in address:
            content["as_of"] = content["read_at"]
            content["rows"] = [row for row in content["rows"] if row["at"] < minute]
            content["rows"] += [{"at": minute, "step": "render", "retries": 1}] if says else []
        elif "error-rate" in address and "by=at" in address:
            for row in content["rows"]:
                row["failed"] = row["failed"] if says else 0
        elif not says and ("deployments" in address or "stuck-by-age" in address):
            content["rows"] = [row for row in content["rows"] if row.get("begun")]

    lines = (
        ("#storms", "The last, faded bar isn't complete yet."),
        ("#matrix", "The dashed end of a trend isn't complete yet."),
        ("#rate", "Most failed calls: "),
        ("#stuck", "not counted here"),
        ("#outcomes", "Began for the first time"),
    )
    places = []
    async with looking(browser, figures, visit=False) as page:
        page.set_default_timeout(20_000)
        await change_answers(page, "**/api/v1/*", changing)
        for says in (False, True):
            await show(page, figures)
            await page.evaluate("() => new Promise(requestAnimationFrame)")
            for panel, line in lines:
                assert (line in await _text(page, panel)) == says, line
            places.append(await page.evaluate(_PLACES))
    assert places[0] == places[1]


_VERIFIED: Final = ("all_verified_at", "range_verified_at", "sample_verified_at")


async def test_log_that_is_read_says_what_was_rejected_or_not_compared(
    browser: Browser, platform: Platform
) -> None:
    rejected, compared = 8, 9

    def changing(content: dict[str, Any], address: str) -> None:
        if "agreement" in address:
            times = dict.fromkeys(_VERIFIED, content["read_at"])
            verdict = {"projection": "calls", "verdict": "match", "scope": "all"}
            content["rows"] = [verdict | times | {"compared": compared}]
        for row in content["rows"]:
            if "freshness" in address:
                row["state"] = "caught_up"
            elif row.get("tile") == "rejected":
                row["value"] = rejected

    addresses = re.compile("/v1/(freshness|agreement|tiles)")
    async with looking(browser, platform.url, visit=False) as page:
        await change_answers(page, addresses, changing)
        for screen, tile in (("", ".headline a[href='#freshness']"), ("?view=wall", "#log .big")):
            for case in (
                (8, 9, "all read, 8 rejected"),
                (8, 0, "all read, 8 rejected, not compared"),
                (0, 9, "every record was read"),
            ):
                rejected, compared, words = case
                await show(page, f"{platform.url}/{screen}")
                said = await page.locator(f"{tile} > small").first.inner_text()
                assert said == words, screen


async def test_worth_of_retries_is_of_the_step_of_the_filter(
    browser: Browser, database: Database
) -> None:
    now = datetime.now(UTC)
    calls = [("load", 0, "FAILED"), ("load", 1, "COMPLETED"), ("ship", 0, "FAILED"),
             ("ship", 1, "FAILED")]  # fmt: skip
    await view_rows.add(
        database,
        *(
            event(event_id=n, execution_id=5, event_type="call.done", step=step, attempts=attempts,
                  status=status, command_id=f"5:{step}", created_at=now - timedelta(seconds=90 - n))
            for n, (step, attempts, status) in enumerate(calls, 80)
        ),
    )  # fmt: skip
    async with serving(database.url) as url, looking(browser, url, visit=False) as page:
        for filters, words in (
            ("", "Retries saved 1 of 2 failed calls"),
            ("&step=load", "Retries saved 1 of 1 failed call after"),
            ("&step=ship", "Retries saved 0 of 1 failed call."),
        ):
            await show(page, f"{url}/?show=retries{filters}")
            assert (await _text(page, "#worth .sentence")).startswith(words)


async def test_retries_save_no_more_calls_than_failed(browser: Browser, database: Database) -> None:
    now = datetime.now(UTC)
    begun = {0: now - timedelta(minutes=70), 1: now - timedelta(minutes=2)}
    await view_rows.add(
        database,
        *(
            event(event_id=n, execution_id=5, event_type="call.done", step="load", attempts=n,
                  status=("FAILED", "COMPLETED")[n], command_id="5:load", created_at=at)
            for n, at in begun.items()
        ),
    )  # fmt: skip
    async with (
        serving(database.url) as url,
        looking(browser, f"{url}/?show=retries&last=1h") as page,
    ):
        said = await _text(page, "#worth .sentence")
        assert said.startswith("Retries saved 1 failed call after a median wait of ")
        assert said.endswith(". In this window, none failed at the first attempt.")


async def test_errors_of_a_step_have_the_times_of_that_step(browser: Browser, figures: str) -> None:
    calls_before = 0

    def only_late(content: dict[str, Any], _: str) -> None:
        row = content["rows"][0]
        late = [0] * len(row["trend"])
        late[1] = late[2] = 3
        content["rows"] = [row | {"trend": late, "calls_before": calls_before}]

    async with looking(browser, figures, visit=False) as page:
        for first in (r"\d\d \w+ \d\d:\d\d\W.+", "before the window"):
            await change_answers(page, "**/api/v1/error-groups?*", only_late)
            await show(page, f"{figures}/?show=errors&step=render")
            row = (await cells(page, "#groups"))[0]
            assert re.fullmatch(first, row[5]), row
            assert re.fullmatch(r"\d\d \w+ \d\d:\d\d\W.+", row[6]), row
            assert row[5] != row[6]
            calls_before = 2


async def test_columns_of_backoffs_stay_when_figures_change(browser: Browser, figures: str) -> None:
    slowest_s = 9.0

    def changing(content: dict[str, Any], _: str) -> None:
        rows = [("load", 0.4, 2, 3), ("ship", 0.8, 6, slowest_s)]
        content["rows"] = [
            {"step": step, "attempts": 1, "calls": 7, "p50_s": p50, "p95_s": p95, "p99_s": p99}
            for step, p50, p95, p99 in rows
        ]

    heads = []
    async with looking(browser, figures, visit=False) as page:
        await change_answers(page, "**/api/v1/retry-backoffs?*", changing)
        for slowest in (9.0, 130.0):
            slowest_s = slowest
            await show(page, f"{figures}/?show=retries")
            places = page.locator("#backoffs thead :is(th, i)")
            heads.append(await places.evaluate_all(
                "all => all.map((one) => [one.textContent, one.getAttribute('style')])"
            ))  # fmt: skip
    assert heads[0] == heads[1]


async def test_series_keeps_its_colour_when_its_rank_changes(
    browser: Browser, figures: str
) -> None:
    calls = {"a": 9, "b": 8, "c": 7, "d": 6, "e": 5, "f": 4, "g": 3}

    def ranked(content: dict[str, Any], _: str) -> None:
        content["rows"] = [
            {"at": content["since"], "reason": reason, "rejected": rejected}
            for reason, rejected in calls.items()
        ]

    async with looking(browser, figures, visit=False) as page:
        await change_answers(page, re.compile(r"/quarantine-by-reason\?.*by=at"), ranked)
        await show(page, f"{figures}/?show=quarantine&last=1h")
        before = await page.evaluate(_COLOURS)
        calls |= {"a": 1, "e": 20, "g": 30}
        await page.wait_for_selector("#over-time .legend >> text=g")
        after = await page.evaluate(_COLOURS)

    assert list(before) == ["a", "b", "c", "d", "e", "all others"]
    assert list(after) == ["g", "e", "b", "c", "d", "all others"]
    assert len(set(before.values())) == len(before)
    assert after.pop("g") == before.pop("a")
    assert after == before


_COLOURS: Final = """
    () => Object.fromEntries([...document.querySelectorAll("#over-time .legend a")]
        .map((one) => [one.textContent, one.dataset.colour]))
"""


@pytest.mark.parametrize("width", [390, 768])
async def test_head_of_a_panel_and_of_the_page_have_room(
    browser: Browser, figures: str, width: int
) -> None:
    async with looking(browser, f"{figures}/?step=render", size=(width, 900)) as page:
        rows = await page.locator("nav.screens a").evaluate_all(
            "all => all.map((one) => Math.round(one.getBoundingClientRect().top))"
        )
        assert all(rows.count(row) > 1 for row in rows)
        if width == 390:
            assert await page.locator("#head").evaluate("(one) => one.offsetHeight") < 180
            hint = await page.get_attribute("#search", "placeholder")
            assert hint == "Search"
            panels = await page.evaluate(_HEADS)
            assert [title for title, below in panels if not below] == []
            assert abs(await page.evaluate(_WHY_BELOW_ITS_NAME)) < 5
        else:
            why = page.locator("#stuck .why:has(a)").first
            assert await why.evaluate(_LINES) == 1
