"""Finds what a reader of the dashboard means by a text pasted into the search field.

The text may be an id, the coordinates of a record in Kafka, part of a name or of an error, or a
whole log line with ids in it. Ids are looked up first, because they're unambiguous.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import asyncpg
import msgspec
from msgspec import Meta

from normalizer.core.record_address import parse_record_address_or_none
from projector.api.answers import ApiAnswer, ApiRow
from projector.api.parameters import (
    NO_NUL_CHARACTER,
    WindowParams,
    parse_non_negative_int64_or_none,
    round_to_grain,
)
from projector.api.queries.error_groups import error_class_condition
from projector.api.snapshots import Snapshot, Statement

_MOST_HITS_PER_KIND: Final = 10

_IDS_OF_A_KIND: Final = 4
_MOST_STEPS: Final = 50
"""A step's calls are read to count them, so only those of the first matching steps are."""
_QUOTES: Final = ('""', "''", "``", "\u201c\u201d", "\u2018\u2019", "<>")

# The platform's ids have 15 digits or more. Most shorter numbers in an error text, such as a port
# or a status code, aren't ids. So a shorter number surely counts as an id only if it's the whole
# text, or follows a word such as "execution".
_NUMBER: Final = re.compile(
    r"(?:\A(?=[0-9]+\Z)|(?:execution|event|command|id)\W{1,4}|(?<![0-9A-Za-z_.-])(?=[0-9]{15}))"
    r"([0-9]{1,19})(?![0-9A-Za-z_-]|[.][0-9]|:\S)",
    re.IGNORECASE,
)
_MAYBE_ID: Final = re.compile(r"(?<![0-9A-Za-z_.-])[0-9]{9,14}(?![0-9A-Za-z_-]|[.][0-9]|:\S)")
"""Another number that's tried as an id, for example 900000001997. It may be a time."""
_NO_ID: Final = re.compile(r"[^0-9A-Za-z.:@_\[\]-]")
"""A sign that is in no id and in no coordinates, for example a blank."""
_PLACE: Final = re.compile(r"[0-9A-Za-z._-]+(?::[0-9]+:[0-9]+|\[[0-9]+\]@[0-9]+)(?![0-9:])")
_COMMAND: Final = re.compile(
    r"(?<![0-9A-Za-z_.:-])[0-9]{1,19}:[^\s\"'`,;(){}<>]*[^\s\"'`,;(){}<>.:]"
)
_TRACE: Final = re.compile(
    r"(?<![0-9A-Za-z])(?:00-)?([0-9a-fA-F]{32})(?:-[0-9a-fA-F]{16}-[0-9a-fA-F]{2})?(?![0-9A-Za-z])"
)
"""A trace id, or a whole traceparent."""

Kind = Literal[
    "execution",
    "event",
    "command",
    "trace",
    "quarantine",
    "gap",
    "playbook",
    "step",
    "worker",
    "error",
]


class SearchParams(WindowParams, frozen=True, kw_only=True):
    """The text to search for. Ids are found at any age, names and errors only in the window."""

    q: Annotated[
        str,
        NO_NUL_CHARACTER,
        Meta(
            min_length=1,
            max_length=4_000,
            description="The text to search for: the id of an execution, event, command, or trace, "
            "the beginning of a command's id, the place of a record (TOPIC:PARTITION:OFFSET or "
            "TOPIC[PARTITION]@OFFSET), part of the name of a playbook, step, or worker, or part of "
            "an error text. Quotes and words around an id don't matter, so you can paste a whole "
            "log line.",
        ),
    ]


class SearchHit(ApiRow, frozen=True, kw_only=True):
    """One thing that the text may name.

    `params` has the values to request it with, by parameter. Of a command, it has the `attempts` of
    the call that `detail` is about, its latest one.
    """

    kind: Kind
    label: str
    detail: str
    exact: bool
    params: dict[str, str]


class SearchAnswer(ApiAnswer[SearchHit], frozen=True, kw_only=True):
    """The hits of a search, ids first.

    If the text isn't an id, the search also looks for it in error texts. `error_class` is the form
    of the text that it searches for, with `#` for each number and `?` for each quoted part. For an
    id it's null. `more` has each kind of name of which more match than the answer lists.
    """

    error_class: str | None
    more: list[Kind]


async def search(snapshot: Snapshot, params: SearchParams) -> SearchAnswer:
    """What does this text name? Ids in it first, then names and error texts that have it."""
    text = _unquoted(params.q)
    hits: list[SearchHit] = []
    error_class: str | None = None
    more: list[Kind] = []
    for statement, values in _lookups(text):
        found = map(_hit, await snapshot.untyped_rows(statement, values))
        hits += [hit for hit in found if hit not in hits]
    if text and (not hits or _NO_ID.search(text)):
        ((error_class,),) = await snapshot.untyped_rows(_ERROR_CLASS, {"text": text})
        since, until = params.rounded_bounds(snapshot.read_at)
        sought = {
            "text": text.lower(),
            "error_class": error_class,
            "since": round_to_grain(since, "hour"),
            "until": until,
            "limit": _MOST_HITS_PER_KIND,
            "most_steps": _MOST_STEPS,
        }
        steps = [step for (step,) in await snapshot.untyped_rows(_STEPS, sought)]
        names = await snapshot.untyped_rows(_NAMES, sought | {"steps": steps})
        hits += map(_hit, names)
        more = sorted({one["kind"] for one in names if one["all_of_kind"] > _MOST_HITS_PER_KIND})
    return SearchAnswer(rows=hits, error_class=error_class, more=more, **snapshot.freshness_fields)


