"""Every number on Playbooks, Retries, Workers and queues, and Producers is what SQL says."""

from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import asyncpg
import pytest
from playwright.async_api import Browser, Page

from tests.integration.page.browsing import cells, fully_drawn, looking, serving
from tests.integration.page.platform import Platform
from tests.integration.page.test_panels import attempt, count, named, percent, span
from tests.support.api_client import insert_events
from tests.support.service_runs import until
from tests.support.stack import Stack

_DAY: Final = "hour >= date_trunc('hour', now() - interval '24 hours') and hour < now()"
DASH: Final = "\N{EN DASH}"

Shown = list[list[str]]
Write = Callable[[Any], str]


def text(value: object) -> str:
    return str(value)


def or_unknown(value: str) -> str:
    return value or "(unknown)"


def unless_none(write: Write) -> Write:
    return lambda value: DASH if value is None else write(value)


RETRIES: Final[dict[str, tuple[Sequence[Write], str]]] = {
    "recovery": (
        (named, attempt, count, count, percent),
        f"""
        select   step, attempts, sum(calls)::bigint, sum(succeeded)::bigint,
                 sum(succeeded)::double precision / sum(calls)
        from     projector.call_outcomes_by_attempt
        where    {_DAY} and attempts > 0
        group by step, attempts
        """,
    ),
    "exhaustion": (
        (named, count, count, percent),
        f"""
        select   step, sum(failed)::bigint, sum(exhausted)::bigint,
                 sum(exhausted)::double precision / sum(failed)
        from     projector.call_outcomes_by_attempt
        where    {_DAY}
        group by step
        having   sum(failed) > 0
        """,
    ),
    "per-success": (
        (named, count, count, unless_none(lambda one: f"{one:.2f}")),
        f"""
        select   step, sum(calls)::bigint, sum(succeeded)::bigint,
                 sum(calls)::double precision / nullif(sum(succeeded), 0)
        from     projector.call_outcomes_by_attempt
        where    {_DAY}
        group by step
        """,
    ),
}
WORKERS: Final[dict[str, tuple[Sequence[Write], str]]] = {
    "workers": (
        (or_unknown, count, count, percent),
        f"""
        select   worker_id, sum(calls)::bigint, sum(failed)::bigint,
                 sum(failed)::double precision / sum(calls)
        from     projector.worker_failures
        where    {_DAY}
        group by worker_id
        """,
    ),
    "open-by-step": (
        (named, text, count, count),
        f"""
        select   step, waits_for, count(*), count(*) filter (where attempts > 0)
        from     projector.open_calls
        where    {_DAY}
        group by step, waits_for
        """,
    ),
}
PRODUCERS: Final[dict[str, tuple[Sequence[Write], str]]] = {
    "without-command": (
        (named, text, count),
        f"""
        select   step, event_type, sum(events)::bigint
        from     projector.calls_without_command
        where    {_DAY}
        group by step, event_type
        """,
    ),
    "defaults": (
        (unless_none(text), count, count, count, count),
        f"""
        select   shape, sum(events)::bigint, sum(attempts_defaulted)::bigint,
                 sum(status_from_name)::bigint, sum(time_from_log)::bigint
        from     projector.defaults_by_shape
        where    {_DAY}
        group by shape
        """,
    ),
    "late": (
        (text, text, count),
        f"""
        select   shape, lateness, sum(events)::bigint
        from     projector.late_arrivals
        where    {_DAY}
        group by shape, lateness
        """,
    ),
    "gaps": (
        (text, count, text),
        """
        select topic || ':' || partition || ':' || first_offset, offsets, reason
        from   projector.gaps
        where  found_at >= date_trunc('hour', now() - interval '24 hours')
        order by found_at desc
        limit  100
        """,
    ),
    "drift": (
        (text, text, text, text, text),
        f"""
        select field, shape, type, kind, topic || ':' || partition || ':' || source_offset
        from   projector.drift
        where  {_DAY}
        """,
    ),
    "events": (
        (text, attempt, text, count),
        f"""
        select   event_type, attempts, status, sum(events)::bigint
        from     projector.event_counts
        where    {_DAY}
        group by event_type, attempts, status
        having   sum(events) <> 0
        """,
    ),
}
PLAYBOOKS: Final[dict[str, tuple[Sequence[Write], str]]] = {
    "versions": (
        (or_unknown, unless_none(text), count, count, count, unless_none(span)),
        f"""
        select   playbook, version, sum(executions)::bigint, sum(completed)::bigint,
                 sum(failed)::bigint,
                 sum(total_duration_s) / nullif(sum(completed + failed + cancelled), 0)
        from     projector.playbook_versions
        where    {_DAY}
        group by playbook, version
        """,
    ),
}
SCREENS: Final = {
    "playbooks": PLAYBOOKS,
    "retries": RETRIES,
    "workers": WORKERS,
    "producers": PRODUCERS,
}
_ONE_PLAYBOOK: Final = f"""
    with begun as materialized (
        select * from projector.executions
        where  {_DAY} and playbook = $1::text
        and    first_at >= date_trunc('hour', now() - interval '24 hours')
        order by first_at desc, execution_id desc
        limit  20000
    ),
    called as (
        select   begun.version, count(*) as calls,
                 count(*) filter (where call.status <> 'COMPLETED') as failed_calls,
                 count(*) filter (where call.attempts = 0 and call.status = 'COMPLETED')
                     ::double precision
                     / nullif(count(*) filter (where call.attempts = 0), 0) as first_rate
        from     begun
        join     projector.calls as call using (execution_id)
        where    call.finished_at is not null
        group by 1
    )
    select   begun.version, count(*),
             count(*) filter (where status = 'COMPLETED')::double precision
                 / nullif(count(*) filter (where status <> 'RUNNING'), 0),
             max(first_rate), percentile_cont(0.5) within group (order by duration_s),
             percentile_cont(0.95) within group (order by duration_s),
             coalesce(max(called.failed_calls), 0), coalesce(max(called.calls), 0)
    from     begun
    left join called on called.version is not distinct from begun.version
    group by 1
"""
_AS_VERSIONS: Final[Sequence[Write]] = (
    lambda one: one or "(none)", count, unless_none(percent), unless_none(percent),
    unless_none(span), unless_none(span), count, count,
)  # fmt: skip
_ERRORS: Final = f"""
    select   call.error_class, count(*)
    from     (
                 select execution_id from projector.executions
                 where  {_DAY} and playbook = $1::text
                 and    first_at >= date_trunc('hour', now() - interval '24 hours')
                 order by first_at desc, execution_id desc
                 limit  20000
             ) as begun
    join     projector.calls as call using (execution_id)
    where    call.finished_at is not null and call.status <> 'COMPLETED'
    group by 1
"""


