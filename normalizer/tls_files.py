"""Loads the files of TLS, and names the one that does not hold."""

import contextlib
import ssl
from collections.abc import Iterator

from normalizer.errors import ConfigurationError
from normalizer.settings import Settings


def kafka_tls(settings: Settings) -> ssl.SSLContext:
    """The context of connections to brokers. Raises ConfigurationError, which names variables."""
    with _loading("KAFKA_SSL_CA_FILE"):
        context = ssl.create_default_context(cafile=settings.kafka_ssl_ca_file)
    context.check_hostname = settings.kafka_ssl_check_hostname
    if settings.kafka_ssl_cert_file:
        with _loading("KAFKA_SSL_CERT_FILE, KAFKA_SSL_KEY_FILE or KAFKA_SSL_KEY_PASSWORD"):
            context.load_cert_chain(
                settings.kafka_ssl_cert_file,
                settings.kafka_ssl_key_file,
                lambda: settings.kafka_ssl_key_password or "",
            )
    return context


def why_unfit(error: OSError) -> str:
    """Why a file cannot be loaded. Of a key, OpenSSL does not say what is wrong with it."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not PEM, or another password").replace("_", " ").lower()
    return str(error.strerror)


@contextlib.contextmanager
def _loading(names: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(f"{names}: {why_unfit(error)}") from error
