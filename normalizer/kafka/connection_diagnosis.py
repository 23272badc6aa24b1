"""Finds the step at which the brokers reject this process, and reports the reason.

If aiokafka can't connect, it reports only that no address worked, but not why. So after a failed
start, this module connects to each address once more, step by step (TCP, TLS, API versions, SASL).
The operator then sees an error that names the step, the reason, and a remedy.
"""

import asyncio
import os
import ssl
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from aiokafka.conn import AIOKafkaConnection, OAuthAuthenticator, collect_hosts
from aiokafka.errors import BrokerResponseError, KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from normalizer.config.passwords import URL_MASK
from normalizer.errors import BrokerSignInError, BrokerUnavailableError
from normalizer.kafka.token_sources import (
    TokenRejectedError,
    TokenUnavailableError,
    describe_token,
)

_STEP_S: Final = 5.0
_MAX_REASON_CHARS: Final = 200
_FAILURES: Final = (KafkaError, OSError, TimeoutError, EOFError)
"""The errors that a connection or a request of aiokafka raises."""
_SEE_ADDRESS: Final = "is the broker running, and is it the one in KAFKA_BOOTSTRAP_SERVERS?"
_SEE_ADVERTISED: Final = (
    "set advertised.listeners of the brokers to addresses that this machine can reach"
)
_SEE_PROTOCOL: Final = (
    "does KAFKA_SECURITY_PROTOCOL fit this port, is it a broker's, and does the broker's log say "
    "why?"
)
_SEE_TLS: Final = (
    "see KAFKA_SSL_CA_FILE, KAFKA_SSL_CERT_FILE, and KAFKA_SECURITY_PROTOCOL, and name the broker "
    "as its certificate does"
)
_SEE_USER: Final = "see KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME, and KAFKA_SASL_PASSWORD"
_SEE_ISSUER: Final = "compare this token with the issuer, audience and time that the broker expects"


class ConnectionFailure(NamedTuple):
    """The step at which a connection failed, why it failed, and what to do about it.

    `is_rejected` is True if the broker answered with a rejection, for example because of a wrong
    password. It's False if the broker couldn't be reached, or closed the connection without an
    answer.
    """

    step: str
    reason: str
    remedy: str
    is_rejected: bool = True


async def diagnose_connection(options: Mapping[str, Any]) -> BrokerUnavailableError | None:
    """Try every bootstrap server with these options, and return why none of them works.

    Returns None if at least one works, i.e. accepts the sign-in and names a broker of its cluster
    that can be reached. If the servers fail for different reasons, one that rejected us is reported
    rather than one that's unreachable, because a rejection says more about what to fix.
    """
    client_options = dict(options)
    hosts = collect_hosts(client_options.pop("bootstrap_servers"), randomize=False)
    client_options["request_timeout_ms"] = round(_STEP_S * 1000)
    try:
        if provider := client_options.get("sasl_oauth_token_provider"):
            await provider.token()
    except TokenRejectedError as error:
        return BrokerSignInError(f"token: {error.args[0]}")
    except TokenUnavailableError as error:
        return BrokerUnavailableError(f"token: {error.args[0]}")
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
    server, failure = min(failures.items(), key=lambda one: not one[1].is_rejected)
    return (BrokerSignInError if failure.is_rejected else BrokerUnavailableError)(
        f"{server}: {failure.step}: {failure.reason}", remedy=failure.remedy
    )


async def _failure_at(host: str, port: int, options: Mapping[str, Any]) -> ConnectionFailure | None:
    """Connect to a server step by step, as aiokafka does, and request its cluster's brokers."""
    if failure := await _failure_of_tcp(host, port):
        return failure
    connection = _SteppingConnection(host, port, **options)
    try:
        await connection.connect()
        connection.step = "sign-in"
        cluster = await connection.send(MetadataRequest([]))
    except _FAILURES as error:
        return await _failure_of_step(connection.step, error, options)
    finally:
        connection.close()
    return await _failure_of_advertised([broker[1:3] for broker in cluster.brokers])


