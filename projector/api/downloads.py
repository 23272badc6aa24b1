"""Streams all events of an execution as canonical JSON lines."""

from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from normalizer.envelope import to_canonical
from projector.api.api_errors import ApiError, NotFoundError
from projector.api.parameters import Parameters, parse, parse_id
from projector.api.queries.event_detail import ENVELOPE_COLUMNS, envelope_of
from projector.api.responses import problem
from projector.api.snapshots import Reader, Statement

PATH: Final = "/executions/{execution_id}/events.ndjson"
MEDIA_TYPE: Final = "application/x-ndjson"
SUMMARY: Final = "All events of one execution as a file: canonical events, one in each line."

_EVENTS_A_PAGE: Final = 500
_BYTES_A_PAGE: Final = 1 << 20
"""A page ends after it: an event may have a megabyte."""
_EVENTS_AT_ONCE: Final = 16
"""Records that are received from the database before they are written as lines."""
_PAGE: Final = Statement(f"""
    select   {ENVELOPE_COLUMNS}
    from     projector.execution_timeline
    where    execution_id = :id::bigint
    and      (
                 :after_at::timestamptz is null
                 or (created_at, execution_timeline.event_id) > (:after_at, :after_id::bigint)
             )
    order by created_at, execution_timeline.event_id
    limit    :limit::integer
""")  # noqa: S608 - constants of this package


class _Page(NamedTuple):
    """Some events as lines, and the record of the last one; None after the end."""

    lines: bytes
    last: Any | None


_NOTHING: Final = _Page(b"", None)


async def download_events(request: Request, reader: Reader) -> Response:
    """The events by time. The response is cut off if the database fails after the first page."""
    try:
        parse(request.scope["query_string"], Parameters)
        execution_id = parse_id(request.path_params["execution_id"])
        first = await _page(reader, execution_id, None)
        if first.last is None:
            raise NotFoundError("there is no such execution")
    except ApiError as error:
        return problem(error)
    name = f"execution-{execution_id}.ndjson"
    return StreamingResponse(
        _lines(reader, execution_id, _NOTHING if request.method == "HEAD" else first),
        media_type=MEDIA_TYPE,
        headers={
            "Cache-Control": "no-store",
            "Content-Disposition": f'attachment; filename="{name}"',
        },
    )


async def _lines(reader: Reader, execution_id: int, page: _Page) -> AsyncIterator[bytes]:
    while page.last is not None:
        yield page.lines
        page = await _page(reader, execution_id, page.last)


async def _page(reader: Reader, execution_id: int, after: Any | None) -> _Page:
    """The next events. Each page has a snapshot of its own: a slow client holds none."""
    lines: list[bytes] = []
    last, size = None, 0
    values = {
        "id": execution_id,
        "after_at": None if after is None else after["created_at"],
        "after_id": None if after is None else after["event_id"],
        "limit": _EVENTS_A_PAGE,
    }
    async with reader.snapshot() as snapshot:
        async for last in await snapshot.each(_PAGE, values, at_once=_EVENTS_AT_ONCE):
            lines.append(to_canonical(envelope_of(last)) + b"\n")
            size += len(lines[-1])
            if size >= _BYTES_A_PAGE:
                break
    return _Page(b"".join(lines), last)
