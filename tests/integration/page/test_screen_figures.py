"""Every number on Playbooks, Retries, Workers and queues, and Producers is what SQL says."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlencode

import asyncpg
import pytest
from playwright.async_api import Browser, Page

from tests.integration.page.browsing import cells, looking, serving, show
from tests.integration.page.test_panels import (
    DAY,
    Shown,
    Write,
    agree,
    attempt,
    compared,
    count,
    expected,
    named,
    percent,
    span,
    unfolded,
    unseen,
)
from tests.support.api_client import insert_events
from tests.support.stack import Stack
from tests.support.table_rows import connected

_RUNS: Final = (
    "execution_id in (select execution_id from projector.executions where status = 'RUNNING')"
)
DASH: Final = "\N{EN DASH}"
MINUS: Final = "\N{MINUS SIGN}"

HOUR: Final = timedelta(hours=1)


def or_unknown(value: str) -> str:
    return value or "(unknown)"


def unless_none(write: Write) -> Write:
    return lambda value: DASH if value is None else write(value)


def or_nobody(value: str) -> str:
    return value or "(no worker)"


def signed(seconds: float) -> str:
    return f"\N{MINUS SIGN}{span(-seconds)}" if seconds < 0 else span(seconds)


def clock(at: datetime) -> str:
    return f"{at:%H:%M:%S}" if at.date() == datetime.now(UTC).date() else f"{at:%d %b %H:%M:%S}"


def began(version: tuple[str, datetime | None]) -> str:
    """When a version of a playbook began, if that was in the window."""
    playbook, at = version
    return f"{clock(at)} new" if at else "earlier" if playbook else DASH


def hour(at: datetime) -> str:
    return f"{at:%d %b %H:%M}"


def waits(measure: str) -> str:
    return f"""
        select   step, attempts, null, projector.percentile(0.50, bucket, calls),
                 projector.percentile(0.95, bucket, calls),
                 projector.percentile(0.99, bucket, calls), sum(calls)::bigint
        from     projector.call_time_histogram
        where    {DAY} and measure = '{measure}'
        group by step, attempts
    """


AS_WAITS: Final[Sequence[Write]] = (named, attempt, unseen, span, span, span, count)


RETRIES: Final[dict[str, tuple[Sequence[Write], str]]] = {
    "recovery": (
        (named, attempt, count, count, percent),
        f"""
        select   step, attempts, sum(calls)::bigint, sum(succeeded)::bigint,
                 sum(succeeded)::double precision / sum(calls)
        from     projector.call_outcomes_by_attempt
        where    {DAY} and attempts > 0
        group by step, attempts
        """,
    ),
    "exhaustion": (
        (
            named,
            count,
            # 0 may also mean that no event says how many attempts are allowed.
            lambda exhausted: count(exhausted) if exhausted else "none known",
            lambda share: percent(share) if share else "\N{EN DASH}",
        ),
        f"""
        select   step, sum(failed)::bigint, sum(exhausted)::bigint,
                 sum(exhausted)::double precision / sum(failed)
        from     projector.call_outcomes_by_attempt
        where    {DAY}
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
        where    {DAY}
        group by step
        """,
    ),
    "backoffs": (AS_WAITS, waits("backoff")),
    "with-failures": (
        (str, or_unknown, count, clock, clock),
        f"""
        select   execution_id, playbook, failed_calls, last_failed_at, ended_at
        from     projector.completed_with_failures
        where    {DAY}
        order by ended_at desc, execution_id desc
        limit    100
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
        where    {DAY}
        group by worker_id
        """,
    ),
    "open-by-step": (
        (named, str, count, count),
        f"""
        select   step, waits_for, count(*), count(*) filter (where attempts > 0)
        from     projector.open_calls
        where    {DAY} and {_RUNS}
        group by step, waits_for
        """,
    ),
    "queue": (AS_WAITS, waits("queue")),
    "open": (
        (str, str, attempt, str, unseen, unless_none(str)),
        f"""
        select   execution_id, step, attempts, waits_for, null, worker_id
        from     projector.open_calls
        where    {DAY} and {_RUNS}
        order by hour, since, execution_id, step, coalesce(command_id, ''),
                 coalesce(iteration, -1), attempts
        limit    100
        """,
    ),
    "open-loops": (
        (str, named, percent, count, count, count, clock, clock),
        f"""
        select   execution_id, loop.step, loop.done::double precision / loop.issued, loop.done,
                 loop.issued, loop.failed, first_at, last_at
        from     (
                     select * from projector.executions where {DAY} and status = 'RUNNING'
                 ) as execution
        join     projector.loops as loop using (execution_id)
        where    loop.done + loop.failed < loop.issued
        order by execution.hour, first_at, execution_id, loop.step
        limit    100
        """,
    ),
    "without-end": (
        (str, or_unknown, count, clock),
        """
        select   execution_id, playbook, calls, last_finished_at
        from     projector.executions_without_end
        order by hour, execution_id
        limit    100
        """,
    ),
}
PRODUCERS: Final[dict[str, tuple[Sequence[Write], str]]] = {
    "without-command": (
        (named, str, count),
        f"""
        select   step, event_type, sum(events)::bigint
        from     projector.calls_without_command
        where    {DAY}
        group by step, event_type
        """,
    ),
    "defaults": (
        (unless_none(str), count, count, count, count),
        f"""
        select   shape, sum(events)::bigint, sum(attempts_defaulted)::bigint,
                 sum(status_from_name)::bigint, sum(time_from_log)::bigint
        from     projector.defaults_by_shape
        where    {DAY}
        group by shape
        """,
    ),
    "late": (
        (str, str, count),
        f"""
        select   shape, lateness, sum(events)::bigint
        from     projector.late_arrivals
        where    {DAY}
        group by shape, lateness
        """,
    ),
    "gaps": (
        (str, count, str),
        """
        select topic || ':' || partition || ':' || first_offset, offsets, reason
        from   projector.gaps
        where  found_at >= date_trunc('hour', now() - interval '24 hours')
        order by found_at desc
        limit  100
        """,
    ),
    "drift": (
        (str, str, str, str, str),
        f"""
        select field, shape, type, kind, topic || ':' || partition || ':' || source_offset
        from   projector.drift
        where  {DAY}
        """,
    ),
    "events": (
        (str, attempt, str, count),
        f"""
        select   event_type, attempts, status, sum(events)::bigint
        from     projector.event_counts
        where    {DAY}
        group by event_type, attempts, status
        having   sum(events) <> 0
        """,
    ),
    "clocks": (
        (or_nobody, unless_none(signed), count, count),
        f"""
        select   worker_id,
                 sum(skew_s) / nullif(sum(events) filter (where lateness <> 'unknown'), 0)
                     ::double precision,
                 coalesce(sum(events) filter (where lateness = 'clock ahead'), 0)::bigint,
                 sum(events)::bigint
        from     projector.late_arrivals
        where    {DAY}
        group by worker_id
        """,
    ),
    "contradicting": (
        (str, unseen, or_unknown, clock, clock),
        f"""
        select   execution_id, status, playbook, ended_at, last_activity_at
        from     projector.contradicting_executions
        where    {DAY}
        order by ended_at desc, execution_id desc
        limit    100
        """,
    ),
}
PLAYBOOKS: Final[dict[str, tuple[Sequence[Write], str]]] = {
    "versions": (
        [or_unknown, unless_none(str), began, *[count] * 5, unless_none(span), hour],
        f"""
        select   playbook, version,
                 row(
                     playbook,
                     (
                         select first_at
                         from   projector.deployments
                         where  {DAY} and playbook = counted.playbook
                         and    version is not distinct from counted.version
                     )
                 ),
                 sum(executions)::bigint, sum(completed)::bigint,
                 sum(failed)::bigint, sum(cancelled)::bigint,
                 sum(executions - completed - failed - cancelled)::bigint,
                 sum(total_duration_s) / nullif(sum(completed + failed + cancelled), 0), max(hour)
        from     projector.playbook_versions as counted
        where    {DAY}
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
        where  {DAY} and playbook = $1::text
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
    select   begun.version, count(*), count(*) filter (where status <> 'RUNNING'),
             count(*) filter (where status = 'RUNNING'),
             count(*) filter (where status = 'COMPLETED')::double precision
                 / nullif(count(*) filter (where status <> 'RUNNING'), 0),
             max(first_rate), percentile_cont(0.5) within group (order by duration_s),
             percentile_cont(0.95) within group (order by duration_s),
             coalesce(max(called.failed_calls), 0), coalesce(max(called.calls), 0),
             min(first_at), max(first_at)
    from     begun
    left join called on called.version is not distinct from begun.version
    group by 1
