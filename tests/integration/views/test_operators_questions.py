"""Each question of an operator, answered from the views by SQL alone, beside a plain fold."""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg
import pytest

from projector.views.operator_questions import OPERATOR_QUESTIONS
from simulator.view_fold import Row
from tests.support import view_rows
from tests.support.api_client import insert_events
from tests.support.projection_oracle import _bucket, _percentiles, expected_views
from tests.support.stack import Stack
from tests.support.table_rows import connected, insert_row

View = list[Row]
Views = dict[str, View]


@pytest.fixture(scope="module")
async def connection(stack: Stack) -> AsyncIterator[asyncpg.Connection]:
    """Three hours of history up to now, read only."""
    cluster = await stack.cluster("current")
    async with cluster.database() as made, connected(made) as connection:
        await insert_events(made, 1_000)
        await insert_row(connection, "normalizer.jobs", job_id="job-1", state="complete")
        await connection.execute(_REST)
        yield connection


@pytest.fixture(scope="module")
async def views(connection: asyncpg.Connection) -> Views:
    """Return the rows that every view must show, by the fold."""
    columns: dict[str, list[str]] = defaultdict(list)
    for view, name in await connection.fetch(_COLUMNS):
        if name not in view_rows.NOT_EXPECTED.get(view, ()):
            columns[view].append(name)
    folded = expected_views(await view_rows.stored(connection))
    return {
        view: [dict(zip(columns[view], row, strict=True)) for row in rows]
        for view, rows in folded.items()
    }


async def ask(connection: asyncpg.Connection, number: int) -> View:
    return [dict(row) for row in await connection.fetch(OPERATOR_QUESTIONS[number - 1].query)]


def added(rows: Iterable[Row], keys: str, sums: str) -> View:
    """Rows by these keys, with these columns added up."""
    totals: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    for row in rows:
        for one in sums.split():
            totals[tuple(row[key] for key in keys.split())][one] += int(row[one])
    return [
        dict(zip(keys.split(), key, strict=True)) | {one: counts[one] for one in sums.split()}
        for key, counts in totals.items()
    ]


def first_tries(views: Views) -> View:
    rows = [row for row in views["call_outcomes_by_attempt"] if row["attempts"] == 0]
    return [
        row | {"success_rate": row["succeeded"] / row["calls"]}
        for row in added(rows, "hour step", "succeeded calls")
    ]


def error_rates(views: Views) -> View:
    return [
        row | {"error_rate": row["failed"] / row["calls"]}
        for row in added(views["call_outcomes_by_attempt"], "attempts", "failed calls")
    ]


def recovery(views: Views) -> View:
    rows = [row for row in views["call_outcomes_by_attempt"] if row["attempts"] > 0]
    return [
        {
            "step": row["step"], "attempts": row["attempts"], "recovered": row["succeeded"],
            "retries": row["calls"], "recovery_rate": row["succeeded"] / row["calls"],
        }
        for row in added(rows, "step attempts", "succeeded calls")
    ]  # fmt: skip


def exhaustion(views: Views) -> View:
    rows = added(views["call_outcomes_by_attempt"], "step", "exhausted failed")
    return [row for row in rows if row["failed"]]


def tries_per_success(views: Views) -> View:
    return [
        {
            "step": row["step"], "tries": row["calls"], "succeeded": row["succeeded"],
            "tries_per_success": row["calls"] / row["succeeded"] if row["succeeded"] else None,
        }
        for row in added(views["call_outcomes_by_attempt"], "step", "calls succeeded")
    ]  # fmt: skip


def storms(views: Views) -> View:
    this = views["running_minute"][0]["minute"]
    since, before = this - timedelta(minutes=5), this - timedelta(minutes=65)
    steps: dict[str, Counter[str]] = defaultdict(Counter)
    for row in views["retries_by_minute"]:
        if row["minute"] >= before:
            when = "now" if row["minute"] >= since else "baseline"
            for what in ("first_tries", "retries"):
                steps[row["step"]][f"{what}_{when}"] += row[what]
    rows = []
    for step, counts in steps.items():
        now = counts["retries_now"] / max(counts["first_tries_now"], 1)
        known = counts["first_tries_baseline"] + counts["retries_baseline"]
        usual = (
            counts["retries_baseline"] / max(counts["first_tries_baseline"], 1) if known else None
        )
        if counts["retries_now"] + counts["retries_baseline"]:
            rows.append(
                {name: counts[name] for name in (
                    "first_tries_now", "retries_now", "first_tries_baseline", "retries_baseline",
                )} | {
                    "step": step, "ratio_now": now, "ratio_baseline": usual,
                    "storm": counts["retries_now"] >= 20 and now >= 3 * max(usual or 0, 0.1),
                }
            )  # fmt: skip
    return rows


