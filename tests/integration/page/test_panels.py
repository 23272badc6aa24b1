"""Every panel shows what SQL says of the same moment, and follows it without a reload."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import asyncpg
import pytest
from playwright.async_api import Browser, Page

from tests.integration.page.browsing import cells, looking, texts
from tests.integration.page.platform import Platform
from tests.support.service_runs import until
from tests.support.table_rows import insert_row

Shown = list[list[str]]
STATUSES: Final = ("COMPLETED", "FAILED", "ERROR", "CANCELLED")
DAY: Final = "hour >= date_trunc('hour', now() - interval '24 hours') and hour < now()"


def count(value: int) -> str:
    """As the page writes it: from a million on with three digits."""
    return f"{value:,}" if value < 1_000_000 else f"{value / 1_000_000:.3g}M"


def rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def percent(share: float) -> str:
    if share in (0, 1):
        return f"{share * 100:.0f}%"
    if share * 100 < 0.1:
        return "<0.1%"
    # As the page: half a tenth is rounded up.
    return ">99.9%" if share * 100 > 99.9 else f"{int(share * 1000 + 0.5) / 10:.1f}%"


def attempt(number: int) -> str:
    return (f"retry {number}" if number else "first attempt").replace(" ", "\N{NO-BREAK SPACE}")


def named(step: str) -> str:
    return step or "(no step)"


async def errors(page: Page, connection: asyncpg.Connection) -> tuple[Shown, Shown]:
    rows = await connection.fetch(
        f"""
        select   step, attempts, sum(calls)::bigint as calls, sum(failed)::bigint as failed
        from     projector.call_outcomes_by_attempt
        where    {DAY}
        group by step, attempts
        """,
    )
    numbers = sorted({row["attempts"] for row in rows})
    by_cell = {(row["step"], row["attempts"]): (row["failed"], row["calls"]) for row in rows}

    def cell(failed: int, calls: int) -> str:
        return f"{percent(failed / calls)} {count(failed)} of {count(calls)}"

    expected = []
    for step in {row["step"] for row in rows}:
        had = [by_cell.get((step, number)) for number in numbers]
        expected.append([named(step), *(cell(*one) if one else "" for one in had)])
    totals = [
        [
            sum(row[what] for row in rows if row["attempts"] == number)
            for what in ("failed", "calls")
        ]
        for number in numbers
    ]
    expected.append(["all steps", *(cell(*one) for one in totals)])
    return sorted(await cells(page, "#errors")), sorted(expected)


async def matrix(page: Page, connection: asyncpg.Connection) -> tuple[Shown, Shown]:
    rows = await connection.fetch(
        f"""
        select   attempts, status, sum(calls)::bigint as calls
        from     projector.call_outcomes_by_attempt
        where    {DAY}
        group by attempts, status
        """,
    )
    calls = {(row["attempts"], row["status"]): row["calls"] for row in rows}
    everything = sum(calls.values())

    def cell(one: int, of: int) -> str:
        return f"{count(one)} {percent(one / of)}" if one else "0"

    expected = []
    for number in sorted({row["attempts"] for row in rows}):
        of = sum(value for (attempts, _), value in calls.items() if attempts == number)
        own = [cell(calls.get((number, status), 0), of) for status in STATUSES]
        expected.append([attempt(number), *own, count(of)])
    totals = [sum(n for (_, status), n in calls.items() if status == one) for one in STATUSES]
    expected.append(["all attempts", *(cell(one, everything) for one in totals), count(everything)])
    return await cells(page, "#matrix"), expected


async def storms(page: Page, connection: asyncpg.Connection) -> tuple[Shown, Shown]:
    rows = await connection.fetch(
        "select step, retries_now, ratio_now, ratio_baseline from projector.retry_storms",
    )
    # Retries per minute fall while nothing happens: whether there are any stays.
    expected = [
        [named(row["step"]), str(row["retries_now"] > 0), percent(row["ratio_now"])] for row in rows
    ]
    shown = [
        [row[0].removesuffix("storm").strip(), str(row[1] != "0"), row[2]]
        for row in await cells(page, "#storms .body > .scroll")
    ]
    return sorted(shown), sorted(expected)


async def stuck(page: Page, connection: asyncpg.Connection) -> tuple[Shown, Shown]:
    rows = await connection.fetch(
        """
        select   execution_id, last_event_type, reason.waits_for, reason.step, reason.worker_id,
                 reason.attempts, reason.open_calls, playbook,
                 (
                     select   child.execution_id
                     from     projector.executions as child
                     where    child.parent_execution_id = reason.execution_id
                     and      child.status = 'RUNNING'
                     order by child.first_at desc, child.execution_id desc
                     limit    1
                 ) as child
        from     projector.stuck_executions
        join     projector.stuck_reasons as reason using (execution_id, playbook, begun)
        where    begun
        order by last_at desc, execution_id desc
        limit    100
        """,
    )
    expected = [
        [
            str(row["execution_id"]),
            _waiting(row),
            row["playbook"] or "(unknown)",
        ]
        for row in rows
    ]
    shown = [[row[0], row[2], row[3]] for row in await cells(page, "#stuck")]
    return sorted(shown), sorted(expected)


def _waiting(row: asyncpg.Record) -> str:
    if row["waits_for"] == "next" and row["child"]:
        return f"No call is open, and its child {row['child']} is stuck too"
    if row["waits_for"] == "next":
        of = f" of {row['step']}" if row["step"] else ""
        last = f"Its last event is {row['last_event_type']}{of}"
        return f"No call is open, and no end event came. {last}"
    done, never = {
        "claim": ("issued", "claimed"),
        "start": ("claimed", "started"),
        "finish": ("started", "finished"),
    }[row["waits_for"]]
    retry = f" (retry\xa0{row['attempts']})" if row["attempts"] else ""
    by = f" by {row['worker_id']}" if row["worker_id"] else ""
    more = row["open_calls"] - 1
    others = f". {more} more call{'s' * (more > 1)} of it {'are' if more > 1 else 'is'} open"
    return (
        f"{row['step'] or '(no step)'}{retry} was {done}{by} and never {never}{others * (more > 0)}"
    )


def span(seconds: float) -> str:
    if seconds < 0.995:
        return f"{float(f'{seconds * 1000:.2g}'):g} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = int(seconds + 0.5)
    if whole < 60:
        return f"{whole} s"
    assert whole < 3600
    if whole < 600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 60} min"


async def rates(page: Page, connection: asyncpg.Connection) -> tuple[Shown, Shown]:
    rows = await connection.fetch(
        """
        select   bucket_start as minute, event_type, sum(events)::bigint as events,
                 sum(events)::double precision / 60 as events_per_s
        from     projector.attempts_by_status
        where    bucket_start >= date_trunc('minute', now() - interval '2 hours')
        and      bucket_start < date_trunc('minute', now())
        group by bucket_start, event_type
        order by minute desc, events desc, event_type
        """,
    )
    newest = {row["minute"] for row in rows[:1]}
    expected = [
        [row["event_type"], count(row["events"]), rate(row["events_per_s"])]
        for row in rows
        if row["minute"] in newest
    ]
    shown = [row[1:] for row in await cells(page, "#rates .figures")]
    return sorted(shown[: len(expected)]), sorted(expected)


async def why(page: Page, connection: asyncpg.Connection) -> tuple[Shown, Shown]:
    rows = await connection.fetch(
        f"""
        select   error_class, sum(calls)::bigint as calls
        from     projector.failures_by_error
        where    {DAY}
        group by error_class
        """,
    )
    expected = [
        [await error_text(connection, row["error_class"]), count(row["calls"])] for row in rows
    ]
    return sorted(await texts(page, "#why li", ".what", "b")), sorted(expected)


async def error_text(connection: asyncpg.Connection, error_class: str) -> str:
    """Return the page's name for a group: its class, or else its latest text."""
    if re.search(r"[^\W\d_]{2}", error_class):
        return error_class.strip()
    latest: str | None = await connection.fetchval(
        """
        select error from projector.failed_calls where error_class = $1
        order by finished_at desc limit 1
        """,
        error_class,
    )
    return latest or error_class.strip() or "(no text)"


