"""Groups failed calls by their error text, and shows the details of one group.

Texts that differ only in ids, e-mail addresses, and quoted parts are in the same group.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from projector.api.answers import ApiRow, Timestamp
from projector.api.api_errors import NotFoundError
from projector.api.parameters import (
    AttemptNumbers,
    CallStatuses,
    GroupedParams,
    Text,
    Texts,
    WindowParams,
)
from projector.api.queries.grouping import (
    FINISHED_CALLS_SOURCE,
    GrainStatements,
    counts_by_minute_source,
    grouping_statement,
    sum_column,
)
from projector.api.queries.trends import TrendAnswer, TrendWindow, trend_statement, trend_window
from projector.api.snapshots import Snapshot, Statement

_MEASURES: Final = {"calls": "calls"}


def error_class_condition(error_class: str, text: str, sought: str) -> str:
    """Build a SQL condition that is true if an error class contains the searched text.

    An error class is an error text with `#` for each number and `?` for each quoted part. `text` is
    the searched text as it was typed, and `sought` is the class of that text. So a search for
    "timeout after 30 s" finds "timeout after # s". If `sought` has no word, for example `#`, it
    must equal the whole error class, because nearly every class contains a number.
    """
    return f"""(
                strpos(lower({error_class}), lower({text})) > 0
                or {error_class} = {sought}
                or {sought} ~ '\\w\\w'
                and strpos(lower({error_class}), lower({sought})) > 0
            )"""


_Q: Final = error_class_condition("error_class", ":q", "(select projector.classify_error(:q))")
_CHOSEN: Final = f"""
            calls >= :least::integer
            and (:error_class::text[] is null or error_class = any(:error_class))
            and (:q::text is null or {_Q})
"""
_KEY_COLUMNS: Final = ("error_class", "step", "attempts", "status")
_TO_THE_MINUTE: Final = counts_by_minute_source(
    FINISHED_CALLS_SOURCE,
    "failures_by_error",
    absent=("playbook", "worker_id"),
)
_GROUPS: Final = GrainStatements(
    hours=trend_statement(
        "projector.failures_by_error",
        keys=("error_class",),
        filters=("step", "attempts", "status"),
        measures=_MEASURES,
        chosen=_CHOSEN,
    ),
    minutes=trend_statement(
        _TO_THE_MINUTE,
        keys=("error_class",),
        filters=("playbook", "step", "attempts", "status", "worker"),
        measures=_MEASURES,
        time="moment",
        where="status <> 'COMPLETED'",
        chosen=_CHOSEN,
    ),
)
_BREAKDOWN: Final = GrainStatements(
    hours=grouping_statement(
        "projector.failures_by_error", keys=_KEY_COLUMNS, measures=(sum_column("calls"),)
    ),
    minutes=grouping_statement(
        _TO_THE_MINUTE,
        keys=(*_KEY_COLUMNS, "playbook", "worker"),
        measures=(sum_column("calls"),),
        time="moment",
        where="status <> 'COMPLETED'",
    ),
)
_SAMPLES: Final = Statement("""
    select   wanted.error_class, first.finished_at as first_seen_at,
             last.finished_at as last_seen_at, last.execution_id::text,
             last.command_id, last.step, last.attempts as attempt, last.error
    from     unnest(:error_class::text[]) as wanted (error_class)
    cross join lateral (
        select   finished_at
        from     projector.failed_calls
        where    failed_calls.error_class = wanted.error_class
        order by finished_at
        limit    1
    ) as first
    cross join lateral (
        select   finished_at, execution_id, command_id, step, attempts, error
        from     projector.failed_calls
        where    failed_calls.error_class = wanted.error_class
        order by finished_at desc
        limit    1
    ) as last
    order by wanted.error_class
""")
_LATEST: Final = Statement("""
    select   step, playbook, attempts, status, worker_id as worker
    from     projector.failed_calls
    where    error_class = :error_class::text
    and      finished_at >= :since::timestamptz and finished_at < :until::timestamptz
    order by finished_at desc
    limit    :limit::integer
