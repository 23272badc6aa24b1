"""Builds responses: answers with an ETag, and problems."""

from collections.abc import Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from projector.api.api_errors import ApiError

_JSON = "application/json"


def problem(error: ApiError, headers: Mapping[str, str] | None = None) -> Response:
    """The response for an error."""
    return Response(
        msgspec.json.encode(error.problem()),
        status_code=error.status,
        media_type=_JSON,
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def answer(
    request: Request,
    body: bytes,
    etag: str,
    *,
    media_type: str = _JSON,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """200 with the body, or 304 if the client has the same ETag."""
    always = {"ETag": etag, "Cache-Control": "private, no-cache", **(headers or {})}
    known = [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]
    if etag in known or "*" in known:
        return Response(status_code=304, headers=always)
    return Response(body, media_type=media_type, headers=always)