def stuck(views: Views) -> View:
    """Every execution without an end is of a partition that is read."""
    names = ("execution_id", "last_event_type", "last_step")
    return [
        {name: row[name] for name in names} | {"begun": row["begun_at"] is not None}
        for row in views["executions"]
        if row["ended_at"] is None
    ]


def waiting(views: Views) -> View:
    groups: dict[tuple[str, str], list[datetime]] = defaultdict(list)
    for row in views["open_calls"]:
        groups[row["waits_for"], row["step"]].append(row["since"])
    return [
        {"waits_for": what, "step": step, "calls": len(since), "oldest": min(since)}
        for (what, step), since in groups.items()
    ]


def percentiles(measure: str, keys: str, names: tuple[str, ...]) -> Callable[[Views], View]:
    def expected(views: Views) -> View:
        groups: dict[tuple[Any, ...], Counter[int]] = defaultdict(Counter)
        for row in views["call_time_histogram"]:
            if row["measure"] == measure:
                groups[tuple(row[key] for key in keys.split())][row["bucket"]] += row["calls"]
        return [
            dict(zip(keys.split(), key, strict=True))
            | {
                name: value
                for name, value in zip(
                    ("calls", "p50_s", "p95_s", "p99_s"), _percentiles(counts), strict=True
                )
                if name in names
            }
            for key, counts in groups.items()
        ]

    return expected


def columns(view: str, names: str) -> Callable[[Views], View]:
    return lambda views: [{name: row[name] for name in names.split()} for row in views[view]]


def greatest(views: Views) -> int:
    """The execution of the most events, and of those the one with the least id."""
    best = min(views["executions"], key=lambda row: (-row["events"], row["execution_id"]))
    return int(best["execution_id"])


def timelines(views: Views) -> View:
    names = "step iteration attempts status issued_at claimed_at started_at finished_at".split()
    of = greatest(views)
    return [
        {name: row[name] for name in names} for row in views["calls"] if row["execution_id"] == of
    ]


def rates(views: Views) -> View:
    rows = added(views["attempts_by_status"], "bucket_start event_type", "events")
    return [row | {"events_per_s": row["events"] / 60} for row in rows]


def unsaid(views: Views) -> View:
    """With the one rejection that is no event's."""
    rows: Counter[tuple[str, str, str]] = Counter({("rejected", "", "invalid_json"): 1})
    for row in views["coercions_by_rule"]:
        rows["guessed", row["shape"], row["rule"]] += row["coercions"]
    for row in views["defaults_by_shape"]:
        rows["unsaid", row["shape"], "attempts"] += row["attempts_defaulted"]
    return [
        {"what": what, "shape": shape, "kind": kind, "number": number}
        for (what, shape, kind), number in rows.items()
    ]


def clocks(views: Views) -> View:
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in views["late_arrivals"]:
        if row["worker_id"] and row["lateness"] != "unknown":
            rows[row["worker_id"]].append(row)
    return [
        {
            "worker_id": worker,
            "events": sum(row["events"] for row in them),
            "on_time": sum(row["events"] for row in them if row["on_time"]),
            "ahead": sum(row["events"] for row in them if row["lateness"] == "clock ahead"),
            "mean_skew_s": sum(row["skew_s"] for row in them) / sum(row["events"] for row in them),
        }
        for worker, them in rows.items()
    ]


def open_loops(views: Views) -> View:
    rows = columns("loops", "execution_id step done failed issued")(views)
    return [row for row in rows if row["done"] + row["failed"] < row["issued"]]


EXPECTED: Final[dict[int, Callable[[Views], View]]] = {
    1: first_tries,
    2: error_rates,
    3: recovery,
    4: storms,
    5: exhaustion,
    6: tries_per_success,
    7: stuck,
    8: waiting,
    9: columns("executions_without_end", "execution_id calls last_finished_at"),
    10: percentiles("duration", "step attempts", ("calls", "p50_s", "p95_s", "p99_s")),
    11: percentiles("queue", "step", ("calls", "p95_s")),
    12: percentiles("backoff", "attempts", ("calls", "p50_s")),
    13: lambda views: added(views["failures_by_error"], "error_class attempts", "calls"),
    14: columns("contradicting_executions", "execution_id status contradicting active_after_end"),
    15: columns("completed_with_failures", "execution_id failed_calls last_failed_at"),
    16: lambda views: added(views["execution_outcomes"], "hour outcome", "executions"),
    17: lambda views: added(views["worker_failures"], "worker_id", "failed calls"),
    18: timelines,
    19: rates,
    21: unsaid,
    23: lambda views: added(views["late_arrivals"], "lateness", "events"),
    24: clocks,
    28: open_loops,
}
"""By the number of the question. The others have tests below: no event tells of them."""

