"""Streams all events of an execution to a client as canonical JSON lines.

An execution may have more events than fit into memory, so they're read a page at a time. Each page
has a separate snapshot, so that a slow client doesn't keep one open.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from normalizer.envelope import to_canonical
from projector.api.api_errors import ApiError, NotFoundError
from projector.api.parameters import Parameters, parse_path_id
from projector.api.query_strings import parse_query_string
from projector.api.responses import problem_response
from projector.api.snapshots import ReaderPool, Statement
from projector.event_rows import ENVELOPE_SELECT_LIST, to_envelope

DOWNLOAD_PATH: Final = "/executions/{execution_id}/events.ndjson"
NDJSON_MEDIA_TYPE: Final = "application/x-ndjson"
DOWNLOAD_SUMMARY: Final = (
    "All events of one execution as a file: canonical events, one in each line."
)

_EVENTS_A_PAGE: Final = 500
_BYTES_A_PAGE: Final = 1 << 20
"""End a page after this many bytes, because an event may have a megabyte."""
_EVENTS_AT_ONCE: Final = 16
"""How many records to receive from the database before writing them as lines."""
_IDS: Final = Statement("""
    select array_agg(event_id order by created_at, event_id) as event_ids
    from   projector.execution_timeline
    where  execution_id = :id::bigint
""")
_PAGE: Final = Statement(f"""
    select   {ENVELOPE_SELECT_LIST}
    from     projector.events_by_id(:event_ids::bigint[])
    where    execution_id = :id::bigint
    order by array_position(:event_ids, event_id)
""")  # noqa: S608 - constants of this package


class _Page(NamedTuple):
    """Some events as lines, and how many of the requested ids they cover."""

    lines: bytes
    ids: int


async def download_events(request: Request, reader: ReaderPool) -> Response:
    """Send every stored event of the execution once, in the order of their times.

    If the database fails after the first page, the connection is reset, so that the client notices
    that events are missing.
    """
    try:
        parse_query_string(request.scope["query_string"], Parameters)
        execution_id = parse_path_id(request.path_params["execution_id"])
        event_ids = await _event_ids(reader, execution_id)
        if not event_ids:
            raise NotFoundError("there is no such execution")
        first = await _page(reader, execution_id, event_ids[:_EVENTS_A_PAGE])
    except ApiError as error:
        return problem_response(error)
    name = f"execution-{execution_id}.ndjson"
    return StreamingResponse(
        _lines(reader, execution_id, () if request.method == "HEAD" else event_ids, first),
        media_type=NDJSON_MEDIA_TYPE,
        headers={
            "Cache-Control": "no-store",
            "Content-Disposition": f'attachment; filename="{name}"',
        },
    )


async def _lines(
    reader: ReaderPool, execution_id: int, event_ids: Sequence[int], page: _Page
) -> AsyncIterator[bytes]:
    at = 0
    while at < len(event_ids):
        yield page.lines
        at += page.ids
        if at < len(event_ids):
            page = await _page(reader, execution_id, event_ids[at : at + _EVENTS_A_PAGE])


async def _event_ids(reader: ReaderPool, execution_id: int) -> Sequence[int]:
    """Return the event ids first. A report may move an event to another time between pages."""
    async with reader.snapshot() as snapshot:
        (row,) = await snapshot.untyped_rows(_IDS, {"id": execution_id})
    return row["event_ids"] or ()


async def _page(reader: ReaderPool, execution_id: int, event_ids: Sequence[int]) -> _Page:
    """Read the first of these events.

    Each page has its own snapshot, so a slow client keeps none.
    """
    lines: list[bytes] = []
    values = {"id": execution_id, "event_ids": event_ids}
    size = 0
    async with reader.snapshot() as snapshot:
        async for record in await snapshot.open_stream(_PAGE, values, at_once=_EVENTS_AT_ONCE):
            lines.append(to_canonical(to_envelope(record)) + b"\n")
            size += len(lines[-1])
            if size >= _BYTES_A_PAGE:
                return _Page(b"".join(lines), event_ids.index(record["event_id"]) + 1)
    return _Page(b"".join(lines), len(event_ids))
