"""/livez is for a process that is in trouble: nobody may keep it from answering."""

import asyncio
import contextlib
import http.client
import re
import socket
import sys
import threading
from http import HTTPStatus

from normalizer.service.probes import MAX_CONNECTIONS, HttpResponse, ProbeServer
from tests.support.doc_pages import DOCS
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
        for _ in range(MAX_CONNECTIONS * 3):
            half_sent = socket.create_connection(("127.0.0.1", probes.port))
            opened.enter_context(half_sent)
            with contextlib.suppress(OSError):  # it may have to give way
                half_sent.sendall(b"GET /livez HTTP/1.1\r\n")
        client = http.client.HTTPConnection("127.0.0.1", probes.port, timeout=5)
        opened.callback(client.close)
        client.request("GET", "/livez")

        assert client.getresponse().status == HTTPStatus.OK
        # A thread whose connection gave way ends a moment later.
        await until(more_threads, is_so=lambda more: more <= MAX_CONNECTIONS + 20)


async def test_what_an_operator_types_in_a_container_shows_why_a_process_is_not_ready() -> None:
    typed = r'^docker compose exec .*normalizer python -c "(.*)"$'
    (code,) = re.findall(typed, (DOCS / "operate" / "README.md").read_text(), re.MULTILINE)
    assert "9464" in code
    why = HttpResponse(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"database: no answer\n")
    with ProbeServer("127.0.0.1", 0, {"/readyz": lambda: why}) as probes:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", code.replace("9464", str(probes.port))),
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await child.communicate()

    assert (child.returncode, said.decode().strip()) == (0, "database: no answer")
