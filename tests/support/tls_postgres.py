"""A PostgreSQL that offers TLS. The wheel's is built without, so it is the oldest supported one."""

import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from normalizer.embedded import PostgresServer
from normalizer.embedded.postgres_user import choose_postgres_user
from tests.support.certificates import make_certificates
from tests.support.stack import POSTGRES_15, Stack, skip_or_fail


class TlsServer(NamedTuple):
    """The server, and the certificate of the authority that signed its own."""

    server: PostgresServer
    authority: Path


@contextlib.asynccontextmanager
async def tls_postgres(stack: Stack) -> AsyncIterator[TlsServer]:
    folder = stack.folder / f"postgres-{secrets.token_hex(4)}"
    files = folder / "certificates"
    files.mkdir(parents=True)
    folder.chmod(0o711)
    make_certificates(files)
    (files / "both.pem").chmod(0o600)
    if owner := choose_postgres_user():
        os.chown(files / "both.pem", *owner)
    settings = {
        "ssl": "on",
        "ssl_cert_file": str(files / "cert.pem"),
        "ssl_key_file": str(files / "both.pem"),
    }
    if not (POSTGRES_15 / "postgres").exists():
        skip_or_fail(f"no PostgreSQL 15 in {POSTGRES_15}: type `apt-get install postgresql-15`")
    async with PostgresServer(
        folder, bin_dir=POSTGRES_15, durable=False, settings=settings
    ) as server:
        yield TlsServer(server, files / "ca.pem")