async def _failure_of_advertised(addresses: Sequence[tuple[str, int]]) -> ConnectionFailure | None:
    """Connect to the addresses that the brokers advertise. Returns None if one can be reached.

    A client gets these addresses from a bootstrap server, and then uses no others. So if they're
    wrong, the sign-in works, but everything after it fails.
    """
    async with asyncio.TaskGroup() as tasks:
        tries = {
            f"{host}:{port}": tasks.create_task(_failure_of_tcp(host, port), name=f"reach {host}")
            for host, port in addresses
        }
    failures = {address: failure for address, one in tries.items() if (failure := one.result())}
    if not failures or len(failures) < len(tries):
        return None
    address, failure = next(iter(failures.items()))
    step = f"advertised address {address}"
    return failure._replace(step=step, remedy=_SEE_ADVERTISED)


class _SteppingConnection(AIOKafkaConnection):  # type: ignore[misc]
    """A connection that records the step it's in."""

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
    """Makes the broker say why it rejects a token.

    The broker sends the reason only after the client has sent one more byte, so this class sends
    that byte. aiokafka's own class doesn't, and would count the rejection as a success. Source: RFC
    7628, section 3.2.3.
    """

    async def step(self, payload: bytes | None) -> Any:
        return (b"\x01", True) if payload else await super().step(payload)


async def _failure_of_tcp(host: str, port: int) -> ConnectionFailure | None:
    reason = f"no answer in {_STEP_S:.0f} s"
    try:
        async with asyncio.timeout(_STEP_S):
            _, writer = await asyncio.open_connection(host, port)
    except _FAILURES as error:
        if isinstance(error, OSError) and error.errno:
            # Use the operating system's message, because asyncio's repeats the address. An unknown
            # host name gives a negative code, which only the resolver can explain, so use the
            # resolver's message for it.
            reason = os.strerror(error.errno) if error.errno > 0 else str(error.strerror)
        return ConnectionFailure("TCP", reason, _SEE_ADDRESS, is_rejected=False)
    writer.close()
    return None


async def _failure_of_step(
    step: str, error: BaseException, options: Mapping[str, Any]
) -> ConnectionFailure:
    """Build the failure of a step from the error that aiokafka raised in it.

    That error may say only that the connection was closed. The actual cause, for example a TLS
    error, is then taken from its chain of exceptions.
    """
    if tls_error := next((one for one in _chain(error) if isinstance(one, ssl.SSLError)), None):
        return ConnectionFailure("TLS", _words_of_tls(tls_error), _SEE_TLS)
    if not isinstance(error, BrokerResponseError):
        reason = "no answer" if isinstance(error, TimeoutError) else "the connection was closed"
        return ConnectionFailure(step, reason, _SEE_PROTOCOL, is_rejected=False)
    words = next((one for one in error.args if isinstance(one, str)), error.description)
    reason = f"{options['sasl_mechanism']}: {_printable(words, options.get('sasl_plain_password'))}"
    if provider := options.get("sasl_oauth_token_provider"):
        about = _printable(describe_token(await provider.token()), None)
        return ConnectionFailure(step, f"{reason} ({about or 'no JWT'})", _SEE_ISSUER)
    return ConnectionFailure(step, reason, _SEE_USER)


def _chain(error: BaseException | None) -> Iterable[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _printable(reason: str, secret: str | None) -> str:
    """Put the broker's text on one line, and mask our password in case the broker repeats it."""
    masked = reason.replace(secret, URL_MASK) if secret else reason
    return " ".join(masked.split())[:_MAX_REASON_CHARS]


def _words_of_tls(error: ssl.SSLError) -> str:
    """Return OpenSSL's reason in plain text, such as "tlsv13 alert certificate required"."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message.rstrip(".")
    return (error.reason or "the handshake failed").replace("_", " ").lower()
