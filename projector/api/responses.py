"""Builds responses: answers with an ETag, and problems."""

import hashlib
from collections.abc import Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from projector.api.api_errors import ApiError

_JSON = "application/json"
_PROBLEM = "application/problem+json"


def etag_of(content: bytes) -> str:
    """The weak ETag of a response that has this content."""
    return f'W/"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'


def problem(error: ApiError, headers: Mapping[str, str] | None = None) -> Response:
    """The response for an error."""
    return Response(
        msgspec.json.encode(error.problem()),
        status_code=error.status,
        media_type=_PROBLEM,
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def answer(
    request: Request,
    body: bytes,
    etag: str,
    *,
    packed: bytes | None = None,
    media_type: str = _JSON,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """200 with the body, or 304 if the client has the same ETag.

    packed: the body compressed by gzip, for clients that accept it.
    """
    always = {
        "ETag": etag,
        "Cache-Control": "private, no-cache",
        "Vary": "Accept, Accept-Encoding",
        **(headers or {}),
    }
    known = [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]
    if etag in known or "*" in known:
        return Response(status_code=304, headers=always)
    if packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        always["Content-Encoding"] = "gzip"
        body = packed
    return Response(body, media_type=media_type, headers=always)
