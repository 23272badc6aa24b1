"""Shows one execution: its status, its calls, its events, and its rejected records."""

from typing import Annotated

import msgspec
from msgspec import Meta

from projector.api.answers import ApiAnswer, ApiRow, PagedAnswer, Timestamp
from projector.api.api_errors import NotFoundError
from projector.api.parameters import Numbers, PagedParams, Parameters, Texts, parse_id
from projector.api.queries.call_lists import CALL_COLUMNS, CallRow
from projector.api.queries.execution_lists import (
    EXECUTION_COLUMNS,
    ExecutionRow,
    with_stuck_reasons,
)
from projector.api.queries.quarantine_lists import QUARANTINED_RECORD_COLUMNS, QuarantinedRecord
from projector.api.queries.run_query import run_paged, run_query
from projector.api.snapshots import Snapshot, Statement

_EXECUTION = Statement(f"""
    select {EXECUTION_COLUMNS}
    from   projector.executions
    where  execution_id = :id::bigint
""")  # noqa: S608 - constants of this package


class ExecutionParams(Parameters, frozen=True, kw_only=True):
    """Parameters."""

    wait: (
        Annotated[
            str,
            Meta(
                pattern=r"^([1-9]|[1-5][0-9]|60)s(?!\n)$",
                description="Answer when the execution has ended, or after this time, for example "
                "30s. You can wait for an execution that has no event yet. At most 500 requests "
                "can wait at the same time. Others are answered at once.",
                extra={"expected": "a time from 1s to 60s"},
            ),
        ]
        | None
    ) = None


async def execution(
    snapshot: Snapshot, _params: ExecutionParams, execution_id: str
) -> ApiAnswer[ExecutionRow]:
    """What is the status of one execution, and what does it wait for if it is stuck?"""
    answer = await run_query(snapshot, _EXECUTION, {"id": parse_id(execution_id)}, ExecutionRow)
    if not answer.rows:
        raise NotFoundError("there is no such execution")
    return msgspec.structs.replace(answer, rows=await with_stuck_reasons(snapshot, answer.rows))


class OrderedCall(CallRow, frozen=True, kw_only=True):
    """A call of an execution, with its position among the calls of the same step and iteration.

    `ordinal` is that position in the order of time, counted from 0. It usually equals `attempts`.
    It's greater if the step was issued again as a new command, because the attempts of a new
    command begin at 0 again.
    """

    ordinal: int


# The subquery selects the attempts on one page, and the join then looks up each call by its key. If
# the query joined all attempts with all calls first, PostgreSQL might compare every attempt with
# every call.
_EXECUTION_CALLS = Statement(f"""
    select   {CALL_COLUMNS}, attempt.ordinal, call.begun_at as after_at, call.step as after_step,
             call.command_id as after_command, call.attempts as after_attempts
    from     (
                 select   *
                 from     projector.attempts_in_order
                 where    execution_id = :id::bigint
                 and      (
                              :after_at::timestamptz is null
                              or (begun_at, step, command_id, attempts)
                                 > (:after_at, :after_step::text, :after_command::text,
                                    :after_attempts::integer)
                          )
                 order by begun_at, step, command_id, attempts
                 limit    :limit::integer
             ) as attempt
    join     projector.calls as call
             on  call.execution_id = attempt.execution_id
             and call.command_id = attempt.command_id
             and call.attempts = attempt.attempts
    order by call.begun_at, call.step, call.command_id, call.attempts
""")  # noqa: S608 - constants of this package


async def execution_calls(
    snapshot: Snapshot, params: PagedParams, execution_id: str
) -> PagedAnswer[OrderedCall]:
    """Which calls were made in one execution, in order?"""
    return await run_paged(
        snapshot, _EXECUTION_CALLS, params, OrderedCall, id=parse_id(execution_id)
    )


class TimelineParams(PagedParams, frozen=True, kw_only=True):
    """Parameters."""

    step: Texts | None = None
    event_type: Texts | None = None
    status: Texts | None = None
    attempts: Numbers | None = None
    command: Texts | None = None


class TimelineEvent(ApiRow, frozen=True, kw_only=True):
    """An event of an execution, in the order of time.

    `coerced` is true if a rule changed or guessed the meaning of a value. `numbered` is true if the
    producer sent the number of the attempt. Otherwise `attempts` is 0, whichever attempt it was.
    """

    event_id: str
    created_at: Timestamp
    event_type: str
    step: str
    status: str
    attempts: int
    command_id: str | None
    iteration: int | None
    worker_id: str | None
    duration: float | None
    error: str | None
    shape: str
    coerced: bool
    numbered: bool


_TIMELINE = Statement("""
    select   event_id::text, created_at, event_type, step, status, attempts, command_id, iteration,
             worker_id, duration, left(error, 1000) as error, shape,
             coercions is not null as coerced, evidence >= 100 as numbered,
             created_at as after_at, event_id as after_id
    from     projector.execution_timeline
    where    execution_id = :id::bigint
    and      (:step::text[] is null or step = any(:step))
    and      (:event_type::text[] is null or event_type = any(:event_type))
    and      (:status::text[] is null or status = any(:status))
    and      (:attempts::integer[] is null or attempts = any(:attempts))
    and      (:command::text[] is null or command_id = any(:command))
    and      (
                 :after_at::timestamptz is null
                 or (created_at, execution_timeline.event_id) > (:after_at, :after_id::bigint)
             )
    order by created_at, execution_timeline.event_id
    limit    :limit::integer
""")


async def execution_events(
    snapshot: Snapshot, params: TimelineParams, execution_id: str
) -> PagedAnswer[TimelineEvent]:
    """What happened in one execution, event by event?"""
    return await run_paged(snapshot, _TIMELINE, params, TimelineEvent, id=parse_id(execution_id))


_REJECTED = Statement(f"""
    select   {QUARANTINED_RECORD_COLUMNS}, quarantine_id as after_id
    from     projector.quarantine_records
    where    execution_id = :id::bigint
    and      (
                 :after_id::bigint is null
                 or quarantine_records.quarantine_id < :after_id
             )
    order by quarantine_records.quarantine_id desc
    limit    :limit::integer
""")  # noqa: S608 - constants of this package


async def execution_rejected_records(
    snapshot: Snapshot, params: PagedParams, execution_id: str
) -> PagedAnswer[QuarantinedRecord]:
    """Which records of one execution were rejected, and why? The newest first."""
    return await run_paged(
        snapshot, _REJECTED, params, QuarantinedRecord, id=parse_id(execution_id)
    )