async def expected(
    connection: asyncpg.Connection, writes: Sequence[Write], query: str, *values: str
) -> Shown:
    rows = await connection.fetch(query, *values)
    return [[write(value) for write, value in zip(writes, row, strict=True)] for row in rows]


async def shown(page: Page, panel: str, columns: int) -> Shown:
    """All rows of a panel's table, unfolded, each with this many columns."""
    more = page.locator(f"#{panel} .more[aria-expanded=false]")
    while await more.count():
        await more.first.click()
    return [row[:columns] for row in await cells(page, f"#{panel}")]


async def agree(
    page: Page, panel: str, connection: asyncpg.Connection, writes: Sequence[Write], query: str,
    *values: str,
) -> Shown:  # fmt: skip
    """Wait until the panel shows what SQL says at the same moment."""
    last: list[Shown] = []

    async def same() -> bool:
        want = sorted(await expected(connection, writes, query, *values))
        last[:] = [sorted(await shown(page, panel, len(writes))), want]
        return last[0] == last[1]

    async def have() -> str:
        have, want = last
        return f"{panel}: {[one for one in have if one not in want]} instead of " + str(
            [one for one in want if one not in have]
        )

    await until(same, have)
    return last[0]


async def figures_agree(page: Page, url: str, connection: asyncpg.Connection) -> dict[str, int]:
    """Compare every panel of these screens. Returns how many rows each had."""
    rows = {}
    for screen, panels in SCREENS.items():
        await page.goto(f"{url}/?show={screen}")
        await fully_drawn(page)
        for panel, (writes, query) in panels.items():
            rows[panel] = len(await agree(page, panel, connection, writes, query))
        if screen == "retries":
            await _the_sentence_is_right(page, connection)
    playbook = await connection.fetchval(
        f"""
        select   playbook
        from     projector.playbook_versions
        where    {_DAY} and playbook <> ''
        group by playbook
        order by sum(executions) desc, playbook
        limit    1
        """
    )
    await page.goto(f"{url}/?{urlencode({'show': 'playbooks', 'playbook': playbook})}")
    await fully_drawn(page)
    await agree(page, "versions", connection, _AS_VERSIONS, _ONE_PLAYBOOK, playbook)
    by_error = {
        error.rsplit(" only ", 1)[0].strip(): sum(int(one.replace(",", "")) for one in calls)
        for error, *calls in await shown(page, "version-errors", 9)
    }
    want = dict(await connection.fetch(_ERRORS, playbook))
    assert by_error == {(error.strip() or "(no text)"): calls for error, calls in want.items()}
    return rows


