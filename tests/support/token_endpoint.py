"""An authorization server of one client: issues signed tokens (RS256) and shows its keys (JWKS)."""

import base64
import json
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, unquote_plus

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

CLIENT: Final = "normalizer"
SECRET: Final = "s3cr3t/of+the client"  # has what a form must encode
AUDIENCE: Final = "kafka"


class TokenEndpoint:
    """The answer of the token server, which a test may change between two requests.

    A token is valid for `lifetime_s`. The client gets `expires_in` with it, which is the same by
    default. If `answer` is set, the server sends this status and body instead of a token.
    """

    def __init__(self, base_url: str) -> None:
        self.url = f"{base_url}/token"
        self.jwks_url = f"{base_url}/jwks"
        self.issuer = base_url
        self.subject = "alice"
        self.lifetime_s = 300.0
        self.expires_in: float | None = None
        self.answer: tuple[int, bytes, dict[str, str]] | None = None
        self.requests: list[dict[str, list[str]]] = []
        self._key = _key()

    def grant(self, authorization: str, form: dict[str, list[str]]) -> tuple[int, bytes]:
        """Issue a token to the client, and to nobody else."""
        given = base64.b64decode(authorization.removeprefix("Basic ")).decode()
        if [unquote_plus(part) for part in given.split(":")] != [CLIENT, SECRET]:
            echo = {"error": "invalid_client", "error_description": f"{given} is not known"}
            return 401, json.dumps(echo).encode()
        self.requests.append(form)
        expires_in = self.lifetime_s if self.expires_in is None else self.expires_in
        return 200, json.dumps({"access_token": self.token(), "expires_in": expires_in}).encode()

    def token(self) -> str:
        """A token that is valid from now on."""
        now_s = time.time()
        claims = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": self.subject,
            "iat": now_s,
            "exp": math.ceil(now_s + self.lifetime_s),
        }
        text = f"{_part({'alg': 'RS256', 'kid': 'one', 'typ': 'JWT'})}.{_part(claims)}"
        signature = self._key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{_encoded(signature)}"

    def keys(self) -> bytes:
        """The public key, as brokers read it."""
        numbers = self._key.public_key().public_numbers()
        key = {
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": "one",
            "n": _encoded(numbers.n.to_bytes(256)),
            "e": _encoded(numbers.e.to_bytes(3)),
        }
        return json.dumps({"keys": [key]}).encode()


@contextmanager
def token_endpoint() -> Iterator[TokenEndpoint]:
    """A server on 127.0.0.1, in threads of its own."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        endpoint = TokenEndpoint(f"http://127.0.0.1:{server.server_port}")
        server.endpoint = endpoint  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield endpoint
        server.shutdown()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    @property
    def _endpoint(self) -> TokenEndpoint:
        endpoint = self.server.endpoint  # type: ignore[attr-defined]
        assert isinstance(endpoint, TokenEndpoint)
        return endpoint

    def do_GET(self) -> None:
        self._send(200, self._endpoint.keys(), {})

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        status, body, headers = self._endpoint.answer or (
            *self._endpoint.grant(self.headers["Authorization"], form),
            {},
        )
        self._send(status, body, headers)

    def log_message(self, *_: Any) -> None:
        """Do not print."""

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def _part(fields: dict[str, Any]) -> str:
    return _encoded(json.dumps(fields).encode())


def _encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
