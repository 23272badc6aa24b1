"""Serves the dashboard's page and files from memory. They're read from disk once, at start."""

import gzip
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from projector.api.api_errors import NotFoundError
from projector.api.responses import answer_response, compute_etag

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
_PACKED: Final = (".css", ".html", ".js", ".json", ".map", ".svg")


class _AssetFile(msgspec.Struct, frozen=True):
    """A file with its media type, compressed body, and ETag."""

    media_type: str
    body: bytes
    packed: bytes | None
    etag: str


class StaticFiles:
    """Files by name. No path of a request is ever used as a path on disk."""

    def __init__(self, page: bytes, assets: Mapping[str, Path], version: str) -> None:
        self._version = version
        self._page = _packed(page, ".html")
        self._assets = {name: _read(path) for name, path in assets.items()}

    async def page(self, request: Request) -> Response:
        """Serve the dashboard."""
        return _sent(request, self._page)

    async def asset(self, request: Request) -> Response:
        """Serve a script, style, font, or image of the dashboard. Raises NotFoundError."""
        file = self._assets.get(request.path_params["name"])
        if file is None:
            raise NotFoundError("there is no such file")
        return _sent(request, file)

    async def asset_of_version(self, request: Request) -> Response:
        """Serve a file under an address with the version, so that browsers may cache it forever.

        After an upgrade, a page that's still open may request files of the old version. It gets the
        new file, but without the header that lets browsers cache it under the old address.
        """
        response = await self.asset(request)
        if request.path_params["version"] == self._version:
            response.headers["Cache-Control"] = "private, max-age=31536000, immutable"
        return response


@cache  # tests build the app many times
def _read(path: Path) -> _AssetFile:
    return _packed(path.read_bytes(), path.suffix)


def _packed(body: bytes, suffix: str) -> _AssetFile:
    return _AssetFile(
        media_type=_TYPES[suffix],
        body=body,
        packed=gzip.compress(body, mtime=0) if suffix in _PACKED else None,
        etag=compute_etag(body),
    )


def _sent(request: Request, file: _AssetFile) -> Response:
    return answer_response(
        request, file.body, file.etag, packed=file.packed, media_type=file.media_type
    )
