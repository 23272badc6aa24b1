"""Builds the ASGI app: the endpoints, the page, probes and metrics."""

import asyncio
import contextlib
import hashlib
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from projector.api import page
from projector.api.answers import ApiAnswer
from projector.api.api_errors import ApiError, InternalError, MethodNotAllowedError, NotFoundError
from projector.api.api_metrics import CONTENT_TYPE, ApiMetrics
from projector.api.api_page import as_html
from projector.api.endpoints import ENDPOINTS, ROOT, Endpoint
from projector.api.middleware import AccessMiddleware
from projector.api.openapi import document
from projector.api.parameters import parse
from projector.api.queries import current_state
from projector.api.response_cache import ResponseCache
from projector.api.responses import answer, problem
from projector.api.snapshots import Reader
from projector.api.static_files import StaticFiles

_log = structlog.get_logger()

_STATES_S: Final = 2.0

_Endpoint = Callable[[Request], Awaitable[Response]]


def build(reader: Reader, *, token: str | None = None, host: str = "127.0.0.1") -> ASGIApp:
    """The app. The caller opens `reader` before the app runs, and closes it afterwards."""
    metrics = ApiMetrics()
    metrics.connections.set_function(lambda: reader.in_use)
    answers = ResponseCache()
    assets = page.assets()
    files = StaticFiles(page.index([*assets]), assets)
    described = document(ENDPOINTS, token=token is not None)
    openapi, readable = msgspec.json.encode(described), as_html(described)

    async def readyz(_request: Request) -> Response:
        try:
            async with reader.snapshot():
                reasons: list[str] = []
        except ApiError as error:
            reasons = [str(error)]
        return Response(
            msgspec.json.encode({"ready": not reasons, "reasons": reasons}),
            status_code=503 if reasons else 200,
            media_type="application/json",
        )

    async def livez(_request: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def own_metrics(_request: Request) -> Response:
        with contextlib.suppress(ApiError, TimeoutError):
            async with asyncio.timeout(_STATES_S), reader.snapshot() as snapshot:
                metrics.set_partition_states(await current_state.states(snapshot))
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    async def own_document(request: Request) -> Response:
        return answer(request, openapi, _etag(openapi))

    async def api_page(request: Request) -> Response:
        return answer(request, readable, _etag(readable), media_type="text/html; charset=utf-8")

    app = Starlette(
        routes=[
            Route("/", files.page),
            Route("/assets/{name}", files.asset),
            Route("/livez", livez),
            Route("/readyz", readyz),
            Route("/metrics", own_metrics),
            Route("/openapi.json", own_document),
            Route("/api", api_page),
            *(
                Route(ROOT + endpoint.path, _endpoint(endpoint, reader, answers, metrics))
                for endpoint in ENDPOINTS
            ),
        ],
        exception_handlers={ApiError: _api_error, HTTPException: _http_error},
    )
    app.router.redirect_slashes = False
    return AccessMiddleware(app, token=token, host=host)


def _endpoint(
    endpoint: Endpoint, reader: Reader, answers: ResponseCache, metrics: ApiMetrics
) -> _Endpoint:
    async def respond(request: Request) -> Response:
        query: bytes = request.scope["query_string"]
        params = parse(query, endpoint.parameters)

        async def run() -> tuple[bytes, str]:
            with metrics.seconds.labels(endpoint.name).time():
                async with reader.snapshot() as snapshot:
                    result = await endpoint.run(snapshot, params, **request.path_params)
            return msgspec.json.encode(result), _etag(_stable_part(result))

        cached, from_cache = await answers.get(f"{request.url.path}?{query.decode('latin-1')}", run)
        if from_cache:
            metrics.cached.inc()
        return answer(request, cached.body, cached.etag)

    async def counted(request: Request) -> Response:
        try:
            response = await respond(request)
        except ApiError as error:
            response = problem(error)
        except Exception as error:  # noqa: BLE001 - the edge: an error in one request must not stop the server
            # The message may contain event content or a secret: log only its type and position.
            frame = traceback.extract_tb(error.__traceback__)[-1]
            _log.error(
                "endpoint_failed",
                endpoint=endpoint.name,
                error=type(error).__name__,
                at=f"{Path(frame.filename).name}:{frame.lineno}",
            )
            response = problem(InternalError("a bug in the server: its log has the details"))
        metrics.requests.labels(endpoint.name, str(response.status_code)).inc()
        return response

    return counted


def _stable_part(result: ApiAnswer[Any]) -> bytes:
    """The part of an answer that its ETag covers: everything but the times of the query."""
    return msgspec.json.encode(
        [
            getattr(result, "since", None),
            getattr(result, "truncated", None),
            getattr(result, "next", None),
            result.rows,
        ]
    )


def _etag(content: bytes) -> str:
    return f'W/"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'


async def _api_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return problem(error)


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return problem(MethodNotAllowedError("only GET and HEAD are served"), error.headers)
    return problem(NotFoundError("there is no such path"))
