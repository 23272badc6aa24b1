"""Requests access tokens from an authorization server, or signs them with AWS credentials.

`access_tokens` calls these functions in a thread. Their errors say whether another attempt may
succeed, and never contain a token or the client's secret.
"""

import base64
import re
import time
import urllib.parse
import urllib.request
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPException
from ssl import SSLCertVerificationError
from typing import Any, Final, NamedTuple
from urllib.error import HTTPError

import msgspec
from aiokafka.errors import KafkaError

from normalizer.config.settings import Settings

_RESPONSE_TIMEOUT_S: Final = 10.0
_MOST_BYTES: Final = 1 << 20
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_ERROR_CODE: Final = re.compile(r"[a-z_]{1,40}")
_ITS_URL: Final = "see KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL"
_MAY_PASS: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})


class AccessToken(NamedTuple):
    """An access token, and how many seconds it's valid from now."""

    text: str
    lifetime_s: float


class TokenUnavailableError(KafkaError):  # type: ignore[misc]
    """No token could be obtained. The message says why, and never contains a token or a secret.

    It's a subclass of KafkaError, because aiokafka's background tasks don't handle any other error.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}: {remedy}")


class TokenRejectedError(TokenUnavailableError):
    """No token could be obtained, and another attempt with the same settings would fail too."""


class _Answer(msgspec.Struct, frozen=True):
    access_token: str
    expires_in: float


class _ErrorAnswer(msgspec.Struct, frozen=True):
    error: str = ""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, so that the client secret is sent only to the configured address."""

    def redirect_request(self, *_: Any) -> None:
        return None


_opener: Final = urllib.request.build_opener(_NoRedirect)


def request_oauth_token(settings: Settings) -> AccessToken:
    """Request a token with the client's id and secret. Source: RFC 6749, sections 4.4 and 2.3.1."""
    url = settings.kafka_sasl_oauthbearer_token_endpoint_url or ""
    credentials = ":".join(
        urllib.parse.quote_plus(text or "")
        for text in (
            settings.kafka_sasl_oauthbearer_client_id,
            settings.kafka_sasl_oauthbearer_client_secret,
        )
    )
    form = {"grant_type": "client_credentials"}
    if settings.kafka_sasl_oauthbearer_scope:
        form["scope"] = settings.kafka_sasl_oauthbearer_scope
    request = urllib.request.Request(  # noqa: S310 - environment.py allows http and https only
        url,
        data=urllib.parse.urlencode(form).encode(),
        headers={
            "Authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}",
            "Accept": "application/json",
        },
    )
    try:
        with _opener.open(request, timeout=_RESPONSE_TIMEOUT_S) as response:
            answer = msgspec.json.decode(response.read(_MOST_BYTES), type=_Answer, strict=False)
    except HTTPError as error:
        raise _http_failure(url, error) from None
    except (OSError, HTTPException, ValueError) as error:
        raise _failure(url, error) from None
    if not _TOKEN.fullmatch(answer.access_token):
        raise _failure(url, ValueError())
    return AccessToken(answer.access_token, answer.expires_in)


def sign_msk_token(region: str) -> AccessToken:
    """Sign a token for Amazon MSK with the AWS credentials in the environment.

    It needs the extra `msk`.
    """
    from aws_msk_iam_sasl_signer import MSKAuthTokenProvider  # noqa: PLC0415 - an extra

    try:
        text, expires_at_ms = MSKAuthTokenProvider.generate_auth_token(region)
    except Exception as error:  # noqa: BLE001 - the AWS library has its own tree of errors
        remedy = "see the AWS_* variables, and KAFKA_SASL_AWS_REGION"
        raise TokenUnavailableError(f"AWS credentials: {type(error).__name__}", remedy) from None
    return AccessToken(text, expires_at_ms / 1000 - time.time())


def describe_token(token: str) -> str:
    """Describe a JWT by its claims, without its signature. Returns '' for any other token."""
    try:
        _, payload, _ = token.split(".")
        claims = msgspec.json.decode(base64.urlsafe_b64decode(f"{payload}=="), type=dict[str, Any])
        until = datetime.fromtimestamp(float(claims["exp"]), UTC)
    except (ValueError, KeyError, TypeError, OverflowError, OSError):
        return ""
    verb = "expires" if until > datetime.now(UTC) else "expired"
    return (
        f"issuer {claims.get('iss')}, audience {claims.get('aud')}, subject {claims.get('sub')}, "
        f"{verb} at {until:%Y-%m-%dT%H:%M:%SZ}"
    )


def _http_failure(url: str, error: HTTPError) -> TokenUnavailableError:
    """Build the error from the error code only, because a description may repeat what we sent."""
    with error:
        try:
            code = msgspec.json.decode(error.read(_MOST_BYTES), type=_ErrorAnswer).error
        except (OSError, HTTPException, ValueError):
            code = ""
    named = f" ({code})" if _ERROR_CODE.fullmatch(code) else ""
    is_rejected = error.code < HTTPStatus.INTERNAL_SERVER_ERROR and error.code not in _MAY_PASS
    reason, remedy = f"{_place(url)}: HTTP {error.code}{named}", "see KAFKA_SASL_OAUTHBEARER_*"
    return (TokenRejectedError if is_rejected else TokenUnavailableError)(reason, remedy)


def _failure(url: str, error: Exception) -> TokenUnavailableError:
    cause = getattr(error, "reason", error)
    match cause:
        case SSLCertVerificationError():
            remedy = (
                "set SSL_CERT_FILE to the PEM file of the authority that signed its certificate"
            )
            return TokenRejectedError(f"{_place(url)}: {cause.verify_message}", remedy)
        case OSError():
            return TokenUnavailableError(
                f"{_place(url)}: {cause.strerror or 'no answer'}", _ITS_URL
            )
        case _:
            reason = f"{_place(url)}: its answer has no access_token with expires_in"
            return TokenRejectedError(reason, _ITS_URL)


def _place(url: str) -> str:
    """Return the address without its query, which may hold a secret."""
    return url.partition("?")[0]
