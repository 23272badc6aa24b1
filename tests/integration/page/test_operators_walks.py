"""Questions of an operator on one page, each answered in at most three clicks or one paste.

`INCIDENT` is what the page shows: for an hour, version 7 of one playbook fails with a new error on
one worker.
"""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from playwright.async_api import Browser, Page, Route

from bench.history import make_history
from tests.integration.page.browsing import (
    change_answers,
    fully_drawn,
    looking,
    serving,
    show,
    take_picture,
)
from tests.integration.page.platform import reading
from tests.integration.page.test_page_answers import HISTORY, STUCK
from tests.support.stack import Stack

MOST_CLICKS: Final = 3
_SENT: Final = "deadlock detected: Process 4711 waits for ShareLock on transaction 964958"
_ERROR: Final = "deadlock detected: Process # waits for ShareLock on transaction #"

Walk = tuple[tuple[str, ...], ...]
"""What to click, choose, or paste, and the patterns that the screen must show then, in order."""

WALKS: Final[dict[str, Walk]] = {
    "which step fails, since when, and the record as it was sent": (
        (f"click #why >> text={_ERROR}", r"First seen\s+(\d+ \w+ )?\d\d:\d\d",
         r"Steps\s+insert_rows\s+\d+", r"Workers\s+worker-bad-1\s+\d+"),
        ("click .calls .error a >> nth=0", "As sent", r"Process \d+ waits for ShareLock"),
    ),
    "which step fails most, and with which errors": (
        ("click #rate tr[data-key^=rate-] a >> nth=0", r"Errors\s.+Groups", re.escape(_ERROR)),
        (f"click #groups >> text={_ERROR}", r"Steps\s+insert_rows\s+27", r"worker-bad-1\s+27"),
    ),
    "an execution from a log line": (
        (f'paste ERROR execution_id="{STUCK}": no answer', f"Execution {STUCK}"),
    ),
    "a part of a command's id": ((f"paste {STUCK}:sta", f"Execution {STUCK}"),),
    "an error text": ((f"paste {_SENT}", re.escape(_ERROR), r"Share\s+[1-9]"),),
    "is it fresh and complete": (("watch", r"Caught up\s+all read, \d+ rejected"),),
    "what was rejected, why, and how to get it back": (
        ("click #quarantine >> text=invalid_json", "no JSON"),
        ("click #records tbody a >> nth=0", "no JSON", "normalizer quarantine redrive --id"),
    ),
    "is retrying worth it for a step": (
        ("click nav.screens >> text=Retries",),
        ("click #recovery >> text=insert_rows",
         "Retries saved 13 of 20 failed calls after a median wait of"),
    ),
    "the versions of a playbook by its name": (
        ("paste demo/incident/pay", "Playbook demo/incident/pay", "Errors by version"),
    ),
    "version 7 beside version 6, and what changed between them": (
        ("click nav.screens >> text=Playbooks",),
        ("click #versions >> text=demo/incident/pay >> nth=0", r"v7\s+60\s+60\s+0\s+88.3%\s+66.7%",
         r"v6\s+60\s+60\s+0\s+100%\s+100%", rf"{re.escape(_ERROR)}\s+only v7\s+all on worker-bad-1",
         r"27 \(33.8%\)\s+0\s", r"insert_rows\s+80\s+60\s+33.8%\s+0%\s+\+33.8 points"),
    ),
    "how many first attempts of a step failed, since when, and with which errors": (
        ("click #errors [data-key='step-insert_rows'] td a >> nth=0",
         r"\d+ calls without success in 1 group; 1 new", rf"First\s.+{re.escape(_ERROR)}"),
    ),
    "which worker is bad": (
        ("click nav.screens >> text=Workers",
         r"All others\s+worker-bad-1\s+27\s+27\s+100%\s+\d[\d.]*%"),
        ("click #workers >> text=worker-bad-1", "Calls without success by worker-bad-1",
         "27 calls without success in 1 group", r"First\s.+deadlock detected"),
    ),
    "what is stuck, where, and why": (
        (f"click #stuck >> text={STUCK}", r"Silent for \d+ min",
         "start was claimed by worker-4 and never started", r"Running for\s+\d+ min", "Timeline",
         r"command\.claimed"),
    ),
}  # fmt: skip

