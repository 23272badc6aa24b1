"""Streams all events of an execution as canonical JSON lines."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final

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


class DownloadParams(Parameters, frozen=True, kw_only=True):
    """No parameters except those in the path."""


async def download_events(request: Request, reader: Reader) -> Response:
    """The events by time. The response is cut off if the database fails after the first page."""
    try:
        parse(request.scope["query_string"], DownloadParams)
        execution_id = parse_id(request.path_params["execution_id"])
        first = await _page(reader, execution_id, None)
        if not first:
            raise NotFoundError("there is no such execution")
    except ApiError as error:
        return problem(error)
    name = f"execution-{execution_id}.ndjson"
    return StreamingResponse(
        _lines(reader, execution_id, [] if request.method == "HEAD" else first),
        media_type=MEDIA_TYPE,
        headers={
            "Cache-Control": "no-store",
            "Content-Disposition": f'attachment; filename="{name}"',
        },
    )


async def _lines(reader: Reader, execution_id: int, page: list[Any]) -> AsyncIterator[bytes]:
    while page:
        yield b"".join(to_canonical(envelope_of(record)) + b"\n" for record in page)
        if len(page) < _EVENTS_A_PAGE:
            return
        page = await _page(reader, execution_id, page[-1])


async def _page(reader: Reader, execution_id: int, after: Any | None) -> list[Any]:
    """The next events. Each page has a snapshot of its own: a slow client holds none."""
    after_at: datetime | None = None if after is None else after["created_at"]
    async with reader.snapshot() as snapshot:
        return await snapshot.records(
            _PAGE,
            {
                "id": execution_id,
                "after_at": after_at,
                "after_id": None if after is None else after["event_id"],
                "limit": _EVENTS_A_PAGE,
            },
        )
