"""Checks each request before it reaches a handler, and adds security headers to each response.

If a token is set, requests for data must send it. If no token is set, the server answers only
requests for a local host name such as localhost.
"""

import hmac
import re
from collections.abc import Sequence
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from projector.api.api_errors import AmbiguousLengthError, MisdirectedError, UnauthorizedError
from projector.api.page import inline_script_hash
from projector.api.responses import CLOCK_FIELDS_HEADER, problem_response

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": f"default-src 'none'; script-src 'self' {inline_script_hash()}; "
    "style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_OPEN: Final = ("/livez", "/readyz", "/metrics", "/assets/")
_OPEN_PAGES: Final = frozenset({"/", "/api", "/openapi.json"})
"""Pages that show no data, so they need no token."""
_LENGTHS: Final = frozenset({b"content-length", b"transfer-encoding"})
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})


_HOST: Final = re.compile(r"(\[(?P<ipv6>[^][]+)\]|(?P<name>[^][:]+))(:[0-9]{1,5})?")


class SecurityMiddleware:
    """Requires the token, or without one a local host name, and adds security headers to responses.

    Probes, metrics, and the files of the page need no token (`_OPEN`, `_OPEN_PAGES`).
    `request.state.trusted` tells a handler whether the request may see everything.

    Without a token, the request's Host header must be a name such as localhost. That prevents DNS
    rebinding, in which another site makes its own name resolve to this server, so that its pages
    can read our answers. The requests of such pages have the site's name as Host, so they're
    rejected.

    A request that states its length twice is rejected, and its connection is closed. A proxy in
    front may have used the other length, so the bytes that follow could be a second request hidden
    in the first one.
    """

    def __init__(self, app: ASGIApp, *, token: str | None, host: str) -> None:
        self._app = app
        self._wanted = None if token is None else token.encode()
        self._hosts = _LOCAL | {host}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        app: ASGIApp = self._app
        trusted = self._wanted is None or self._has_token(scope)
        scope.setdefault("state", {})["trusted"] = trusted
        if {name for name, _ in scope["headers"]} >= _LENGTHS:
            app = problem_response(
                AmbiguousLengthError(
                    "the request has both Content-Length and Transfer-Encoding. Send only one of "
                    "them"
                ),
                {"Connection": "close"},
            )
        elif self._wanted is None:
            if _host_name(Headers(scope=scope).get("host", "")) not in self._hosts:
                app = problem_response(
                    MisdirectedError(
                        "without a token, the server answers only to a local host name, such as "
                        "localhost. Use such a name, or set PROJECTOR_TOKEN for the server"
                    )
                )
        elif not (_is_open(scope["path"]) or trusted):
            app = problem_response(
                UnauthorizedError(
                    "the request has no valid token. Send the header Authorization: Bearer TOKEN"
                ),
                {"WWW-Authenticate": "Bearer"},
            )
        await app(scope, receive, send_with_headers)

    def _has_token(self, scope: Scope) -> bool:
        scheme, _, sent = Headers(scope=scope).get("authorization", "").partition(" ")
        assert self._wanted
        return scheme.lower() == "bearer" and hmac.compare_digest(
            sent.strip().encode("latin-1"), self._wanted
        )


def with_cors(origins: Sequence[str], app: ASGIApp) -> ASGIApp:
    """Let pages of these origins read answers in a browser, and send the API's headers."""
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=["GET", "HEAD"],
        allow_headers=["Accept", "Authorization", "If-None-Match"],
        expose_headers=["ETag", CLOCK_FIELDS_HEADER, "Content-Disposition"],
    )


def _is_open(path: str) -> bool:
    return path in _OPEN_PAGES or path.startswith(_OPEN)


def _host_name(header: str) -> str:
    """Return the name in a Host header such as `localhost` or `[::1]:8384`, or ""."""
    found = _HOST.fullmatch(header)
    return "" if found is None else (found["ipv6"] or found["name"]).lower()
