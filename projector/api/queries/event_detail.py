"""Shows one event: its columns, what its producer sent, and its canonical form."""

import msgspec

from normalizer.core.coercions import read_coercions
from normalizer.core.rebuild_record import rebuild_record
from normalizer.envelope import to_canonical
from projector.api.answers import ApiAnswer, ApiRow, Timestamp
from projector.api.api_errors import NotFoundError
from projector.api.parameters import Parameters, parse_path_id
from projector.api.queries.query_answers import build_answer
from projector.api.snapshots import Snapshot, Statement
from projector.event_rows import ENVELOPE_SELECT_LIST, JSON_COLUMNS, to_envelope


class CoercionDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A correction of one field. `original` is what was sent, as JSON text.

    It's null if what was sent is in `extra`.
    """

    rule: str
    field: str
    original: str | None


class EventDetail(ApiRow, frozen=True, kw_only=True):
    """One event, in its canonical form and as its producer sent it.

    `canonical` and `as_sent` are JSON texts in a string, because many JSON parsers round large
    numbers such as ids. `as_sent` is rebuilt from the stored row, so secrets that were redacted
    stay redacted.
    """

    event_id: str
    execution_id: str
    event_type: str
    step: str
    status: str
    attempts: int
    max_attempts: int | None
    created_at: Timestamp
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
    recorded_at: Timestamp | None
    ingested_at: Timestamp
    coercions: list[CoercionDetail]
    headers: list[tuple[str, str | None]]
    canonical: str
    as_sent: str


_EVENT = Statement(f"""
    select {ENVELOPE_SELECT_LIST}, ingested_at
    from   projector.events_by_id(array[:event::bigint])
    where  execution_id = :execution::bigint
""")  # noqa: S608 - constants of this package
_IDS = (
    "event_id",
    "execution_id",
    "catalog_id",
    "parent_event_id",
    "parent_execution_id",
    "source_offset",
)


async def execution_event(
    snapshot: Snapshot, _params: Parameters, execution_id: str, event_id: str
) -> ApiAnswer[EventDetail]:
    """What are the columns, the sent record and the canonical form of one event?"""
    keyset = {"execution": parse_path_id(execution_id), "event": parse_path_id(event_id)}
    records = await snapshot.untyped_rows(_EVENT, keyset)
    if not records:
        raise NotFoundError("this execution has no event with this id")
    stored = dict(records[0])
    ingested_at = stored.pop("ingested_at")
    envelope = to_envelope(stored)
    sent = rebuild_record(envelope)
    shown = (stored.keys() & EventDetail.__struct_fields__) - JSON_COLUMNS
    visible = {name: stored[name] for name in shown}
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
    return build_answer(snapshot, [row])


def _coercions(stored: bytes | None) -> list[CoercionDetail]:
    return [
        CoercionDetail(
            rule=each.rule,
            field=each.field,
            original=bytes(each.original).decode() if each.original else None,
        )
        for each in read_coercions(stored)
    ]


def _indented(json: bytes) -> str:
    """Return the JSON with indentation, without a byte order mark, which the coercions mention."""
    return msgspec.json.format(json.removeprefix(b"\xef\xbb\xbf"), indent=2).decode()
