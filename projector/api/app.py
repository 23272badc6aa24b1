"""A reader of the views in, an ASGI app out: questions, the page, and how it is itself."""

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
from projector.api.answers import Answer
from projector.api.database import Reader
from projector.api.errors import ApiError, InternalError, MethodNotAllowedError, NotFoundError
from projector.api.files import Files
from projector.api.guard import Guard
from projector.api.metrics import CONTENT_TYPE, Metrics
from projector.api.openapi import document
from projector.api.parameters import parse
from projector.api.queries import standing
from projector.api.questions import QUESTIONS, ROOT, Question
from projector.api.responses import answer, problem
from projector.api.sharing import Answers

_log = structlog.get_logger()
_PAGE: Final = Path(page.__file__).with_name("index.html")

_STATES_S: Final = 2.0

_Endpoint = Callable[[Request], Awaitable[Response]]


def build(reader: Reader, *, token: str | None = None, host: str = "127.0.0.1") -> ASGIApp:
    """The app; `reader` is open while it runs."""
    metrics = Metrics()
    metrics.connections.set_function(lambda: reader.in_use)
    answers = Answers()
    files = Files(_PAGE, page.assets())
    openapi = msgspec.json.encode(document(QUESTIONS, token=token is not None))

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
                metrics.stood(await standing.states(snapshot))
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    async def own_document(request: Request) -> Response:
        return answer(request, openapi, _etag(openapi))

    app = Starlette(
        routes=[
            Route("/", files.page),
            Route("/assets/{name}", files.asset),
            Route("/livez", livez),
            Route("/readyz", readyz),
            Route("/metrics", own_metrics),
            Route("/openapi.json", own_document),
            *(
                Route(ROOT + question.path, _endpoint(question, reader, answers, metrics))
                for question in QUESTIONS
            ),
        ],
        exception_handlers={ApiError: _refused, HTTPException: _not_routed},
    )
    app.router.redirect_slashes = False
    return Guard(app, token=token, host=host)


def _endpoint(question: Question, reader: Reader, answers: Answers, metrics: Metrics) -> _Endpoint:
    async def respond(request: Request) -> Response:
        query: bytes = request.scope["query_string"]
        asked = parse(query, question.parameters)

        async def ask() -> tuple[bytes, str]:
            with metrics.seconds.labels(question.name).time():
                async with reader.snapshot() as snapshot:
                    told = await question.ask(snapshot, asked, **request.path_params)
            return msgspec.json.encode(told), _etag(_lasting(told))

        shared, others = await answers.get(f"{request.url.path}?{query.decode('latin-1')}", ask)
        if others:
            metrics.shared.inc()
        return answer(request, shared.body, shared.etag)

    async def counted(request: Request) -> Response:
        try:
            response = await respond(request)
        except ApiError as error:
            response = problem(error)
        except Exception as error:  # noqa: BLE001 - the edge: one asker's mistake stops nobody else
            # Its text may hold content or a secret: only what it is and where.
            frame = traceback.extract_tb(error.__traceback__)[-1]
            _log.error(
                "question_failed",
                question=question.name,
                error=type(error).__name__,
                at=f"{Path(frame.filename).name}:{frame.lineno}",
            )
            response = problem(InternalError("a mistake of ours: the log says which"))
        metrics.requests.labels(question.name, str(response.status_code)).inc()
        return response

    return counted


def _lasting(told: Answer[Any]) -> bytes:
    """What makes two answers different: not the moment they were asked for, nor as of when."""
    return msgspec.json.encode(
        [
            getattr(told, "since", None),
            getattr(told, "truncated", None),
            getattr(told, "next", None),
            told.rows,
        ]
    )


def _etag(content: bytes) -> str:
    return f'W/"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return problem(error)


async def _not_routed(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return problem(MethodNotAllowedError("only GET and HEAD are served"), error.headers)
    return problem(NotFoundError("there is nothing at this path"))
