"""Runs the HTTP server of `projector serve` until SIGTERM or SIGINT.

It refuses to start without a token if other machines can reach it.
"""

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
from projector.api.api_errors import ApiError
from projector.api.app import build_app
from projector.api.connection_limits import LimitedConnection
from projector.api.execution_waiter import ExecutionEndWaiter
from projector.api.snapshots import ReaderPool
from projector.api.visible_settings import VisibleSettings

_MIN_TOKEN_LENGTH: Final = 16

_STOP_S: Final = 5
_IDLE_S: Final = 30
"""Longer than the page's polling interval, so that the page keeps its connection."""
_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_BACKLOG: Final = 256


class ApiSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of `projector serve`, whose --help documents each one."""

    database_url: str
    host: str = "127.0.0.1"
    port: int = 8384
    token: str | None = None
    connections: int = 4
    timeout_s: int = 5
    origins: tuple[str, ...] = ()
    visible: VisibleSettings = VisibleSettings()


async def serve(settings: ApiSettings, print_line: Callable[[str], None]) -> None:
    """Serve the API and the dashboard until SIGTERM or SIGINT, after printing the address.

    Raises ConfigurationError if other machines could read without a token, if an address in the
    settings is invalid, or if the port is taken.
    """
    _refuse_exposure(settings)
    _refuse_addresses(settings)
    _log_to_stderr()
    reader, probe_reader = (
        ReaderPool(settings.database_url, connections=connections, timeout_s=settings.timeout_s)
        for connections in (settings.connections, 1)
    )
    waiter = ExecutionEndWaiter(reader)
    app = build_app(
        reader,
        probe_reader,
        waiter=waiter,
        token=settings.token,
        host=settings.host,
        origins=settings.origins,
        visible=settings.visible,
    )
    server = Server(app, waiter)
    with _listening(settings.host, settings.port) as listener:
        async with reader, probe_reader, asyncio.TaskGroup() as tasks:
            querying = tasks.create_task(waiter.run(), name="execution ends")
            tasks.create_task(_try_database(probe_reader), name="try the database")
            print_line(f"serving on {listener_address(listener)}")
            await server.serve(sockets=[listener])
            querying.cancel()


class Server(uvicorn.Server):
    """uvicorn with our limits. SIGTERM and SIGINT end it with exit code 0."""

    def __init__(self, app: ASGIApp, waiter: ExecutionEndWaiter | None = None) -> None:
        self._waiter = waiter
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_STOP_S,
                timeout_keep_alive=_IDLE_S,
                http=cast("type[asyncio.Protocol]", partial(LimitedConnection, idle={})),
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Replace uvicorn's handling, which would end the process by the signal."""
        loop = asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in _STOP_SIGNALS:
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Stop: end all waits (`?wait=`), and finish the requests in progress."""
        if self._waiter is not None:
            self._waiter.stop()
        self.should_exit = True


def listener_address(listener: socket.socket) -> str:
    """Return the URL of the page."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


async def _try_database(probe_reader: ReaderPool) -> None:
    """Query the database once at the start, so that the log says early why it can't be used."""
    with contextlib.suppress(ApiError):
        async with probe_reader.snapshot():
            pass


def _log_to_stderr() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    # uvicorn logs query strings and error messages, which may contain event content.
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)


def _refuse_exposure(settings: ApiSettings) -> None:
    # Accept only visible ASCII characters, because an HTTP header can't carry others as they are.
    # This also rejects a line break at the end. It's easy to overlook one, because most editors end
    # a file with it.
    if settings.token is not None and not re.fullmatch(
        f"[!-~]{{{_MIN_TOKEN_LENGTH},}}", settings.token
    ):
        raise ConfigurationError(
            f"PROJECTOR_TOKEN must have at least {_MIN_TOKEN_LENGTH} ASCII characters and no "
            "spaces. To make a token, run:\n  export PROJECTOR_TOKEN=$(openssl rand -hex 32)"
        )
    if settings.token is None and not _is_loopback(settings.host):
        raise ConfigurationError(
            f"--host {settings.host} lets other machines read the data, so the server needs a "
            "token. To make one, run:\n  export PROJECTOR_TOKEN=$(openssl rand -hex 32)"
        )


def _refuse_addresses(settings: ApiSettings) -> None:
    for origin in settings.origins:
        if re.fullmatch(r"https?://[^/?#*@\s]+", origin) is None:
            raise ConfigurationError(
                f"--allow-origin {origin!r}: expected a complete origin, without a path, such as "
                "https://grafana.example"
            )
    grafana = settings.visible.grafana
    if grafana and re.fullmatch(r"https?://[^\s\"'<>@]+", grafana) is None:
        raise ConfigurationError(
            "--grafana: expected an address of http or https, such as https://grafana.example"
        )
    docs = settings.visible.docs
    if docs and re.fullmatch(r"https?://[^\s\"'<>@]+/", docs) is None:
        raise ConfigurationError(
            "--docs: expected an address that ends in /, such as "
            "https://git.example/project/blob/main/"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only if the protocol is given. Without it, responses take 40 ms more.
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