"""
_AS_VERSIONS: Final[Sequence[Write]] = (
    lambda one: f"v{one}" if one else "(none)", count, count, count, unless_none(percent),
    unless_none(percent), unless_none(span), unless_none(span), count, count, clock, clock,
)  # fmt: skip
_ERRORS: Final = f"""
    select   call.error_class, count(*)
    from     (
                 select execution_id from projector.executions
                 where  {DAY} and playbook = $1::text
                 and    first_at >= date_trunc('hour', now() - interval '24 hours')
                 order by first_at desc, execution_id desc
                 limit  20000
             ) as begun
    join     projector.calls as call using (execution_id)
    where    call.finished_at is not null and call.status <> 'COMPLETED'
    group by 1
"""


_VERSION_STEPS: Final = f"""
    with called as (
        select   execution.version, call.step, count(*) as calls,
                 count(*) filter (where call.status <> 'COMPLETED')::double precision
                     / count(*) as failed,
                 percentile_cont(0.5) within group (order by call.duration_s) as p50_s
        from     (
                     select * from projector.executions
                     where  {DAY} and playbook = $1::text
                     and    first_at >= date_trunc('hour', now() - interval '24 hours')
                     order by first_at desc, execution_id desc
                     limit  20000
                 ) as execution
        join     projector.calls as call using (execution_id)
        where    call.finished_at is not null
        group by execution.version, call.step
    )
    select * from called