async def _the_sentence_is_right(page: Page, connection: asyncpg.Connection) -> None:
    failed, saved = await connection.fetchrow(
        f"""
        select coalesce(sum(failed) filter (where attempts = 0), 0)::bigint,
               coalesce(sum(succeeded) filter (where attempts > 0), 0)::bigint
        from   projector.call_outcomes_by_attempt
        where  {_DAY}
        """
    )
    sentence = await page.inner_text("#worth .sentence")
    assert sentence.startswith(f"Retries saved {count(saved)} of {count(failed)} failed call")


async def _dashboard_marks(page: Page, url: str, connection: asyncpg.Connection) -> None:
    """Both charts over time have a mark for each version, and name the latest."""
    marks = await connection.fetch(
        f"select playbook, version, first_at from projector.deployments where {_DAY} "
        "order by first_at desc, playbook, version"
    )
    await page.goto(url)
    await fully_drawn(page)
    for chart in ("outcomes", "rate"):
        drawn: list[float] = await page.evaluate(_MARKS, f"chart-{chart}")
        assert drawn == [int(row["first_at"].timestamp() * 1000) for row in marks]
        links = await page.locator(f"#{chart} .marks a").all_inner_texts()
        latest = " ".join(filter(None, (marks[0]["playbook"], marks[0]["version"])))
        assert links[0].startswith(f"{latest}, ")


_MARKS: Final = """
    async (id) => {
        const module = document.querySelector("link[href$='charts.js']").href;
        const { drawn } = await import(module);
        return drawn.get(document.getElementById(id)).spec.marks.map(({ at }) => at);
    }
"""


@pytest.mark.timeout(300)
async def test_every_number_of_the_four_screens_is_that_of_sql(
    browser: Browser, platform: Platform
) -> None:
    # Only a sample of the traffic is examined for drift, and it may have none.
    await platform.connection.execute(
        """
        insert into normalizer.drift_findings (
            shape, field, type, kind, source_topic, source_incarnation, source_partition,
            source_offset, example
        ) values ('worker', 'tenant', 'text', 'unknown_key', 'noetl.events', 0, 3, 7, 'blue')
        """
    )
    async with looking(browser, platform.url, visit=False) as page:
        rows = await figures_agree(page, platform.url, platform.connection)
        await _dashboard_marks(page, platform.url, platform.connection)

    assert [panel for panel, had in rows.items() if not had and panel != "gaps"] == []


@pytest.mark.soak
@pytest.mark.timeout(3_600)
async def test_every_number_of_the_four_screens_is_that_of_sql_over_a_million_events(
    browser: Browser, stack: Stack
) -> None:
    cluster = await stack.cluster("current")
    async with cluster.database() as database:
        await insert_events(database, 1_000_000)
        connection = await asyncpg.connect(database.admin_url)
        async with (
            serving(database.url) as url,
            looking(browser, url, visit=False) as page,
        ):
            rows = await figures_agree(page, url, connection)
            await _dashboard_marks(page, url, connection)
        await connection.close()

    assert rows["versions"] >= 30