_PICTURES: Final = {
    "version 7 beside version 6, and what changed between them": "playbook-desk-light",
    "what is stuck, where, and why": "stuck-desk-light",
}
"""Of docs/dashboard.md."""


@pytest.fixture(scope="module")
async def incident(stack: Stack) -> AsyncIterator[str]:
    """The address of a page over the incident, read only."""
    async with reading(stack) as (database, _, connection):
        await make_history(connection, 4_000, until=datetime.now(UTC), per_day=32_000)
        await connection.execute(HISTORY)
        await connection.execute(INCIDENT)
        async with serving(database.url) as url:
            yield url


@pytest.mark.parametrize("question", WALKS)
async def test_operator_finds_the_answer_in_three_clicks_or_one_paste(
    browser: Browser, incident: str, question: str
) -> None:
    walk = WALKS[question]
    assert len(walk) <= (1 if walk[0][0].startswith("paste") else MOST_CLICKS)

    async with looking(browser, incident) as page:
        for action, *patterns in walk:
            await _act(page, action)
            await page.wait_for_function(
                "(pattern) => new RegExp(pattern, 's').test(document.body.innerText)",
                arg=".+".join(patterns),
            )
        if question in _PICTURES:
            await page.mouse.move(0, 0)
            await take_picture(page, _PICTURES[question])


_PAY: Final = "?show=playbooks&playbook=demo/incident/pay"


async def test_a_version_with_few_calls_does_not_mark_what_only_another_one_has(
    browser: Browser, incident: str
) -> None:
    calls = 6

    def with_few(content: dict[str, Any], _: str) -> None:
        (before,) = (row for row in content["rows"] if row["version"] == "6")
        before["calls"] = calls

    def with_a_new_step(content: dict[str, Any], _: str) -> None:
        content["rows"] = [row for row in content["rows"] if row["version"] == "7"]

    async with looking(browser, incident, visit=False) as page:
        await change_answers(page, "**/versions-of-playbook?*", with_few)
        await change_answers(page, "**/steps-by-version?*", with_a_new_step)
        await show(page, f"{incident}/{_PAY}")
        for panel in ("#version-errors", "#version-steps"):
            said = await page.inner_text(f"{panel} tbody th")
            assert "only v7" not in said
            assert "v6: only 6 calls in this window, show 7d" in said
        await page.click("#version-errors >> text=show 7d")
        await fully_drawn(page)
        assert "last=7d" in page.url
        said = await page.inner_text("#version-errors tbody th")
        assert "v6: only 6 calls in this window" in said
        assert "show" not in said, "the server counts no more than 7 days"

        calls = 43
        await show(page, f"{incident}/{_PAY}")
        for panel in ("#version-errors", "#version-steps"):
            assert "only v7" in await page.inner_text(f"{panel} tbody th")


async def test_the_only_version_of_a_window_has_a_way_to_others(
    browser: Browser, incident: str
) -> None:
    def only_latest(content: dict[str, Any], _: str) -> None:
        content["rows"] = content["rows"][:1]

    async with looking(browser, incident, visit=False) as page:
        await show(page, f"{incident}/{_PAY}")
        assert "To compare it" not in await page.inner_text("#versions")
        await change_answers(page, "**/versions-of-playbook?*", only_latest)
        await show(page, f"{incident}/{_PAY}")
        said = await page.inner_text("#versions")
        assert re.search(r"Only v7 began .+\. To compare it with another version, show 7d\.", said)
        await page.click("#versions >> text=show 7d")
        await page.wait_for_url("**last=7d*")