"""


async def agree_as(
    page: Page, panel: str, connection: asyncpg.Connection, writes: Sequence[Write], query: str,
    *values: str,
) -> Shown:  # fmt: skip
    """Wait until the whole table of the panel shows what SQL says at the same moment."""

    async def both() -> tuple[Shown, Shown]:
        wanted = sorted(await expected(connection, writes, query, *values))
        await unfolded(page, f"#{panel}")
        return sorted(compared(await cells(page, f"#{panel}"), writes)), wanted

    return await agree(both, panel)


async def figures_agree(page: Page, url: str, connection: asyncpg.Connection) -> dict[str, int]:
    """Compare every panel of these screens. Returns how many rows each had."""
    rows = {}
    for screen, panels in SCREENS.items():
        await show(page, f"{url}/?show={screen}")
        for panel, (writes, query) in panels.items():
            rows[panel] = len(await agree_as(page, panel, connection, writes, query))
        if screen == "retries":
            await _the_sentence_is_right(page, connection)
    playbook = await connection.fetchval(
        f"""
        select   playbook
        from     projector.playbook_versions
        where    {DAY} and playbook <> ''
        group by playbook
        order by sum(executions) desc, playbook
        limit    1
        """
    )
    await show(page, f"{url}/?{urlencode({'show': 'playbooks', 'playbook': playbook})}")
    await agree_as(page, "versions", connection, _AS_VERSIONS, _ONE_PLAYBOOK, playbook)
    by_error = {
        re.split(r" only | all on | v\S+: ", error)[0].strip(): sum(
            int(one.partition(" ")[0].replace(",", "")) for one in calls
        )
        for error, *calls in await cells(page, "#version-errors")
    }
    await _the_steps_are_right(page, connection, playbook)
    want = dict(await connection.fetch(_ERRORS, playbook))
    assert by_error == {(error.strip() or "(no text)"): calls for error, calls in want.items()}
    return rows


async def _the_steps_are_right(page: Page, connection: asyncpg.Connection, playbook: str) -> None:
    """The table of steps has the figures of each of the latest versions beside each other."""
    latest = [row[0] for row in await cells(page, "#versions")][:4]
    assert latest
    called = {
        (step, f"v{version}" if version else "(none)"): (count(calls), percent(failed), p50_s)
        for version, step, calls, failed, p50_s in await connection.fetch(_VERSION_STEPS, playbook)
    }
    await unfolded(page, "#version-steps")
    heads = await page.locator("#version-steps thead th").all_inner_texts()
    shown = {
        re.split(r" only | v\S+: ", row[0])[0].strip(): dict(zip(heads, row, strict=True))
        for row in await cells(page, "#version-steps")
    }
    assert set(shown) == {named(step) for step, version in called if version in latest}
    for step, row in shown.items():
        for version in latest:
            key = ("" if step == "(no step)" else step, version)
            calls, failed, p50_s = called.get(key, ("0", DASH, None))
            assert row[f"Calls {version}"] == calls
            assert row[f"Failed {version}"] == failed
            assert row[f"p50 {version}"] == (DASH if p50_s is None else span(p50_s))


async def _the_sentence_is_right(page: Page, connection: asyncpg.Connection) -> None:
    failed, saved = await connection.fetchrow(
        f"""
        select coalesce(sum(failed) filter (where attempts = 0), 0)::bigint,
               coalesce(sum(succeeded) filter (where attempts > 0), 0)::bigint
        from   projector.call_outcomes_by_attempt
        where  {DAY}
        """
    )
    wait_s = await connection.fetchval(
        f"""
        select projector.percentile(0.50, bucket, calls)
        from   projector.call_time_histogram
        where  {DAY} and measure = 'backoff' and status = 'COMPLETED'
        """
    )
    saved_of = f"{count(saved)} of {count(failed)} failed calls"
    sentence = await page.inner_text("#worth .sentence")
    assert sentence == f"Retries saved {saved_of} after a median wait of {span(wait_s)}."


async def _dashboard_marks(page: Page, url: str, connection: asyncpg.Connection) -> None:
    """Both charts over time have a mark for each version, and name the latest."""
    marks = await connection.fetch(
        f"select playbook, version, first_at from projector.deployments where {DAY} "
        "order by first_at desc, playbook, version"
    )
    await show(page, url)
    for chart in ("outcomes", "rate"):
        drawn: list[float] = await page.evaluate(_MARKS, f"chart-{chart}")
        assert drawn == [int(row["first_at"].timestamp() * 1000) for row in marks]
        triangles: list[bool] = await page.evaluate(_TRIANGLES, f"chart-{chart}")
        assert triangles
        assert all(triangles)
        links = await page.locator(f"#{chart} .marks a").all_inner_texts()
        latest = " v".join(filter(None, (marks[0]["playbook"], marks[0]["version"])))
        assert links[0].startswith(f"{latest}, ")


_MARKS: Final = """
    async (id) => {
        return (await pageChart(id)).spec.marks.map(({ at }) => at);
    }
