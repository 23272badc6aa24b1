"""Builds HTTP responses: answers with an ETag, and errors (problems).

A client sends the ETag of the rows that it already has. If the rows haven't changed since then, it
gets a 304 without a body.
"""

import hashlib
import re
from collections.abc import Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from projector.api.api_errors import ApiError

CLOCK_FIELDS_HEADER = "Answer-Clock"
"""The header with the fields that the clock changes, even in a 304. For CSV, all but the rows."""
_JSON = "application/json"
_PROBLEM = "application/problem+json"


def compute_etag(content: bytes) -> str:
    """Return the weak ETag of a response with this content."""
    return f'W/"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'


def parse_quality_values(header: str) -> dict[str, float]:
    """Return the values of an Accept or Accept-Encoding header with their q. 0 means not accepted.

    A q that isn't a number counts as 0.
    """
    found: dict[str, float] = {}
    for one in header.lower().split(","):
        name, *rest = (part.strip() for part in one.split(";"))
        q = next((part[2:] for part in rest if part.startswith("q=")), "1")
        found.setdefault(name, float(q) if re.fullmatch(r"[01](\.[0-9]{0,3})?", q) else 0.0)
    return found


def problem_response(error: ApiError, headers: Mapping[str, str] | None = None) -> Response:
    """Build the response for an error, which says when to retry if that helps."""
    again = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    return Response(
        msgspec.json.encode(error.problem()),
        status_code=error.status,
        media_type=_PROBLEM,
        headers={"Cache-Control": "no-store", **again, **(headers or {})},
    )


def answer_response(
    request: Request,
    body: bytes,
    etag: str,
    *,
    packed: bytes | None = None,
    media_type: str = _JSON,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Build a response with the body, or a 304 without it if the client already has this ETag.

    `packed` is the body compressed with gzip, which is sent to clients that accept it.
    """
    always = {
        "ETag": etag,
        "Cache-Control": "private, no-cache",
        "Vary": "Accept, Accept-Encoding",
        **(headers or {}),
    }
    # A proxy that compresses a response marks its ETag as weak (W/), so compare the tags without
    # the mark.
    tags = request.headers.get("if-none-match", "").split(",")
    known = [tag.strip().removeprefix("W/") for tag in tags]
    if etag.removeprefix("W/") in known or "*" in known:
        return Response(status_code=304, headers=always)
    if packed is not None and parse_quality_values(request.headers.get("accept-encoding", "")).get(
        "gzip"
    ):
        always["Content-Encoding"] = "gzip"
        body = packed
    return Response(body, media_type=media_type, headers=always)
