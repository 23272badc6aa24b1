"""Builds the ASGI app of `projector serve` from the endpoints, the page, and the other paths.

A request first passes the access check (middleware.py), and then its query string is parsed. If an
identical request was answered within the last second, this one gets the same response. Otherwise
the endpoint opens a snapshot of the database, runs its query, and encodes the answer as JSON or
CSV.
"""

import traceback
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from projector.api import page
from projector.api.answers import ApiAnswer
from projector.api.api_errors import ApiError, InternalError, MethodNotAllowedError, NotFoundError
from projector.api.api_metrics import ApiMetrics
from projector.api.endpoints import API_PATH, ENDPOINTS, Endpoint
from projector.api.execution_waiter import ExecutionEndWaiter
from projector.api.formats import MEDIA_TYPES, answer_as_csv, answer_row_type, preferred_format
from projector.api.middleware import SecurityMiddleware, with_cors
from projector.api.openapi import build_document
from projector.api.parameters import parse_path_id
from projector.api.queries.execution_detail import ExecutionParams
from projector.api.query_strings import parse_query_string
from projector.api.response_cache import CachedResponse, ResponseCache
from projector.api.responses import (
    CLOCK_FIELDS_HEADER,
    answer_response,
    compute_etag,
    problem_response,
)
from projector.api.service_routes import ServiceRoutes
from projector.api.snapshots import ReaderPool
from projector.api.static_files import StaticFiles
from projector.api.thresholds import Thresholds
from projector.api.visible_settings import VisibleSettings

_log = structlog.get_logger()

_Endpoint = Callable[[Request], Awaitable[Response]]


def build_app(
    reader: ReaderPool,
    probe_reader: ReaderPool,
    *,
    waiter: ExecutionEndWaiter,
    token: str | None = None,
    host: str = "127.0.0.1",
    origins: Sequence[str] = (),
    visible: VisibleSettings | None = None,
) -> ASGIApp:
    """Build the ASGI app of `projector serve`.

    The caller opens both readers before requests arrive, and closes them afterwards. Probes and
    scrapes of metrics use the connections of `probe_reader`, so that they're answered even while
    requests for data use all connections of `reader`. Requests with `?wait=` wait in `waiter`. The
    caller runs it as a task, and calls its `stop` to end all waits. `origins` are other sites whose
    pages may read answers in a browser.
    """
    visible = visible or VisibleSettings()
    thresholds = visible.thresholds
    metrics = ApiMetrics(thresholds)
    metrics.connections.set_function(lambda: reader.in_use)
    answers = ResponseCache()
    files = StaticFiles(page.page_html(), page.page_assets(), page.page_version())
    paths = ServiceRoutes(
        reader, probe_reader, metrics, _document(token=token is not None), visible
    )
    app = Starlette(
        routes=[
            Route("/", files.page),
            Route("/assets/{name}", files.asset),
            Route("/assets/{version}/{name}", files.asset_of_version),
            *paths.routes(),
            *(
                Route(
                    API_PATH + endpoint.path,
                    _endpoint(endpoint, reader, answers, waiter, metrics, thresholds),
                )
                for endpoint in ENDPOINTS
            ),
        ],
        exception_handlers={
            ApiError: _api_error,
            HTTPException: _http_error,
            Exception: _error,
        },
    )
    app.router.redirect_slashes = False
    guarded = SecurityMiddleware(app, token=token, host=host)
    return with_cors(origins, guarded) if origins else guarded


@cache  # tests build the app many times
def _document(*, token: bool) -> dict[str, Any]:
    return build_document(ENDPOINTS, token=token)