def _lookups(text: str) -> Iterator[tuple[Statement, dict[str, Any]]]:
    """Yield a look-up for each id in the text, at most four by each pattern.

    It doesn't matter what stands around an id.
    """
    whole = parse_record_address_or_none(text)
    for place in [whole] if whole else map(parse_record_address_or_none, _few(_PLACE, text)):
        if place is not None:
            yield _BY_COORDINATES, place._asdict()
    for command in _few(_COMMAND, text):
        execution = parse_non_negative_int64_or_none(command.partition(":")[0])
        if execution is not None:
            yield _BY_COMMAND, {"execution": execution, "command": command}
    for number in dict.fromkeys((*_few(_NUMBER, text), *_few(_MAYBE_ID, text))):
        if (found := parse_non_negative_int64_or_none(number)) is not None:
            yield _BY_NUMBER, {"id": found}
    for trace in _few(_TRACE, text):
        yield _BY_TRACE, {"trace": trace.lower()}


def _unquoted(text: str) -> str:
    """Return the text without the blanks and the one pair of quotes around it."""
    bare = text.strip()
    quoted = len(bare) > 1 and any(bare[0] + bare[-1] == pair for pair in _QUOTES)
    return bare[1:-1].strip() if quoted else bare


def _few(pattern: re.Pattern[str], text: str) -> list[str]:
    return list(dict.fromkeys(pattern.findall(text)))[:_IDS_OF_A_KIND]


def _hit(record: asyncpg.Record) -> SearchHit:
    params = dict(zip(record["names"], record["texts"], strict=True))
    return msgspec.convert(dict(record) | {"params": params}, SearchHit)


# A command has one hit, with the step, number, and status of its latest attempt.
_COMMAND_DETAIL: Final = """
    concat_ws(
        ', ', nullif(step, ''),
        case when attempts = 0 then 'first attempt' else 'retry ' || attempts end, status
    )
"""

_BY_NUMBER: Final = Statement(
    f"""
    select   'execution' as kind, execution_id::text as label,
             concat_ws(', ', nullif(playbook, ''), status) as detail, true as exact,
             array['execution'] as names, array[execution_id::text] as texts
    from     projector.executions
    where    execution_id = :id::bigint
    union all
    select   'event', event_id::text, concat_ws(', ', event_type, nullif(step, ''), status), true,
             array['execution', 'event'], array[execution_id::text, event_id::text]
    from     projector.events_by_id(array[:id::bigint])
    union all
    select   'command', command.command_id, command.detail, true,
             array['execution', 'command', 'attempts'],
             array[command.execution_id::text, command.command_id, command.attempts::text]
    from     projector.events_by_id(array[:id::bigint]) as issued
    cross join lateral (
        select   execution_id, command_id, attempts, {_COMMAND_DETAIL} as detail
        from     projector.calls
        where    execution_id = issued.execution_id and command_id = :id::text
        order by attempts desc
        limit    1
    ) as command
    union all
    (
        select   'quarantine', concat_ws(':', topic, partition, source_offset),
                 concat_ws(', ', reason, nullif(detail, '')), false, array['quarantine'],
                 array[quarantine_id::text]
        from     projector.quarantine_records
        where    execution_id = :id::bigint
        order by quarantine_id desc
        limit    10
    )
"""  # noqa: S608 - constants of this module
)

_BY_COORDINATES: Final = Statement("""
    select   'event' as kind, event_id::text as label,
             concat_ws(
                 ', ', event_type, nullif(step, ''), status,
                 case when merged then 'merged into the row of another record' end
             ) as detail,
             true as exact, array['execution', 'event'] as names,
             array[execution_id::text, event_id::text] as texts
    from     (
                 select   *
                 from     projector.find_events_by_record(
                              :topic::text, :partition::integer, :offset::bigint
                          )
                 order by source_index, event_id
                 limit    50
             ) as found
    union all
    (
        select   'quarantine', quarantine_id::text, concat_ws(', ', reason, nullif(detail, '')),
                 true, array['quarantine'], array[quarantine_id::text]
        from     projector.quarantine_records
        where    topic = :topic and partition = :partition and source_offset = :offset
        order by incarnation desc, source_index
        limit    50
    )
    union all
    (
        select   'gap', concat_ws(':', topic, partition, first_offset), reason, true,
                 array['topic'], array[topic]
        from     projector.gaps
        where    topic = :topic and partition = :partition
        and      missing @> :offset::bigint
        order by incarnation desc, found_at desc
        limit    5
    )
""")