Panel = Callable[[Page, asyncpg.Connection], Awaitable[tuple[Shown, Shown]]]
Write = Callable[[Any], str]


def unseen(_: object) -> str:
    """Write a column that isn't compared: a drawing, or a time that grows."""
    return ""


def part(of: Sequence[int]) -> str:
    return f"{count(of[0])} of {count(of[1])}"


async def expected(
    connection: asyncpg.Connection, writes: Sequence[Write], query: str, *values: str
) -> Shown:
    rows = await connection.fetch(query, *values)
    return [[write(value) for write, value in zip(writes, row, strict=True)] for row in rows]


def compared(rows: Shown, writes: Sequence[Write]) -> Shown:
    return [
        ["" if write is unseen else cell for write, cell in zip(writes, row, strict=False)]
        for row in rows
    ]


def listing(
    rows: Callable[[Page], Awaitable[Shown]],
    writes: Sequence[Write],
    query: str,
    *,
    are_ordered: bool = False,
) -> Panel:
    """A panel whose rows are those of a query, each column written by one of `writes`."""

    async def both(page: Page, connection: asyncpg.Connection) -> tuple[Shown, Shown]:
        shown = compared(await rows(page), writes)
        wanted = await expected(connection, writes, query)
        return (shown, wanted) if are_ordered else (sorted(shown), sorted(wanted))

    return both


