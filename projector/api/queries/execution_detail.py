"""One execution: its status, its calls, its events, and each event as sent and as canonical."""

from datetime import datetime

import msgspec
from msgspec import Raw

from normalizer.core.denormalize import denormalize
from normalizer.envelope import Envelope, to_canonical
from projector.api.answers import ApiAnswer, ApiRow, PagedAnswer
from projector.api.api_errors import NotFoundError
from projector.api.parameters import Numbers, PagedParams, Parameters, Texts, parse_id
from projector.api.queries.call_lists import CALL_COLUMNS, CallRow
from projector.api.queries.execution_lists import EXECUTION_COLUMNS, ExecutionRow
from projector.api.queries.run_query import run_paged, run_query
from projector.api.snapshots import Snapshot, Statement


class ExecutionParams(Parameters, frozen=True, kw_only=True):
    """No parameters except those in the path."""


_EXECUTION = Statement(f"""
    select {EXECUTION_COLUMNS}
    from   projector.executions
    where  execution_id = :id::bigint
""")  # noqa: S608 - constants of this package


async def execution(
    snapshot: Snapshot, _params: ExecutionParams, execution_id: str
) -> ApiAnswer[ExecutionRow]:
    """What is the status of one execution?"""
    answer = await run_query(snapshot, _EXECUTION, {"id": parse_id(execution_id)}, ExecutionRow)
    if not answer.rows:
        raise NotFoundError("there is no such execution")
    return answer


class ExecutionCallsParams(PagedParams, frozen=True, kw_only=True):
    """Parameters."""


class OrderedCall(CallRow, frozen=True, kw_only=True):
    """ordinal: the position of the call in its step and iteration, by time, from 0.

    If it is greater than attempts, a new command was issued for the same step.
    """

    ordinal: int


_EXECUTION_CALLS = Statement(f"""
    select   {CALL_COLUMNS}, attempt.ordinal, call.begun_at as after_at, call.step as after_step,
             coalesce(call.command_id, '') as after_command,
             coalesce(call.iteration, -1) as after_iteration, call.attempts as after_attempts
    from     projector.calls          as call
    join     projector.attempts_in_order as attempt
             on  attempt.execution_id = call.execution_id
             and attempt.step = call.step
             and attempt.attempts = call.attempts
             and coalesce(attempt.command_id, '') = coalesce(call.command_id, '')
             and coalesce(attempt.iteration, -1) = coalesce(call.iteration, -1)
    where    call.execution_id = :id::bigint
    and      (
                 :after_at::timestamptz is null
                 or (call.begun_at, call.step, coalesce(call.command_id, ''),
                     coalesce(call.iteration, -1), call.attempts)
                    > (:after_at, :after_step::text, :after_command::text,
                       :after_iteration::integer, :after_attempts::integer)
             )
    order by call.begun_at, call.step, coalesce(call.command_id, ''),
             coalesce(call.iteration, -1), call.attempts
    limit    :limit::integer
""")  # noqa: S608 - constants of this package


async def execution_calls(
    snapshot: Snapshot, params: ExecutionCallsParams, execution_id: str
) -> PagedAnswer[OrderedCall]:
    """Which calls were made in one execution, in order?"""
    return await run_paged(
        snapshot,
        _EXECUTION_CALLS,
        params,
        OrderedCall,
        id=parse_id(execution_id),
        after={
            "after_at": datetime,
            "after_step": str,
            "after_command": str,
            "after_iteration": int,
            "after_attempts": int,
        },
    )


class TimelineParams(PagedParams, frozen=True, kw_only=True):
    """Parameters."""

    step: Texts | None = None
    event_type: Texts | None = None
    status: Texts | None = None
    attempts: Numbers | None = None


class TimelineEvent(ApiRow, frozen=True, kw_only=True):
    """coerced: whether a rule changed or guessed the meaning of a value."""

    event_id: str
    created_at: datetime
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