RENAMED: Final = {12: {"retries": "calls"}}
BY_THE_CLOCK: Final = {"silent_s", "silent_for"}


def comparable(rows: View) -> list[str]:
    """Sums of fractions depend on their order in the last digits."""
    rounded = [
        {name: round(one, 9) if isinstance(one, float) else one for name, one in row.items()}
        for row in rows
    ]
    return sorted(str(sorted(row.items())) for row in rounded)


@pytest.mark.parametrize("number", EXPECTED)
async def test_the_views_answer_as_the_fold_does(
    connection: asyncpg.Connection, views: Views, number: int
) -> None:
    renamed = RENAMED.get(number, {})

    # In one transaction now() is one moment: no minute begins between the two.
    async with connection.transaction():
        minute = await connection.fetch("select date_trunc('minute', now()) as minute")
        answer = [
            {
                renamed.get(name, name): value
                for name, value in row.items()
                if name not in BY_THE_CLOCK
            }
            for row in await ask(connection, number)
        ]

    expected = EXPECTED[number](views | {"running_minute": [dict(row) for row in minute]})
    assert comparable(answer) == comparable(expected)
    assert answer


async def test_questions_without_events_are_answered_from_their_source(
    connection: asyncpg.Connection,
) -> None:
    fresh, agreement, rejected, jobs = [
        await ask(connection, number) for number in (20, 22, 25, 26)
    ]

    assert [(row["topic"], row["partition"], row["next_offset"]) for row in fresh] == [
        ("noetl.events", 0, 5),
        ("noetl.events", 1, 5),
    ]
    assert [(row["projection"], row["verdict"]) for row in agreement] == [("event_hours", "match")]
    assert [(row["reason"], row["source_offset"], row["sample"]) for row in rejected] == [
        ("invalid_json", 4, "{oh")
    ]
    assert [(row["job_id"], row["kind"], row["stored"], row["changed"]) for row in jobs] == [
        ("job-1", "backfill", 3, 0)
    ]


async def test_an_execution_timeline_has_every_event(
    connection: asyncpg.Connection, views: Views
) -> None:
    of = greatest(views)
    rows = [row for row in await view_rows.stored(connection) if row["execution_id"] == of]
    names = ("event_id", "created_at", "event_type", "step", "attempts", "status")

    answer = await ask(connection, 27)

    assert answer == sorted(
        ({name: row[name] for name in names} for row in rows),
        key=lambda row: (row["created_at"], row["event_id"]),
    )


async def test_a_percentile_is_that_of_the_plain_list(connection: asyncpg.Connection) -> None:
    microseconds = [0, 1, 999, 1_000, 5_000_000, 5_100_000, 86_400_000_000]
    buckets = Counter(_bucket(one) for one in microseconds)

    answer = await connection.fetchrow(
        """
        select sum(calls)::bigint, projector.percentile(0.5, bucket, calls),
               projector.percentile(0.95, bucket, calls), projector.percentile(0.99, bucket, calls)
        from   unnest($1::integer[], $2::bigint[]) as counted (bucket, calls)
        """,
        # Parts: a row more that another takes back.
        [*buckets, 7, 7],
        [*buckets.values(), 5, -5],
    )
    nothing = await connection.fetchval(
        "select projector.percentile(0.5, 1, 1::bigint) from generate_series(1, 0)"
    )

    assert tuple(answer) == pytest.approx(_percentiles(buckets))
    assert nothing is None


_REST: Final = """
    update normalizer.quarantine set sample = '{oh';

    insert into normalizer.job_parts
           (job_id, run, topic, incarnation, partition, start_offset, next_offset, records,
            outcomes, stored)
    values ('job-1', 1, 'noetl.events', 0, 0, 0, 3, 3, 3, 3);
"""

_COLUMNS: Final = """
    select   table_name, column_name::text
    from     information_schema.columns
    where    table_schema = 'projector'
    order by table_name, ordinal_position
"""