PANELS: Final[Mapping[str, Panel]] = {
    "matrix": matrix,
    "outcomes": listing(
        partial(cells, table="#outcomes .figures"),
        ("{:%d %b %H:%M}".format, count, count, count, count),
        f"""
        select hour,
               coalesce(sum(executions) filter (where outcome = 'COMPLETED'), 0),
               coalesce(sum(executions) filter (where outcome = 'FAILED'), 0),
               coalesce(sum(executions) filter (where outcome = 'CANCELLED'), 0),
               coalesce(sum(executions) filter (where outcome = 'BEGUN'), 0)
        from   projector.execution_outcomes
        where  {DAY}
        group by hour order by hour desc
        """,
        are_ordered=True,
    ),
    "errors": errors,
    "first": listing(
        lambda page: texts(page, "#first li", ".what", "b", "small"),
        (named, percent, part),
        f"""
        select   step, sum(succeeded)::double precision / sum(calls),
                 array[sum(succeeded), sum(calls)]::bigint[]
        from     projector.call_outcomes_by_attempt
        where    {DAY} and attempts = 0
        group by step
        """,
    ),
    "storms": storms,
    "stuck": stuck,
    # The slowest is first.
    "durations": listing(
        partial(cells, table="#durations"),
        (named, attempt, unseen, unseen, span, unseen, count),
        f"""
        select   step, attempts, null, null, projector.percentile(0.95, bucket, calls) as p95_s,
                 null, sum(calls)::bigint
        from     projector.call_time_histogram
        where    {DAY} and measure = 'duration'
        group by step, attempts
        order by p95_s desc, projector.percentile(0.50, bucket, calls) desc, step, attempts
        """,
        are_ordered=True,
    ),
    "rates": rates,
    "why": why,
    "quarantine": listing(
        lambda page: texts(page, "#quarantine li", ".what", "b"),
        (str, count),
        f"""
        select   reason, sum(rejected)::bigint
        from     projector.quarantine_by_reason
        where    {DAY}
        group by reason
        """,
    ),
    "error_rate": listing(
        partial(cells, table="#rate .body > .scroll"),
        (named, percent, unseen, unseen, count, count),
        f"""
        select   step, sum(failed)::double precision / sum(calls), null, null, sum(failed)::bigint,
                 sum(calls)::bigint
        from     projector.call_outcomes_by_attempt
        where    {DAY}
        group by step
        """,
    ),
    "freshness": listing(
        partial(cells, table="#freshness"),
        (str, count),
        """
        select   topic || ' ' || partition, next_offset
        from     projector.freshness
        order by topic, partition
        """,
        are_ordered=True,
    ),
}
COERCIONS: Final = listing(
    lambda page: texts(page, "#coercions li", ".what", "b"),
    (str, count),
    f"""
    select   rule, sum(coercions)::bigint
    from     projector.coercions_by_rule
    where    {DAY}
    group by rule
    """,
)


async def unfolded(page: Page, within: str = "") -> None:
    """Every list in full length."""
    more = page.locator(f"{within} .more[aria-expanded=false]:not(.rule)")
    while await more.count():
        await more.first.click()


async def agree(both: Callable[[], Awaitable[tuple[Shown, Shown]]], panel: str) -> Shown:
    """Wait until the page and SQL show the same rows. Both are read again each time."""
    last: list[tuple[Shown, Shown]] = []

    async def same() -> bool:
        last[:] = [await both()]
        ((shown, wanted),) = last
        return shown == wanted

    async def have() -> str:
        ((shown, wanted),) = last
        return (
            f"{panel}: not shown {[row for row in wanted if row not in shown]}, "
            f"not in SQL {[row for row in shown if row not in wanted]}"
        )

    await until(same, have)
    return last[0][0]


async def agrees(panel: str, page: Page, platform: Platform) -> Shown:
    """Wait until this panel of the dashboard shows what SQL says, which is not nothing."""

    async def both() -> tuple[Shown, Shown]:
        await unfolded(page)
        return await PANELS[panel](page, platform.connection)

    shown = await agree(both, panel)
    assert shown, panel
    return shown