"""


_TRIANGLES: Final = """
    async (id) => {
        const { plot, spec } = await pageChart(id);
        const { copy, colour: ink } = copyOfChart(plot.ctx.canvas, "--ink-2");
        const first = spec.x.map((bin) => Math.min(...spec.marks.map(({ at }) => at)
            .filter((at) => at >= bin && at < bin + spec.step))).filter(Number.isFinite);
        return first.map((at) => {
            const x = Math.round(plot.valToPos(at, "x", true));
            const { data } = copy.getImageData(x, plot.bbox.top - 2 * devicePixelRatio, 1, 1);
            return [0, 1, 2, 3].every((n) => Math.abs(data[n] - ink[n]) < 60);
        });
    }
"""
"""Whether the first mark of each bin has its triangle above the chart."""


def points(change: float) -> str:
    if abs(change) < 0.0005:
        return "as before"
    # As the page: half a tenth is rounded up.
    return f"{'+' if change > 0 else MINUS}{int(abs(change) * 1000 + 0.5) / 10:.1f} points"


async def _rates_agree(page: Page, url: str, connection: asyncpg.Connection) -> None:
    """The error rate over time and by step, of the last full hour and the one before it."""
    until = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    bounds = {"since": until - HOUR, "until": until}
    query = {name: f"{at:%Y-%m-%dT%H:%M:%SZ}" for name, at in bounds.items()}
    await show(page, f"{url}/?{urlencode(query)}")
    lines = await page.evaluate(_LINES)
    for line, (since, end) in zip(
        lines, ((until - HOUR, until), (until - 2 * HOUR, until - HOUR)), strict=True
    ):
        rows = await connection.fetch(_BY_MINUTE, since, end)
        rates = {(row["minute"] - since).seconds // 60: row["percent"] for row in rows}
        assert line == [pytest.approx(rates[n]) if n in rates else None for n in range(60)]
    await unfolded(page, "#rate")
    rows = await connection.fetch(_STEPS, until - HOUR, until)
    oldest = await connection.fetchval("select min(hour) from projector.call_outcomes_by_attempt")
    # A step is new only if the window before has enough of a past to tell.
    absent = DASH if oldest > until - 1.5 * HOUR else "new"
    assert sorted(await cells(page, "#rate .body > .scroll")) == sorted(
        [
            named(step),
            percent(rate),
            absent if was is None else percent(was),
            DASH if was is None else points(rate - was),
            count(bad),
            count(all_),
        ]
        for step, rate, was, bad, all_ in rows
    )


_LINES: Final = """
    async () => {
        const { traces } = (await pageChart("chart-rate")).spec;
        return traces.map(({ y }) => y);
    }