async def test_a_rare_error_needs_more_calls_of_the_other_version(
    browser: Browser, incident: str
) -> None:
    """At 1 of 20 calls, a version with 43 has none in one of nine cases."""

    def rare(content: dict[str, Any], _: str) -> None:
        content["rows"][0]["calls"] = 4

    def few(content: dict[str, Any], _: str) -> None:
        for row in content["rows"]:
            row["calls"] = {"7": 80, "6": 43}[row["version"]]

    async with looking(browser, incident, visit=False) as page:
        await change_answers(page, "**/errors-by-version?*", rare)
        await change_answers(page, "**/versions-of-playbook?*", few)
        await show(page, f"{incident}/{_PAY}")
        said = await page.inner_text("#version-errors tbody th")

    assert "only v7" not in said
    assert "v6: only 43 calls in this window" in said


async def test_step_that_became_worst_is_first(browser: Browser, incident: str) -> None:
    def with_steps(content: dict[str, Any], _: str) -> None:
        content["rows"] = [
            {"version": version, "step": step, "calls": calls, "failed_calls": n, "p50_s": p50_s}
            for step, calls, *each in (
                ("slower", 90, (0, 4.0), (0, 1.0)),
                ("bad in both", 90, (45, 1.0), (44, 1.0)),
                ("once", 1, (1, 1.0), (0, 1.0)),
                ("worse", 90, (60, 1.0), (3, 1.0)),
                ("better", 90, (0, 1.0), (60, 1.0)),
            )
            for version, (n, p50_s) in zip("76", each, strict=True)
        ]

    async with looking(browser, incident, visit=False) as page:
        await change_answers(page, "**/steps-by-version?*", with_steps)
        await show(page, f"{incident}/{_PAY}")
        rows = await page.locator("#version-steps tbody th").all_inner_texts()

    assert [one.strip() for one in rows] == ["worse", "once", "bad in both", "slower", "better"]


async def test_playbook_with_most_failures_is_first_and_all_of_a_screen_are_listed(
    browser: Browser, incident: str
) -> None:
    def many(content: dict[str, Any], _: str) -> None:
        one = content["rows"][0] | {"completed": 0, "cancelled": 0}
        content["rows"] = [
            one | {"playbook": f"p{n:02}", "failed": n % 3, "executions": n + 3} for n in range(29)
        ]

    async with looking(browser, incident, visit=False) as page:
        await change_answers(page, "**/playbook-versions?*", many)
        await change_answers(page, "**/deployments?*", lambda content, _: content["rows"].clear())
        await show(page, f"{incident}/?show=playbooks")
        names = await page.locator("#versions tbody th").all_inner_texts()
        said = await page.inner_text("#versions > header")

    assert names[:3] == ["p26", "p23", "p20"]
    assert len(names) == 29
    assert "Most failed executions first, then most executions" in said


async def test_an_error_that_grew_is_above_a_more_frequent_one(
    browser: Browser, incident: str
) -> None:
    async def with_counts_before(route: Route) -> None:
        response = await route.fetch()
        answer = await response.json()
        frequent, rarer = answer["rows"][:2]
        frequent["calls_before"], rarer["calls_before"] = frequent["calls"], 0
        frequent["new"] = rarer["new"] = False
        await route.fulfill(response=response, json=answer)

    async with looking(browser, incident, visit=False) as page:
        await page.route("**/error-groups*", with_counts_before)
        await page.goto(f"{incident}/?last=1h")
        await fully_drawn(page)
        rows = await page.locator("#why li a").all_inner_texts()

    assert rows[0].endswith("before 0")
    assert re.search(r"\b27\s+before 27$", rows[1])