# Finds commands by the beginning of their command_id. Most command_ids begin with the id of their
# execution, so the query reads only the commands of that execution. Any other command_id is the id
# of the event that issued the command, so the search for events finds that command. The index sorts
# by bytes, so the matching command_ids are next to each other in it.
_BY_COMMAND: Final = Statement(
    f"""
    select   'command' as kind, command_id as label, {_COMMAND_DETAIL} as detail,
             command_id = :command::text as exact,
             array['execution', 'command', 'attempts'] as names,
             array[execution_id::text, command_id, attempts::text] as texts
    from     (
                 select   distinct on (command_id) command_id, execution_id, step, attempts,
                          status
                 from     projector.calls
                 where    execution_id = :execution::bigint
                 and      command_id >= :command
                 and      starts_with(command_id, :command)
                 order by command_id, attempts desc
                 limit    10
             ) as found
    order by exact desc, command_id
"""  # noqa: S608 - constants of this module
)

_BY_TRACE: Final = Statement("""
    select   'trace' as kind, :trace::text as label,
             concat_ws(
                 ', ', found.execution_id, nullif(execution.playbook, ''), execution.status,
                 found.events || ' events'
             ) as detail,
             true as exact, array['execution', 'trace'] as names,
             array[found.execution_id::text, :trace] as texts
    from     (
                 select   execution_id, count(*) as events, min(created_at) as first_at
                 from     projector.find_events_by_trace(:trace)
                 group by execution_id
                 order by first_at desc
                 limit    10
             ) as found
    join     projector.executions as execution using (execution_id)
    order by found.first_at desc, found.execution_id
""")

_ERROR_CLASS: Final = Statement("select projector.classify_error(:text::text) as error_class")

# Finds the steps whose name contains the text. Each round of the recursion looks up the next step
# in the index, so the query doesn't read every row. The limit counts only steps that have a call in
# the window.
_STEPS: Final = Statement("""
    with recursive stored (step) as (
        select min(step) from projector.call_outcomes_by_attempt
        union all
        select (
                   select min(later.step)
                   from   projector.call_outcomes_by_attempt as later
                   where  later.step > stored.step
               )
        from   stored
        where  step is not null
    )
    select   step
    from     stored
    where    strpos(lower(step), :text::text) > 0
    and      exists (
                 select
                 from   projector.call_outcomes_by_attempt as counted
                 where  counted.step = stored.step
                 and    hour >= :since::timestamptz and hour < :until::timestamptz
             )
    order by lower(step) = :text desc, starts_with(lower(step), :text) desc, step
    limit    :most_steps::bigint
""")

# Looks up names and error classes in the roll-ups rather than in the events, because the roll-ups
# hold only a limited number of distinct names and classes.
_NAMES: Final = Statement(
    f"""
    -- Materialized, so that a name is compared once and not in each row that has it.
    with named as materialized (
        select   'playbook' as kind, 'playbook' as parameter, playbook as name,
                 -- Most executions that end here also began here. Count them once.
                 greatest(
                     sum(executions) filter (where outcome = 'BEGUN'),
                     sum(executions) filter (where outcome <> 'BEGUN')
                 ) as times,
                 'executions' as what
        from     projector.execution_outcomes
        where    hour >= :since::timestamptz and hour < :until::timestamptz
        group by playbook
        union all
        select   'step', 'step', step, sum(calls), 'calls'
        from     projector.call_outcomes_by_attempt
        where    hour >= :since and hour < :until
        and      step = any(:steps::text[])
        group by step
        union all
        select   'worker', 'worker', worker_id, sum(calls), 'calls'
        from     projector.worker_failures
        where    hour >= :since and hour < :until
        group by worker_id
        union all
        select   'error', 'error_class', error_class, sum(calls), 'failed calls'
        from     projector.failures_by_error
        where    hour >= :since and hour < :until
        group by error_class
    ),
    found as (
        select kind, parameter, name, times, what, lower(name) = :text::text as exact,
               starts_with(lower(name), :text) as begins,
               row_number() over (
                   partition by kind
                   order by lower(name) = :text desc, starts_with(lower(name), :text) desc,
                            times desc, name
               ) as rank,
               count(*) over (partition by kind) as all_of_kind
        from   named
        where  times <> 0
        and    (
                   strpos(lower(name), :text) > 0
                   or kind = 'error'
                      and {error_class_condition("name", ":text", ":error_class::text")}
                   -- What was pasted has words around the error text.
                   or kind = 'error' and name ~ '\\w.{{6}}'
                   and strpos(lower(:error_class), lower(name)) > 0
               )
    )
    select   kind, name as label,
             concat_ws(
                 ' ', to_char(times, 'FM999,999,999,999'),
                 case when times = 1 then rtrim(what, 's') else what end,
                 to_char(:since at time zone 'UTC', '"since" FMDD Mon HH24:MI "UTC"')
             ) as detail,
             exact,
             array[parameter] as names, array[name] as texts, all_of_kind
    from     found
    where    rank <= :limit::integer
    order by exact desc, begins desc, times desc, kind, name
"""  # noqa: S608 - constants of this package
)