def _endpoint(
    endpoint: Endpoint,
    reader: ReaderPool,
    answers: ResponseCache,
    waiter: ExecutionEndWaiter,
    metrics: ApiMetrics,
    thresholds: Thresholds,
) -> _Endpoint:
    rows = answer_row_type(endpoint.answer_type)
    settings = {"thresholds": thresholds} if endpoint.takes_thresholds else {}

    async def respond(request: Request) -> Response:
        query: bytes = request.scope["query_string"]
        params = parse_query_string(query, endpoint.parameters_type)
        form = params.format or preferred_format(request.headers.get("accept", ""))

        async def run() -> tuple[bytes, str, str, str | None]:
            # Don't count the wait for a connection, which requesting less data wouldn't shorten.
            async with reader.snapshot() as snapshot:
                with metrics.seconds.labels(endpoint.name).time():
                    result = await endpoint.run(snapshot, params, **request.path_params, **settings)
            body = answer_as_csv(result, rows) if form == "csv" else msgspec.json.encode(result)
            stable, clock = _parts(result)
            if form == "csv":
                clock = _beside_rows(result)
            etag = compute_etag(form.encode() + stable)
            return body, etag, clock.decode(), getattr(result, "next", None)

        key = f"{form} {request.url.path}?{query.decode('latin-1')}"
        if isinstance(params, ExecutionParams) and params.wait is not None:
            execution_id = parse_path_id(request.path_params["execution_id"])
            within_s = float(params.wait[:-1])
            # Add the result of the wait to the key. Otherwise the cache could return an answer from
            # before the execution ended.
            key += f"#{await waiter.wait(execution_id, within_s, _disconnected(request))}"
        cached, from_cache = await answers.get(key, run)
        if from_cache:
            metrics.cached.inc()
        return answer_response(
            request,
            cached.body,
            cached.etag,
            packed=cached.packed,
            media_type=MEDIA_TYPES[form],
            headers=_headers(request, cached, f"{endpoint.name}.csv" if form == "csv" else None),
        )

    async def counted(request: Request) -> Response:
        try:
            response = await respond(request)
        except ApiError as error:
            response = problem_response(error)
        except Exception as error:  # noqa: BLE001 - the edge: an error in one request must not stop the server
            response = _bug(endpoint.name, error)
        metrics.requests.labels(endpoint.name, str(response.status_code)).inc()
        return response

    return counted


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _headers(request: Request, cached: CachedResponse, file: str | None) -> dict[str, str]:
    headers = {CLOCK_FIELDS_HEADER: cached.clock}
    if cached.next_page is not None:
        following = request.url.include_query_params(cursor=cached.next_page)
        headers["Link"] = f'<{following.path}?{following.query}>; rel="next"'
    if file is not None:
        headers["Content-Disposition"] = f'attachment; filename="{file}"'
    return headers


def _parts(result: ApiAnswer[Any]) -> tuple[bytes, bytes]:
    """Return the part of an answer that its ETag covers, and the part that the clock changes."""
    parts: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for name in result.__struct_fields__:
        parts[name in result.of_the_clock][name] = getattr(result, name)
    stable, clock = map(msgspec.json.encode, parts)
    return stable, clock


def _beside_rows(result: ApiAnswer[Any]) -> bytes:
    """Return the other fields of an answer, which don't fit into CSV, such as `next`."""
    names = (name for name in result.__struct_fields__ if name != "rows")
    return msgspec.json.encode({name: getattr(result, name) for name in names})


def _bug(name: str, error: Exception) -> Response:
    # The message may contain event content or a secret, so log only its type and position.
    frame = traceback.extract_tb(error.__traceback__)[-1]
    _log.error(
        "api.endpoint_failed",
        endpoint=name,
        error=type(error).__name__,
        at=f"{Path(frame.filename).name}:{frame.lineno}",
    )
    return problem_response(
        InternalError("this is a bug in the server. The server's log has the details")
    )


async def _error(request: Request, error: Exception) -> Response:
    # A download that the database interrupts is a RuntimeError of Starlette with this cause.
    cause = error.__cause__ if isinstance(error.__cause__, ApiError) else error
    return _bug(getattr(request.scope.get("endpoint"), "__name__", "").lstrip("_"), cause)


async def _api_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return problem_response(error)


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return problem_response(
            MethodNotAllowedError("only GET and HEAD are served"), error.headers
        )
    return problem_response(NotFoundError("there is no such path"))