async def test_new_errors_are_first_and_the_latest_to_begin_is_on_top(
    browser: Browser, incident: str
) -> None:
    at = datetime.now(UTC)

    def with_a_past(content: dict[str, Any], _: str) -> None:
        """The most frequent error is old and grew most. Each other one is new, and began later."""
        content["rows"] = [
            content["rows"][0]
            | {"error_class": f"error {name}", "calls": 90 - n, "calls_before": 0, "new": n > 0}
            | {"first_seen_at": (at - timedelta(minutes=50 - n)).isoformat()}
            for n, name in enumerate("abc")
        ]

    async with looking(browser, incident, visit=False) as page:
        await change_answers(page, "**/error-groups*", with_a_past)
        await show(page, f"{incident}/?last=1h")
        shown = await page.locator("#why .what").all_inner_texts()
        said = await page.inner_text("#why > header")

    assert shown == ["error c", "error b", "error a"]
    assert "New ones are first, the latest on top" in said


async def _act(page: Page, action: str) -> None:
    verb, _, what = action.partition(" ")
    if verb == "click":
        await page.locator(what).first.click()
    elif verb == "choose":
        name, value = what.split()
        await page.select_option(f"select[name={name}]", value)
    elif verb == "paste":
        await page.keyboard.press("/")
        await page.keyboard.insert_text(what)
        await page.keyboard.press("Enter")
    elif verb == "watch":
        await page.wait_for_function(_POLLED)
    await fully_drawn(page)


_POLLED: Final = """
    async () => {
        const { liveFigures } = await pageModule("state.js");
        return liveFigures().perSecond !== null;
    }
"""
"""Until the page has seen the log twice, so that it can tell records per second."""


INCIDENT: Final = """
    -- Of the history's log, which nobody reads.
    delete from normalizer.source_positions where topic = 'noetl.events';

    with life as (
        select number, 700000000000 + number as execution_id,
               now() - interval '61 minutes' + number * interval '30 seconds' as begun_at,
               case when number <= 60 then '6' else '7' end as version,
               number > 60 and number % 3 = 0 as fails,
               number > 60 and number % 9 = 0 as ends_badly
        from   generate_series(1, 120) as number
    ),
    report as (
        select life.*, 'playbook.started' as event_type, 'demo/incident/pay' as step,
               'STARTED' as status, 0 as attempts, 0 as later_s, 0 as ordinal,
               jsonb_build_object('path', 'demo/incident/pay', 'version', version) as context
        from   life
        union all
        select life.*, event_type, 'insert_rows', status, attempts, attempts * 6 + later_s,
               attempts * 4 + ordinal, null
        from   life
        cross join generate_series(0, case when fails then 1 else 0 end) as attempts
        cross join lateral (
            values ('command.issued', 'PENDING', 1, 1),
                   ('command.claimed', 'RUNNING', 2, 2),
                   ('command.started', 'RUNNING', 3, 3),
                   ('call.done', case when fails and attempts = 0 or ends_badly then 'ERROR'
                                 else 'COMPLETED' end, 4, 4)
        ) as part (event_type, status, later_s, ordinal)
        union all
        select life.*, case when ends_badly then 'playbook.failed' else 'playbook.completed' end,
               'demo/incident/pay', case when ends_badly then 'FAILED' else 'COMPLETED' end, 0, 14,
               9, null
        from   life
    )
    insert into normalizer.events
           (event_id, execution_id, event_type, step, status, attempts, max_attempts, created_at,
            worker_id, command_id, error, context, meta, source_topic, source_partition,
            source_offset)
    select 800000000000 + number * 10 + ordinal, execution_id, event_type, step, status, attempts,
           2, begun_at + later_s * interval '1 second',
           case
               when ordinal in (0, 1, 5, 9) then null
               when fails and (attempts = 0 or ends_badly) then 'worker-bad-1'
               else 'worker-' || number % 4
           end,
           case when ordinal between 1 and 8 then execution_id || ':insert_rows:1' end,
           case
               when status = 'ERROR'
               then 'deadlock detected: Process ' || 4700 + number
                    || ' waits for ShareLock on transaction ' || 964000 + number
           end,
           context, jsonb_build_object('attempts', attempts), 'noetl.events', 0,
           100 + number * 10 + ordinal
    from   report
"""
