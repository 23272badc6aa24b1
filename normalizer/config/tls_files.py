"""Loads the TLS files for Kafka and PostgreSQL, and names a file that can't be used.

OpenSSL's error doesn't say which file is wrong. So after an error each file is loaded by itself, to
find the wrong one.
"""

import contextlib
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from normalizer.config.settings import Settings
from normalizer.errors import ConfigurationError

_DEFAULT_ROOT: Final = Path("~/.postgresql/root.crt")
"""Where libpq looks for the authority's certificate by default."""


def kafka_ssl_context(settings: Settings) -> ssl.SSLContext:
    """Build the TLS context for the brokers.

    Raises ConfigurationError, which names the variables.
    """
    with _loading("KAFKA_SSL_CA_FILE"):
        context = ssl.create_default_context(cafile=settings.kafka_ssl_ca_file)
    if settings.kafka_ssl_cert_file:
        with _loading("KAFKA_SSL_CERT_FILE or KAFKA_SSL_KEY_FILE"):
            # Return an empty password. Otherwise OpenSSL would prompt for one at the terminal.
            context.load_cert_chain(
                settings.kafka_ssl_cert_file, settings.kafka_ssl_key_file, lambda: ""
            )
    return context


def ssl_context_if_system_ca(database_url: str) -> ssl.SSLContext | None:
    """Return a context that trusts the system's authorities, or None.

    It's for sslrootcert=system, which means the same as in libpq.
    """
    if libpq_option(database_url, "sslrootcert") != "system":
        return None
    context = ssl.create_default_context()
    if certificate := libpq_option(database_url, "sslcert"):
        key, password = (libpq_option(database_url, name) for name in ("sslkey", "sslpassword"))
        context.load_cert_chain(certificate, key, password)
    return context


def find_tls_file_error(database_url: str) -> ConfigurationError | None:
    """Find the first TLS file that can't be loaded, and why. Returns None if all can."""
    sslmode = libpq_option(database_url, "sslmode") or ""
    root = libpq_option(database_url, "sslrootcert")
    if sslmode.startswith("verify") and not root and not _DEFAULT_ROOT.expanduser().exists():
        return ConfigurationError(
            f"the database's address: sslmode={sslmode} needs the certificate of the authority "
            "that signed the server's certificate",
            remedy="add sslrootcert=FILE to the address, or sslrootcert=system for the "
            "authorities that this machine trusts",
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    files = {
        name: file
        for name in ("sslrootcert", "sslcert", "sslkey", "sslcrl")
        if (file := libpq_option(database_url, name)) and file != "system"
    }
    name = ""
    try:
        for name, file in files.items():
            Path(file).read_bytes()
            if name in {"sslrootcert", "sslcrl"}:
                context.load_verify_locations(file)
        if "sslcert" in files and (key := files.get("sslkey")):
            name = "sslcert, sslkey or sslpassword"
            password = libpq_option(database_url, "sslpassword") or ""
            context.load_cert_chain(files["sslcert"], key, lambda: password)
    except OSError as error:
        file = f"={files[name]}" if name in files else ""
        return ConfigurationError(
            f"the database's address: {name}{file}: {_why_unloadable(error)}",
            remedy="correct the name of the file, or make it readable",
        )
    return None


def libpq_option(database_url: str, name: str) -> str | None:
    """Return an option of the address, or its environment variable, as libpq does."""
    given = parse_qs(urlsplit(database_url).query).get(name, [""])[-1]
    return given or os.environ.get(f"PG{name.upper()}")


def _why_unloadable(error: OSError) -> str:
    """Say why a file can't be loaded. OpenSSL gives no reason if a key is wrong."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not PEM, or locked by a password").replace("_", " ").lower()
    return str(error.strerror)


@contextlib.contextmanager
def _loading(names: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(f"{names}: {_why_unloadable(error)}") from error
