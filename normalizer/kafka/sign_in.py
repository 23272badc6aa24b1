"""Finds the step at which brokers refuse this process, and says what to set.

The client tries one address after another and doesn't report the reasons. So after a failed start
we try each address once more, step by step: TCP, TLS, API versions, SASL. If the broker just closes
the connection, as Kafka does for a wrong protocol, `port_protocol` finds out what the port speaks.
"""

import asyncio
import os
import ssl
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from aiokafka.conn import AIOKafkaConnection, OAuthAuthenticator, collect_hosts
from aiokafka.errors import BrokerResponseError
from aiokafka.protocol.metadata import MetadataRequest

from normalizer.config.passwords import MASK
from normalizer.errors import BrokerUnavailableError
from normalizer.kafka.port_protocol import FAILURES, STEP_S, offered_mechanisms, speaks_tls
from normalizer.kafka.token_sources import TokenUnavailableError, described

REASON_CHARS: Final = 200
_OTHER_HOST: Final = (
    "name the broker as its certificate does, or set KAFKA_SSL_CHECK_HOSTNAME=false"
)
_OTHER_TIME: Final = "renew the broker's certificate, or set the clock here"
_CERTIFICATE_REMEDIES: Final = {9: _OTHER_TIME, 10: _OTHER_TIME, 62: _OTHER_HOST, 64: _OTHER_HOST}
"""Remedies by OpenSSL's code: not yet valid, expired, another host name, another IP address."""


class Failure(NamedTuple):
    """The failed step, why, and what to do. `is_refusal` if the broker answers and refuses."""

    step: str
    reason: str
    remedy: str
    is_refusal: bool = True


async def why_unavailable(options: Mapping[str, Any]) -> BrokerUnavailableError | None:
    """Try every bootstrap server with these client options. Returns None if one accepts us.

    The error prefers a server that refuses to one that's unreachable.
    """
    client_options = dict(options)
    hosts = collect_hosts(client_options.pop("bootstrap_servers"), randomize=False)
    client_options["request_timeout_ms"] = round(STEP_S * 1000)
    try:
        if provider := client_options.get("sasl_oauth_token_provider"):
            await provider.token()
    except TokenUnavailableError as error:
        return BrokerUnavailableError(f"token: {error.args[0]}", sign_in_refused=error.is_refusal)
    async with asyncio.TaskGroup() as tasks:
        tries = {
            f"{host}:{port}": tasks.create_task(
                _failure_at(host, port, client_options), name=f"sign in at {host}:{port}"
            )
            for host, port, _ in hosts
        }
    failures = {server: failure for server, one in tries.items() if (failure := one.result())}
    if len(failures) < len(tries):
        return None
    server, failure = min(failures.items(), key=lambda one: not one[1].is_refusal)
    return BrokerUnavailableError(
        f"{server}: {failure.step}: {failure.reason}: {failure.remedy}",
        sign_in_refused=failure.is_refusal,
    )


async def _failure_at(host: str, port: int, options: Mapping[str, Any]) -> Failure | None:
    """Open a connection step by step, like the client, and request the cluster's brokers."""
    try:
        async with asyncio.timeout(STEP_S):
            _, writer = await asyncio.open_connection(host, port)
    except FAILURES as error:
        return _failure_of_tcp(error)
    writer.close()
    connection = _SteppingConnection(host, port, **options)
    try:
        await connection.connect()
        connection.step = "sign-in"
        await connection.send(MetadataRequest([]))
    except FAILURES as error:
        return await _explained(connection, error, options)
    finally:
        connection.close()
    return None


class _SteppingConnection(AIOKafkaConnection):  # type: ignore[misc]
    """A connection that knows its current step."""

    step = "TLS"

    async def _do_version_lookup(self) -> None:
        self.step = "API versions"
        await super()._do_version_lookup()

    async def _do_sasl_handshake(self) -> None:
        self.step = "SASL"
        await super()._do_sasl_handshake()

    def authenticator_oauth(self) -> OAuthAuthenticator:
        return _HeedingAuthenticator(
            sasl_oauth_token_provider=self._sasl_oauth_token_provider,
        )


class _HeedingAuthenticator(OAuthAuthenticator):  # type: ignore[misc]
    """Answers a refusal, so that the broker gives its reason. The client takes it for a success.

    Source: RFC 7628, section 3.2.3.
    """

    async def step(self, payload: bytes | None) -> Any:
        return (b"\x01", True) if payload else await super().step(payload)


def _failure_of_tcp(error: BaseException) -> Failure:
    reason = f"no answer in {STEP_S:.0f} s"
    if isinstance(error, OSError) and error.errno:
        # asyncio's own text repeats the address. An unknown host name has a code below 0.
        reason = os.strerror(error.errno) if error.errno > 0 else str(error.strerror)
    remedy = "is the broker running, and is it the one in KAFKA_BOOTSTRAP_SERVERS?"
    return Failure("TCP", reason, remedy, is_refusal=False)