_TIMELINE = Statement("""
    select   event_id::text, created_at, event_type, step, status, attempts, command_id, iteration,
             worker_id, duration, left(error, 1000) as error, shape,
             coercions is not null as coerced, created_at as after_at, event_id as after_id
    from     projector.execution_timeline
    where    execution_id = :id::bigint
    and      (:step::text[] is null or step = any(:step))
    and      (:event_type::text[] is null or event_type = any(:event_type))
    and      (:status::text[] is null or status = any(:status))
    and      (:attempts::integer[] is null or attempts = any(:attempts))
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
    return await run_paged(
        snapshot,
        _TIMELINE,
        params,
        TimelineEvent,
        id=parse_id(execution_id),
        after={"after_at": datetime, "after_id": int},
    )


class EventParams(Parameters, frozen=True, kw_only=True):
    """No parameters except those in the path."""


class CoercionDetail(msgspec.Struct, frozen=True, kw_only=True):
    """original: the value that was sent, as JSON text; null if it is in `extra`."""

    rule: str
    field: str
    original: str | None


class EventDetail(ApiRow, frozen=True, kw_only=True):
    """canonical and as_sent are JSON texts, because a JSON parser may round ids in a payload.

    as_sent is the record rebuilt from the row; values that were redacted stay redacted.
    """

    event_id: str
    execution_id: str
    event_type: str
    step: str
    status: str
    attempts: int
    max_attempts: int | None
    created_at: datetime
    worker_id: str | None
    command_id: str | None
    iteration: int | None
    node_type: str | None
    catalog_id: str | None
    parent_event_id: str | None
    parent_execution_id: str | None
    duration: float | None
    error: str | None
    evidence: int
    shape: str
    normalizer_version: int
    source_topic: str
    source_incarnation: int
    source_partition: int
    source_offset: str
    source_index: int
    trace_id: str | None
    recorded_at: datetime | None
    ingested_at: datetime
    coercions: list[CoercionDetail]
    headers: list[tuple[str, str | None]]
    canonical: str
    as_sent: str


_EVENT = Statement("""
    select event_id, execution_id, event_type, step, status, attempts, max_attempts, created_at,
           worker_id, command_id, iteration, node_type, catalog_id, parent_event_id,
           parent_execution_id, duration, error, context, result, meta, extra, coercions, evidence,
           shape, normalizer_version, source_topic, source_incarnation, source_partition,
           source_offset, source_index, headers, trace_id, recorded_at, ingested_at
    from   projector.execution_timeline
    where  execution_id = :execution::bigint
    and    event_id = :event::bigint
""")
_JSON = ("context", "result", "meta", "extra", "coercions", "headers")
_IDS = (
    "event_id",
    "execution_id",
    "catalog_id",
    "parent_event_id",
    "parent_execution_id",
    "source_offset",
)


async def execution_event(
    snapshot: Snapshot, _params: EventParams, execution_id: str, event_id: str
) -> ApiAnswer[EventDetail]:
    """What are the columns, the sent record and the canonical form of one event?"""
    keyset = {"execution": parse_id(execution_id), "event": parse_id(event_id)}
    records = await snapshot.records(_EVENT, keyset)
    if not records:
        raise NotFoundError("there is no such event in this execution")
    stored = dict(records[0])
    ingested_at = stored.pop("ingested_at")
    for name in _JSON:
        stored[name] = None if stored[name] is None else stored[name].encode()
    envelope = Envelope(**stored)
    sent = denormalize(envelope)
    visible = {name: value for name, value in stored.items() if name not in _JSON}
    for name in _IDS:
        visible[name] = None if visible[name] is None else str(visible[name])
    row = EventDetail(
        **visible,
        ingested_at=ingested_at,
        coercions=_coercions(envelope.coercions),
        headers=[
            (name, None if value is None else value.decode(errors="replace"))
            for name, value in sent.headers
        ],
        canonical=_indented(to_canonical(envelope)),
        as_sent=_indented(sent.value or b""),
    )
    return ApiAnswer[EventDetail](
        rows=[row],
        as_of=snapshot.as_of,
        behind_s=snapshot.behind_s,
        read_at=snapshot.read_at,
    )


class _StoredCoercion(msgspec.Struct, frozen=True):
    rule: str = ""
    field: str = ""
    original: Raw = msgspec.field(name="from", default_factory=Raw)


_coercions_decoder: msgspec.json.Decoder[list[_StoredCoercion]] = msgspec.json.Decoder(
    list[_StoredCoercion]
)


def _coercions(stored: bytes | None) -> list[CoercionDetail]:
    return [
        CoercionDetail(
            rule=each.rule,
            field=each.field,
            original=bytes(each.original).decode() if each.original else None,
        )
        for each in (_coercions_decoder.decode(stored) if stored else [])
    ]


def _indented(json: bytes) -> str:
    """The JSON with indentation, without a byte order mark, which the coercions mention."""
    return msgspec.json.format(json.removeprefix(b"\xef\xbb\xbf"), indent=2).decode()
