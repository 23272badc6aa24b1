"""The SQL statements that error_groups.py runs."""

from typing import Final

from projector.api.queries.grouping import (
    FINISHED_CALLS_SOURCE,
    GrainStatements,
    counts_by_minute_source,
    grouping_statement,
    sum_column,
)
from projector.api.queries.trends import trend_statement
from projector.api.snapshots import Statement

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
ERROR_KEY_COLUMNS: Final = ("error_class", "step", "attempts", "status")
_TO_THE_MINUTE: Final = counts_by_minute_source(
    FINISHED_CALLS_SOURCE,
    "failures_by_error",
    absent=("playbook", "worker_id"),
)
ERROR_GROUP_STATEMENTS: Final = GrainStatements(
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
ERROR_BREAKDOWN_STATEMENTS: Final = GrainStatements(
    hours=grouping_statement(
        "projector.failures_by_error", keys=ERROR_KEY_COLUMNS, measures=(sum_column("calls"),)
    ),
    minutes=grouping_statement(
        _TO_THE_MINUTE,
        keys=(*ERROR_KEY_COLUMNS, "playbook", "worker"),
        measures=(sum_column("calls"),),
        time="moment",
        where="status <> 'COMPLETED'",
    ),
)
SAMPLE_ERRORS_STATEMENT: Final = Statement("""
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
LATEST_ERROR_STATEMENT: Final = Statement("""
    select   step, playbook, attempts, status, worker_id as worker
    from     projector.failed_calls
    where    error_class = :error_class::text
    and      finished_at >= :since::timestamptz and finished_at < :until::timestamptz
    order by finished_at desc
    limit    :limit::integer
""")