"""
_BY_MINUTE: Final = """
    select   date_trunc('minute', finished_at) as minute,
             count(*) filter (where status <> 'COMPLETED') * 100.0::double precision / count(*)
                 as percent
    from     projector.calls
    where    finished_at >= $1::timestamptz and finished_at < $2::timestamptz
    group by 1
"""
_STEPS: Final = """
    select   now.step, sum(now.failed)::double precision / sum(now.calls),
             (
                 select sum(failed)::double precision / sum(calls)
                 from   projector.call_outcomes_by_attempt as was
                 where  was.hour = $1::timestamptz - interval '1 hour' and was.step = now.step
             ),
             sum(now.failed)::bigint, sum(now.calls)::bigint
    from     projector.call_outcomes_by_attempt as now
    where    now.hour >= $1::timestamptz and now.hour < $2::timestamptz
    group by now.step
"""


@pytest.mark.parametrize(
    "events",
    [
        8_000,
        pytest.param(1_000_000, marks=[pytest.mark.soak, pytest.mark.timeout(3_600)]),
    ],
)
async def test_every_number_of_the_four_screens_is_that_of_sql_however_many_events(
    browser: Browser, stack: Stack, events: int
) -> None:
    cluster = await stack.cluster("current")
    async with cluster.database() as database:
        await insert_events(database, events)
        async with (
            connected(database) as connection,
            serving(database.url) as url,
            looking(browser, url, visit=False) as page,
        ):
            rows = await figures_agree(page, url, connection)
            await _dashboard_marks(page, url, connection)
            await _rates_agree(page, url, connection)

    assert [panel for panel, had in rows.items() if not had and panel != "gaps"] == []
    assert rows["versions"] >= 30