""")


_MOST_LISTED_GROUPS: Final = 50
"""The most values per key of a group."""
_MOST_COUNTED_GROUPS: Final = 1_000
"""The most calls to count for the page of a group."""


class ErrorGroupsParams(GroupedParams, frozen=True, kw_only=True):
    """Parameters.

    A filter by playbook or worker reads single calls, which is slower, and excludes calls that
    retention has deleted.
    """

    limit: Annotated[int, Meta(ge=1, le=500, description="Maximum number of groups.")] = 100
    q: Annotated[Text, Meta(description="A part of the error text.")] | None = None
    playbook: Texts | None = None
    step: Texts | None = None
    attempts: AttemptNumbers | None = None
    status: CallStatuses | None = None
    worker: Texts | None = None
    error_class: Texts | None = None


class ErrorGroup(ApiRow, frozen=True, kw_only=True):
    """Failed calls whose error texts differ only in ids, e-mail addresses, and quoted parts.

    `share` is this group's fraction of all failed calls that match the filters. `new` is true if
    the error has occurred for the first time in this window. `back` is true if it has occurred
    before, but not in the previous window. `steps`, `attempts`, and `statuses` list where the error
    occurs, most frequent first.

    `first_seen_at`, `last_seen_at`, and the sample, which is the latest call, aren't limited to the
    window. They're null if retention has deleted all calls of the group.
    """

    error_class: str
    calls: int
    calls_before: int
    share: float
    new: bool
    back: bool
    trend: list[int]
    first_seen_at: Timestamp | None
    last_seen_at: Timestamp | None
    steps: list[str]
    attempts: list[int]
    statuses: list[str]
    execution_id: str | None
    command_id: str | None
    step: str | None
    attempt: int | None
    error: str | None


class ErrorGroupsAnswer(TrendAnswer[ErrorGroup], frozen=True, kw_only=True):
    """Error groups. `groups` is how many there are, and `calls` counts the calls in all of them."""

    groups: int


async def error_groups(snapshot: Snapshot, params: ErrorGroupsParams) -> ErrorGroupsAnswer:
    """Which errors do calls fail with, how often, since when, where, and which are new?"""
    window = trend_window(params, snapshot.read_at)
    records = await _records(snapshot, params, window, least=1)
    found = await _found(snapshot, params, window, records)
    groups = records[0]["groups"] if records else 0
    return ErrorGroupsAnswer(
        rows=[ErrorGroup(**_group(record, window, found)) for record in records],
        groups=groups,
        calls=records[0]["in_groups"] if records else 0,
        truncated=len(records) < groups,
        **snapshot.freshness_fields,
        **window.answer_fields(),
    )


class ErrorGroupDetailParams(WindowParams, frozen=True, kw_only=True):
    error_class: Annotated[Text, Meta(description="The error text of the group.")]


class CallsByValue(msgspec.Struct, frozen=True, kw_only=True):
    """How many of the counted calls have this value."""

    value: str
    calls: int


class ErrorGroupDetail(ErrorGroup, frozen=True, kw_only=True):
    """An error group, and where its calls failed most often.

    An error may have millions of failed calls. To keep the answer fast, `by_step`, `by_playbook`,
    `by_attempts`, `by_status`, and `by_worker` count only the latest ones in the window. `counted`
    is how many that are, at most 1,000.
    """

    counted: int
    by_step: list[CallsByValue]
    by_playbook: list[CallsByValue]
    by_attempts: list[CallsByValue]
    by_status: list[CallsByValue]
    by_worker: list[CallsByValue]


async def error_group(
    snapshot: Snapshot, params: ErrorGroupDetailParams
) -> TrendAnswer[ErrorGroupDetail]:
    """One error: how often, since when, and at which steps, playbooks, attempts and workers?"""
    groups = ErrorGroupsParams(
        last=params.last,
        since=params.since,
        until=params.until,
        error_class=(params.error_class,),
        limit=1,
    )
    window = trend_window(groups, snapshot.read_at)
    records = await _records(snapshot, groups, window, least=0)
    found = await _found(snapshot, groups, window, records or [{"error_class": params.error_class}])
    if not found.samples:
        raise NotFoundError("there is no such error")
    record = records[0] if records else _NO_CALLS | {"error_class": params.error_class}
    calls = await snapshot.untyped_rows(
        _LATEST,
        {
            "error_class": params.error_class,
            "since": window.since,
            "until": window.until,
            "limit": _MOST_COUNTED_GROUPS,
        },
    )
    row = ErrorGroupDetail(
        **_group(record, window, found),
        counted=len(calls),
        by_step=_count_by(calls, "step"),
        by_playbook=_count_by(calls, "playbook"),
        by_attempts=_count_by(calls, "attempts"),
        by_status=_count_by(calls, "status"),
        by_worker=_count_by(calls, "worker"),
    )
    return TrendAnswer[ErrorGroupDetail](
        rows=[row],
        calls=record["calls"],
        truncated=False,
        **snapshot.freshness_fields,
        **window.answer_fields(),
    )


class _Found(msgspec.Struct, frozen=True):
    """Where the calls of each group failed, and its first and last call."""

    where: Mapping[str, Sequence[Mapping[str, Any]]]
    samples: dict[str, Mapping[str, Any]]


async def _records(
    snapshot: Snapshot, params: ErrorGroupsParams, window: TrendWindow, *, least: int
) -> list[Any]:
    """Return the sums of each group with at least this many calls in the window."""
    return await snapshot.untyped_rows(
        _statement(_GROUPS, params, window),
        msgspec.structs.asdict(params) | window.statement_parameters() | {"least": least},
    )


async def _found(
    snapshot: Snapshot,
    params: ErrorGroupsParams,
    window: TrendWindow,
    records: Sequence[Mapping[str, Any]],
) -> _Found:
    classes = {"error_class": [record["error_class"] for record in records]}
    where: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in await snapshot.untyped_rows(
        _statement(_BREAKDOWN, params, window),
        msgspec.structs.asdict(params)
        | {"since": window.since, "until": window.until}
        | {"by": _KEY_COLUMNS, "every_s": window.interval_s, "limit": None}
        | classes,
    ):
        where[row["error_class"]].append(row)
    samples = await snapshot.untyped_rows(_SAMPLES, classes)
    return _Found(where, {row["error_class"]: row for row in samples})


def _statement(
    grains: GrainStatements, params: ErrorGroupsParams, window: TrendWindow
) -> Statement:
    """Choose the statement over single calls if the roll-up by hour and step isn't enough."""
    by_call = window.every == "minute" or params.playbook is not None or params.worker is not None
    return grains.minutes if by_call else grains.hours