async def _explained(
    connection: _SteppingConnection, error: BaseException, options: Mapping[str, Any]
) -> Failure:
    """Say what the failure of a step means. A closed connection has its cause in its chain."""
    tls_error = next((one for one in _chain(error) if isinstance(one, ssl.SSLError)), None)
    if isinstance(tls_error, ssl.SSLCertVerificationError):
        return _failure_of_certificate(tls_error)
    if connection.step == "SASL":
        return await _failure_of_sasl(connection, error, options)
    if mismatch := await _wrong_protocol(connection.host, connection.port, options):
        return mismatch
    if tls_error is not None:
        remedy = "see KAFKA_SSL_CERT_FILE and KAFKA_SSL_KEY_FILE: brokers may ask for ours"
        return Failure("TLS", _words(tls_error.reason), remedy)
    reason = "no answer" if isinstance(error, TimeoutError) else "the connection was closed"
    remedy = "is this port a Kafka broker's, and does its log say why?"
    return Failure(connection.step, reason, remedy, is_refusal=False)


def _failure_of_certificate(error: ssl.SSLCertVerificationError) -> Failure:
    authority = "set KAFKA_SSL_CA_FILE to the PEM file of the authority that signed its certificate"
    remedy = _CERTIFICATE_REMEDIES.get(error.verify_code, authority)
    return Failure("TLS", error.verify_message.rstrip("."), remedy)


async def _failure_of_sasl(
    connection: _SteppingConnection, error: BaseException, options: Mapping[str, Any]
) -> Failure:
    mechanism = options["sasl_mechanism"]
    offered = await offered_mechanisms(connection.host, connection.port, options)
    if offered is not None and mechanism not in offered:
        return _failure_of_mechanism(mechanism, offered, options)
    if not isinstance(error, BrokerResponseError):
        reason = "the connection was closed"
        return Failure("SASL", reason, "does the broker's log say why?", is_refusal=False)
    words = next((one for one in error.args if isinstance(one, str)), type(error).__name__)
    reason = _printable(words, options.get("sasl_plain_password"))
    if provider := options.get("sasl_oauth_token_provider"):
        about = _printable(described(await provider.token()), None)
        remedy = "compare this token with the issuer, audience and time that the broker expects"
        return Failure("SASL", f"{mechanism}: {reason} ({about or 'no JWT'})", remedy)
    remedy = "see KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"
    return Failure("SASL", f"{mechanism}: {reason}", remedy)


def _failure_of_mechanism(
    mechanism: str, offered: Iterable[str], options: Mapping[str, Any]
) -> Failure:
    if not offered:
        protocol = options["security_protocol"].removeprefix("SASL_")
        return Failure(
            "SASL", "this port has none", f"set KAFKA_SECURITY_PROTOCOL={protocol}, or another port"
        )
    known = ", ".join(sorted(offered))
    return Failure(
        "SASL",
        f"the broker does not know {mechanism}",
        f"set KAFKA_SASL_MECHANISM to one that it offers: {known}",
    )


async def _wrong_protocol(host: str, port: int, options: Mapping[str, Any]) -> Failure | None:
    """Find out whether the port speaks TLS and wants SASL. Returns None if it does as we do."""
    protocol = options["security_protocol"]
    has_tls = await speaks_tls(host, port)
    if has_tls is None:
        return None
    if has_tls != protocol.endswith("SSL"):
        wanted = protocol.replace("SSL", "PLAINTEXT")
        if has_tls:
            wanted = protocol.replace("PLAINTEXT", "SSL")
        reason = f"this port speaks {'TLS' if has_tls else 'no TLS'}"
        return Failure("TLS", reason, f"set KAFKA_SECURITY_PROTOCOL={wanted}, or another port")
    if protocol.startswith("SASL"):
        return None
    offered = await offered_mechanisms(host, port, options)
    if not offered:
        return None
    return Failure(
        "SASL",
        "this port wants a sign-in",
        f"set KAFKA_SECURITY_PROTOCOL=SASL_{protocol}, KAFKA_SASL_MECHANISM to one of "
        f"{', '.join(sorted(offered))}, and its user",
    )


def _chain(error: BaseException | None) -> Iterable[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _printable(reason: str, secret: str | None) -> str:
    """Put a broker's own words on one line, and mask our password if it echoes that."""
    masked = reason.replace(secret, MASK) if secret else reason
    return " ".join(masked.split())[:REASON_CHARS]


def _words(reason: str | None) -> str:
    """Return OpenSSL's name of an alert, such as tlsv13 alert certificate required."""
    return (reason or "the handshake failed").replace("_", " ").lower()
