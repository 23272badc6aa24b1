"""Every security setting reaches the Kafka client."""

from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.conn import OAuthAuthenticator

from normalizer.config.environment import load_settings
from normalizer.config.settings import Settings
from normalizer.errors import BrokerSignInError, ConfigurationError
from normalizer.kafka import GroupReader, connection_options
from normalizer.kafka.consumer_factory import new_group_consumer
from tests.support.certificates import make_certificates

PLAIN = Settings(kafka_bootstrap_servers=("a:9092", "b:9093"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def with_tls(files: Path, **fields: object) -> Settings:
    values: dict[str, object] = {
        "kafka_bootstrap_servers": ("a:9093",),
        "kafka_security_protocol": "SSL",
        "kafka_ssl_ca_file": str(files / "ca.pem"),
        "kafka_ssl_cert_file": str(files / "cert.pem"),
        "kafka_ssl_key_file": str(files / "key.pem"),
    }
    return Settings(**{**values, **fields})  # type: ignore[arg-type]


def test_plain_text_needs_no_more_than_an_address() -> None:
    options = connection_options(PLAIN)

    assert options["bootstrap_servers"] == ["a:9092", "b:9093"]
    assert options["client_id"] == "normalizer"
    assert options["security_protocol"] == "PLAINTEXT"
    assert "ssl_context" not in options
    assert "sasl_plain_password" not in options


@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "AWS_MSK_IAM"])
async def test_a_sign_in_by_token_shares_its_tokens_among_all_clients(mechanism: str) -> None:
    settings = Settings(
        kafka_bootstrap_servers=("a:9092",),
        kafka_security_protocol="SASL_PLAINTEXT",
        kafka_sasl_mechanism=mechanism,  # type: ignore[arg-type]
    )

    first, second = connection_options(settings), connection_options(settings)

    assert first["sasl_mechanism"] == "OAUTHBEARER"
    assert first["sasl_oauth_token_provider"] is second["sasl_oauth_token_provider"]
    await AIOKafkaConsumer(**first).stop()


def test_extensions_are_sent_with_the_token() -> None:
    settings = Settings(
        kafka_security_protocol="SASL_PLAINTEXT",
        kafka_sasl_mechanism="OAUTHBEARER",
        kafka_sasl_oauthbearer_extensions=("logicalCluster=lkc-1", "identityPoolId=pool=1"),
    )
    provider = connection_options(settings)["sasl_oauth_token_provider"]

    sent = OAuthAuthenticator(sasl_oauth_token_provider=provider)._token_extensions()

    assert sent == "\x01logicalCluster=lkc-1\x01identityPoolId=pool=1"


async def test_the_rack_is_sent_with_every_fetch() -> None:
    settings = msgspec.structs.replace(PLAIN, kafka_client_rack="zone-a")

    consumer = new_group_consumer(settings, GroupReader(settings))

    assert consumer._client_rack == "zone-a"
    await consumer.stop()


def test_a_key_that_cannot_be_read_says_which_settings_name_it(files: Path) -> None:
    """The file may be half written while it is renewed, so the process keeps trying."""
    with pytest.raises(BrokerSignInError, match="KAFKA_SSL_KEY_FILE: not pem"):
        connection_options(with_tls(files, kafka_ssl_key_file=str(files / "locked.pem")))


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"KAFKA_SSL_CA_FILE": "key.pem"}, "KAFKA_SSL_CA_FILE: no certificate or crl found"),
        ({"KAFKA_SSL_CERT_FILE": "key.pem"}, "KAFKA_SSL_CERT_FILE or .*: not pem, or locked"),
        (
            {"KAFKA_SSL_CERT_FILE": "ca.pem", "KAFKA_SSL_KEY_FILE": "both.pem"},
            "KAFKA_SSL_CERT_FILE or .*: key values mismatch",
        ),
    ],
)
def test_a_tls_file_that_does_not_hold_is_a_wrong_setting(
    files: Path, environ: dict[str, str], said: str
) -> None:
    paths = {name: str(files / file) for name, file in environ.items()}

    with pytest.raises(ConfigurationError, match=said):
        load_settings({"KAFKA_SECURITY_PROTOCOL": "SSL", **paths})
