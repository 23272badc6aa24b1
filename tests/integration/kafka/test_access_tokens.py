"""Tokens of an authorization server: requested with the client's secret, which nobody else sees."""

import base64
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from normalizer.config.settings import Settings
from normalizer.kafka.token_sources import (
    TokenRejectedError,
    TokenUnavailableError,
    describe_token,
    request_oauth_token,
    sign_msk_token,
)
from tests.support.token_endpoint import CLIENT, SECRET, TokenEndpoint, token_endpoint


@pytest.fixture
def endpoint() -> Iterator[TokenEndpoint]:
    with token_endpoint() as started:
        yield started


def client_settings(endpoint: TokenEndpoint, **fields: str) -> Settings:
    values = {
        "kafka_sasl_oauthbearer_token_endpoint_url": endpoint.url,
        "kafka_sasl_oauthbearer_client_id": CLIENT,
        "kafka_sasl_oauthbearer_client_secret": SECRET,
    }
    return Settings(**(values | fields))  # type: ignore[arg-type]


def refused(settings: Settings) -> TokenUnavailableError:
    with pytest.raises(TokenUnavailableError) as raised:
        request_oauth_token(settings)
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None
    return raised.value


def test_a_token_is_requested_with_the_clients_credentials(endpoint: TokenEndpoint) -> None:
    settings = client_settings(endpoint, kafka_sasl_oauthbearer_scope="events read")

    token = request_oauth_token(settings)

    assert endpoint.requests == [{"grant_type": ["client_credentials"], "scope": ["events read"]}]
    assert token.lifetime_s == 300
    assert f"issuer {endpoint.issuer}, audience kafka, subject alice" in describe_token(token.text)


def test_a_wrong_secret_is_a_refusal_and_its_echo_is_not_repeated(endpoint: TokenEndpoint) -> None:
    error = refused(client_settings(endpoint, kafka_sasl_oauthbearer_client_secret="hunter2"))

    assert isinstance(error, TokenRejectedError)
    assert f"{endpoint.url}: HTTP 401 (invalid_client): see KAFKA_SASL_OAUTHBEARER_" in str(error)
    assert "hunter2" not in str(error)


@pytest.mark.parametrize(
    ("answer", "is_rejected"),
    [
        ((503, b"", {}), False),
        ((429, b"", {}), False),
        ((302, b"", {"Location": "/jwks"}), True),
        ((404, b"<html>", {}), True),
        ((400, b'{"error":7}', {}), True),
        ((200, b"<html>", {}), True),
        ((200, b'{"expires_in":300}', {}), True),
        ((200, b'{"access_token":"a","expires_in":"soon"}', {}), True),
        ((200, b'{"access_token":"a\\u0001auth=b","expires_in":300}', {}), True),
        ((200, b"\xff", {}), True),
    ],
)
def test_an_answer_without_a_token_is_an_outage_or_a_refusal(
    endpoint: TokenEndpoint, answer: tuple[int, bytes, dict[str, str]], is_rejected: bool
) -> None:
    endpoint.answer = answer

    assert isinstance(refused(client_settings(endpoint)), TokenRejectedError) is is_rejected


def test_a_server_that_is_away_is_an_outage_and_its_query_stays_unsaid() -> None:
    url = "http://127.0.0.1:1/token?code=hunter2"
    error = refused(Settings(kafka_sasl_oauthbearer_token_endpoint_url=url))

    assert not isinstance(error, TokenRejectedError)
    assert "http://127.0.0.1:1/token: Connection refused" in str(error)
    assert "hunter2" not in str(error)


def test_a_token_for_msk_is_a_signed_address(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aws_msk_iam_sasl_signer")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    token = sign_msk_token("eu-central-1")

    address = urlsplit(base64.urlsafe_b64decode(f"{token.text}==").decode())
    assert address.hostname == "kafka.eu-central-1.amazonaws.com"
    assert parse_qs(address.query)["Action"] == ["kafka-cluster:Connect"]
    assert 800 < token.lifetime_s <= 900


def test_msk_without_credentials_says_where_they_are_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pytest.importorskip("aws_msk_iam_sasl_signer")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))

    with pytest.raises(TokenUnavailableError, match=r"AWS credentials: .*AWS_") as raised:
        sign_msk_token("eu-central-1")

    assert not isinstance(raised.value, TokenRejectedError)
