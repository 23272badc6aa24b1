"""Handles the paths that aren't endpoints: probes, metrics, the OpenAPI document, and downloads."""

import asyncio
import contextlib
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from projector.api.api_errors import ApiError
from projector.api.api_index import build_index
from projector.api.api_metrics import METRICS_CONTENT_TYPE, ApiMetrics
from projector.api.api_reference import api_reference_as_html
from projector.api.endpoints import API_PATH
from projector.api.event_download import DOWNLOAD_PATH, download_events
from projector.api.formats import MEDIA_TYPES, Format, preferred_format, rows_as_csv
from projector.api.parameters import Parameters
from projector.api.query_strings import parse_query_string
from projector.api.responses import answer_response, compute_etag
from projector.api.snapshots import ReaderPool
from projector.api.visible_settings import VisibleSettings

SETTINGS_PATH: Final = "/settings"
_SCRAPE_S: Final = 2.0


class ServiceRoutes:
    """Handlers of the paths that aren't endpoints. `described` is the OpenAPI document."""

    def __init__(
        self,
        reader: ReaderPool,
        probe_reader: ReaderPool,
        metrics: ApiMetrics,
        described: dict[str, Any],
        settings: VisibleSettings,
    ) -> None:
        self._reader: Final = reader
        self._probe_reader: Final = probe_reader
        self._visible: Final = msgspec.json.encode(settings)
        self._metrics: Final = metrics
        self._document: Final = msgspec.json.encode(described)
        self._page: Final = api_reference_as_html(described)
        index = build_index(described)
        self._indexes: Final[dict[Format, bytes]] = {
            "json": msgspec.json.encode({"rows": index}),
            "csv": rows_as_csv(["path", "question", "tag"], map(msgspec.to_builtins, index)),
        }
        self._scrape: Final = asyncio.Lock()

    def routes(self) -> list[Route]:
        """Return each path with its handler."""
        return [
            Route("/livez", self._livez),
            Route("/readyz", self._readyz),
            Route("/metrics", self._own_metrics),
            Route("/openapi.json", self._openapi),
            Route("/api", self._api_page),
            Route(API_PATH, self._index),
            Route(API_PATH + DOWNLOAD_PATH, self._download),
            Route(API_PATH + SETTINGS_PATH, self._settings),
        ]

    async def _livez(self, _request: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def _readyz(self, _request: Request) -> Response:
        try:
            async with self._probe_reader.snapshot():
                reasons: list[str] = []
        except ApiError as error:
            reasons = [str(error)]
        return Response(
            msgspec.json.encode({"ready": not reasons, "reasons": reasons}),
            status_code=503 if reasons else 200,
            media_type="application/json",
        )

    async def _own_metrics(self, request: Request) -> Response:
        shared = self._scrape.locked()
        async with self._scrape:
            if not shared:
                await self._refresh()
        text = self._metrics.to_exposition_bytes(named=request.state.trusted)
        return Response(text, media_type=METRICS_CONTENT_TYPE)

    async def _refresh(self) -> None:
        with contextlib.suppress(ApiError, TimeoutError):
            async with asyncio.timeout(_SCRAPE_S), self._probe_reader.snapshot() as snapshot:
                await self._metrics.refresh(snapshot)

    async def _openapi(self, request: Request) -> Response:
        return answer_response(request, self._document, compute_etag(self._document))

    async def _api_page(self, request: Request) -> Response:
        return answer_response(
            request, self._page, compute_etag(self._page), media_type="text/html; charset=utf-8"
        )

    async def _index(self, request: Request) -> Response:
        form = parse_query_string(request.scope["query_string"], Parameters).format
        form = form or preferred_format(request.headers.get("accept", ""))
        body = self._indexes[form]
        return answer_response(request, body, compute_etag(body), media_type=MEDIA_TYPES[form])

    async def _settings(self, request: Request) -> Response:
        return answer_response(request, self._visible, compute_etag(self._visible))

    async def _download(self, request: Request) -> Response:
        return await download_events(request, self._reader)