@pytest.mark.timeout(300)
async def test_every_panel_agrees_with_sql_and_goes_on_doing_so(
    browser: Browser, platform: Platform
) -> None:
    async with looking(browser, platform.url) as page:
        await page.evaluate("window.never = 'reloaded'")
        before = {panel: await agrees(panel, page, platform) for panel in PANELS}

        await platform.play(2)

        after = {panel: await agrees(panel, page, platform) for panel in PANELS}
        assert await page.evaluate("window.never") == "reloaded"
        # Two minutes of traffic move at least these.
        for panel in ("matrix", "outcomes", "errors", "first", "durations", "freshness"):
            assert after[panel] != before[panel], panel


async def test_coercions_on_the_screen_of_producers_agree_with_sql(
    browser: Browser, platform: Platform
) -> None:
    async with looking(browser, f"{platform.url}/?show=producers") as page:
        await unfolded(page)
        shown, wanted = await COERCIONS(page, platform.connection)
        assert shown == wanted != []


async def test_a_chart_draws_its_table_a_wide_table_fades_and_a_job_gets_a_panel(
    browser: Browser, platform: Platform
) -> None:
    async with looking(browser, platform.url) as page:
        await _a_chart_draws_what_its_table_says(page)
        await _a_table_that_is_wider_than_its_panel_fades_until_its_end(page)
        await _a_job_has_a_panel_once_there_is_one(page, platform)


async def _a_chart_draws_what_its_table_says(page: Page) -> None:
    hours, bars = await page.evaluate(
        """async () => {
            const { traces } = (await pageChart("chart-outcomes")).spec;
            const total = (name) => traces.find((one) => one.name === name).y
                .reduce((sum, one) => sum + one, 0);
            return [traces[0].y.length, ["completed", "failed", "cancelled"].map(total)];
        }"""
    )
    said = await page.get_attribute("#chart-outcomes", "aria-label")

    assert said is not None
    completed, failed, cancelled = (count(value) for value in bars)
    assert f"{completed} completed, {failed} failed, {cancelled} cancelled" in said
    # The whole window, as on every other chart of it.
    assert hours in (24, 25)
    compared, elsewhere = await page.evaluate(_NOT_WHERE_IT_STANDS)
    assert compared >= 5
    assert elsewhere == []


_NOT_WHERE_IT_STANDS: Final = """
    async () => {
        const { plot, spec } = await pageChart("chart-outcomes");
        const { copy, colour: completed } = copyOfChart(plot.ctx.canvas, "--completed");
        const has = (at, value, below, colour) => {
            const x = plot.valToPos(at, "x", true), y = plot.valToPos(value, "y", true);
            const { data } = copy.getImageData(Math.round(x), Math.round(y + below) - 2, 1, 5);
            const near = (n) => [0, 1, 2].every((c) => Math.abs(data[n + c] - colour[c]) < 60);
            return [0, 4, 8, 12, 16].some(near);
        };
        // A value stands over its interval, from its begin on. One that is not complete is paler.
        const inside = spec.x.map((at, n) => [at + spec.step * 0.6, n])
            .filter(([, n]) => spec.x[n] + spec.step <= spec.now);
        const y = (name) => spec.traces.find((one) => one.name === name).y;
        const high = spec.x.map((_, n) => y("failed")[n] + y("cancelled")[n] + y("completed")[n]);
        const ends = inside.filter(([, n]) => y("completed")[n] > 4);
        const wrong = ends.filter(([at, n]) => !has(at, high[n], 6, completed));
        return [ends.length, wrong.map(([at]) => new Date(at).toISOString())];
    }
"""


async def _a_job_has_a_panel_once_there_is_one(page: Page, platform: Platform) -> None:
    assert await page.locator("#jobs").count() == 0

    await insert_row(
        platform.connection, "normalizer.jobs", job_id="of-the-page", progress_ratio=0.42
    )

    try:
        await page.wait_for_selector("#jobs")
        ((_, kind, state, share, *_),) = await cells(page, "#jobs")
        assert (kind, state, share) == ("backfill", "interrupted", "42.0%")
    finally:
        await platform.connection.execute(
            "delete from normalizer.jobs where job_id = 'of-the-page'"
        )


async def _a_table_that_is_wider_than_its_panel_fades_until_its_end(page: Page) -> None:
    assert await page.evaluate(_FADE, [0, ""]) == 0
    assert await page.evaluate(_FADE, [0, "3000px"]) > 20
    assert await page.evaluate(_FADE, [9_999, "3000px"]) == 0


_FADE: Final = """
    ([to, width]) => {
        const box = document.querySelector("#errors .scroll");
        box.firstChild.style.width = width;
        box.scrollLeft = to;
        return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() =>
            done(parseFloat(getComputedStyle(box).getPropertyValue("--fade"))))));
    }
"""
