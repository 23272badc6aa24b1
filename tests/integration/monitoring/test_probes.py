"""/livez is for a process that is in trouble: nobody may keep it from answering."""

import contextlib
import http.client
import socket
import threading
from http import HTTPStatus

from normalizer.monitoring.probes import MAX_PROBE_CONNECTIONS, HttpResponse, ProbeServer
from tests.support.waiting import until


async def test_half_sent_requests_keep_nobody_out_and_are_bounded() -> None:
    before = threading.active_count()

    async def more_threads() -> int:
        return threading.active_count() - before

    alive = HttpResponse(HTTPStatus.OK, "text/plain", b"alive\n")
    with (
        contextlib.ExitStack() as opened,
        ProbeServer("127.0.0.1", 0, {"/livez": lambda: alive}) as probes,
    ):
        for _ in range(MAX_PROBE_CONNECTIONS * 3):
            half_sent = socket.create_connection(("127.0.0.1", probes.port))
            opened.enter_context(half_sent)
            with contextlib.suppress(OSError):  # it may have to give way
                half_sent.sendall(b"GET /livez HTTP/1.1\r\n")
        client = http.client.HTTPConnection("127.0.0.1", probes.port, timeout=5)
        opened.callback(client.close)
        client.request("GET", "/livez")

        assert client.getresponse().status == HTTPStatus.OK
        # A thread whose connection gave way ends a moment later.
        await until(more_threads, is_so=lambda more: more <= MAX_PROBE_CONNECTIONS + 20)
