"""Settings in, a server until SIGTERM."""

import asyncio
import contextlib
import ipaddress
import logging
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, cast

import msgspec
import structlog
import uvicorn
from starlette.types import ASGIApp

from normalizer.errors import ConfigurationError
from projector.api.app import build
from projector.api.idle_connections import IdleConnections, LimitedConnection
from projector.api.snapshots import Reader

LEAST_TOKEN: Final = 16

_STOP_S: Final = 5
_IDLE_S: Final = 30
"""A page asks more often than that, and keeps its connection."""
_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_BACKLOG: Final = 256


class ApiSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `projector serve` can be told; its --help documents each."""

    database_url: str
    host: str = "127.0.0.1"
    port: int = 8384
    token: str | None = None
    connections: int = 4
    timeout_s: int = 5


async def serve(settings: ApiSettings, say: Callable[[str], None]) -> None:
    """Serves until SIGTERM or SIGINT; says the address first.

    Raises ConfigurationError if others could read along, or the address is taken.
    """
    _refuse_exposure(settings)
    _log_to_stderr()
    reader = Reader(
        settings.database_url, connections=settings.connections, timeout_s=settings.timeout_s
    )
    with _listening(settings.host, settings.port) as listener:
        async with reader:
            server = Server(build(reader, token=settings.token, host=settings.host))
            say(f"serving on {address_of(listener)}")
            await server.serve(sockets=[listener])


class Server(uvicorn.Server):
    """uvicorn with our limits; a signal to stop ends it in order, and nothing else."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_STOP_S,
                timeout_keep_alive=_IDLE_S,
                http=cast(
                    "type[asyncio.Protocol]", partial(LimitedConnection, idle=IdleConnections())
                ),
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Its own way ends the process by the signal, as if it had not been in order."""
        loop = asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in _STOP_SIGNALS:
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Finish what is in flight."""
        self.should_exit = True


def address_of(listener: socket.socket) -> str:
    """The URL of the page."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _log_to_stderr() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    # uvicorn's lines hold addresses with what was asked, and texts of errors.
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)


def _refuse_exposure(settings: ApiSettings) -> None:
    if re.match("postgres(ql)?://", settings.database_url) is None:
        raise ConfigurationError("DATABASE_URL: expected postgresql://user:password@host:port/name")
    if settings.token is not None and len(settings.token) < LEAST_TOKEN:
        raise ConfigurationError(
            f"PROJECTOR_TOKEN: expected at least {LEAST_TOKEN} characters: "
            "type export PROJECTOR_TOKEN=$(openssl rand -hex 32)"
        )
    if settings.token is None and not _is_loopback(settings.host):
        raise ConfigurationError(
            f"--host {settings.host} lets others read: set a token first: "
            "type export PROJECTOR_TOKEN=$(openssl rand -hex 32)"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Only where the protocol is named does asyncio not delay small packets, by 40 ms an answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listener