def _group(record: Mapping[str, Any], window: TrendWindow, found: _Found) -> dict[str, Any]:
    """Return the fields of a group."""
    error_class = record["error_class"]
    where, sample = found.where.get(error_class, ()), found.samples.get(error_class, {})
    first_seen_at = sample.get("first_seen_at")
    new = record["calls"] > 0 and first_seen_at is not None and first_seen_at >= window.since
    return {
        "error_class": error_class,
        "calls": record["calls"],
        "calls_before": record["calls_before"],
        "share": record["calls"] / record["in_all"] if record["in_all"] else 0.0,
        "new": new,
        "back": record["calls"] > 0 and record["calls_before"] == 0 and not new,
        "trend": window.interval_sums(record, "calls"),
        "steps": _most(where, "step"),
        "attempts": _most(where, "attempts"),
        "statuses": _most(where, "status"),
        **{name: sample.get(name) for name in _SAMPLED},
    }


def _most(where: Iterable[Mapping[str, Any]], key: str) -> list[Any]:
    """Return the values of a key in a group, most calls first."""
    calls: Counter[Any] = Counter()
    for row in where:
        calls[row[key]] += row["calls"]
    return [value for value, times in calls.most_common(_MOST_LISTED_GROUPS) if times > 0]


def _count_by(calls: Iterable[Mapping[str, Any]], key: str) -> list[CallsByValue]:
    counted = Counter("" if row[key] is None else str(row[key]) for row in calls)
    return [
        CallsByValue(value=value, calls=times)
        for value, times in counted.most_common(_MOST_LISTED_GROUPS)
    ]


_SAMPLED: Final = (
    *("first_seen_at", "last_seen_at", "execution_id", "command_id", "step", "attempt", "error"),
)
_NO_CALLS: Final[dict[str, Any]] = {
    "calls": 0,
    "calls_before": 0,
    "in_all": 0,
    "bins": None,
    "calls_trend": None,
}
