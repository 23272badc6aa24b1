"""/livez is for a process that is in trouble: nobody may keep it from answering."""

import http.client
import socket
import threading
from http import HTTPStatus

from normalizer.service.probes import MAX_CONNECTIONS, HttpResponse, ProbeServer


def test_half_sent_requests_keep_nobody_out_and_are_bounded() -> None:
    before = threading.active_count()
    alive = HttpResponse(HTTPStatus.OK, "text/plain", b"alive\n")
    with ProbeServer("127.0.0.1", 0, {"/livez": lambda: alive}) as probes:
        half_sent = [
            socket.create_connection(("127.0.0.1", probes.port)) for _ in range(MAX_CONNECTIONS * 3)
        ]
        for one in half_sent:
            try:
                one.sendall(b"GET /livez HTTP/1.1\r\n")
            except OSError:
                continue  # it had to give way
        client = http.client.HTTPConnection("127.0.0.1", probes.port, timeout=5)
        client.request("GET", "/livez")
        answer = client.getresponse()
        threads = threading.active_count()
        client.close()
        for one in half_sent:
            one.close()

    assert answer.status == HTTPStatus.OK
    assert threads - before <= MAX_CONNECTIONS + 20
