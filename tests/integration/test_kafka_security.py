"""A broker with TLS and passwords: the service gets in with the right ones, and only then."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from normalizer.cli.check import check
from normalizer.embedded import KafkaBroker, kafka_jars
from normalizer.errors import BrokerUnavailable
from normalizer.kafka import GroupReader, KafkaPartition, TopicReader
from normalizer.settings import Settings
from tests.support.certificates import KEY_PASSWORD, make_certificates
from tests.support.stack import Stack

USER, PASSWORD = "alice", "wonderland-7"
LOGIN = "org.apache.kafka.common.security"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
async def broker(stack: Stack, files: Path) -> AsyncIterator[KafkaBroker]:
    """A plain listener, and one each with TLS, with passwords, and with both."""
    scram = f"{LOGIN}.scram.ScramLoginModule required;"
    plain = f'{LOGIN}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
    properties = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(files / "both.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(files / "ca.pem"),
        "listener.name.mutual.ssl.client.auth": "required",
    }
    for listener in ("password", "both"):
        prefix = f"listener.name.{listener}"
        properties |= {
            f"{prefix}.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            f"{prefix}.plain.sasl.jaas.config": plain,
            f"{prefix}.scram-sha-256.sasl.jaas.config": scram,
            f"{prefix}.scram-sha-512.sasl.jaas.config": scram,
        }
    users = [f"SCRAM-SHA-{bits}=[name={USER},password={PASSWORD}]" for bits in (256, 512)]
    async with KafkaBroker(
        stack.folder / "kafka-secure",
        await kafka_jars(print),
        properties=properties,
        listeners={
            "TLS": "SSL",
            "MUTUAL": "SSL",
            "PASSWORD": "SASL_PLAINTEXT",
            "BOTH": "SASL_SSL",
        },
        format_arguments=[part for user in users for part in ("--add-scram", user)],
    ) as started:
        async with TopicReader(
            Settings(kafka_bootstrap_servers=(started.bootstrap_servers,))
        ) as log:
            await log.create_topic("secured", partitions=1)
        yield started


def through(broker: KafkaBroker, files: Path, listener: str, **fields: Any) -> Settings:
    protocols = {
        "TLS": "SSL",
        "MUTUAL": "SSL",
        "PASSWORD": "SASL_PLAINTEXT",
        "BOTH": "SASL_SSL",
    }
    values: dict[str, Any] = {
        "kafka_bootstrap_servers": (broker.address_of(listener),),
        "kafka_topics": ("secured",),
        "kafka_group_id": f"group.{listener}.{fields.get('kafka_sasl_mechanism', '')}",
        "kafka_security_protocol": protocols[listener],
        "kafka_sasl_username": USER,
        "kafka_sasl_password": PASSWORD,
        "kafka_ssl_ca_file": str(files / "ca.pem"),
        "progress_timeout_s": 20,
    }
    return Settings(**(values | fields))


WAYS_IN = [
    ("TLS", {}),
    ("PASSWORD", {"kafka_sasl_mechanism": "PLAIN"}),
    ("PASSWORD", {"kafka_sasl_mechanism": "SCRAM-SHA-256"}),
    ("PASSWORD", {"kafka_sasl_mechanism": "SCRAM-SHA-512"}),
    ("BOTH", {"kafka_sasl_mechanism": "PLAIN"}),
    ("BOTH", {"kafka_sasl_mechanism": "SCRAM-SHA-512"}),
]


@pytest.mark.parametrize(("listener", "fields"), WAYS_IN)
async def test_the_right_settings_get_in(
    broker: KafkaBroker, files: Path, listener: str, fields: dict[str, Any]
) -> None:
    settings = through(broker, files, listener, **fields)

    async with TopicReader(settings) as log:
        assert await log.partitions("secured") == {KafkaPartition("secured", 0)}
    reader = GroupReader(settings)
    await reader.start()
    assert reader.assigned == {KafkaPartition("secured", 0)}
    assert await reader.stop(timeout_s=10)


async def test_a_broker_that_asks_for_our_certificate_gets_it(
    broker: KafkaBroker, files: Path
) -> None:
    settings = through(
        broker,
        files,
        "MUTUAL",
        kafka_ssl_cert_file=str(files / "cert.pem"),
        kafka_ssl_key_file=str(files / "key.pem"),
        kafka_ssl_key_password=KEY_PASSWORD,
    )

    async with TopicReader(settings) as log:
        assert await log.partitions("secured")


@pytest.mark.parametrize(
    ("listener", "fields"),
    [
        ("TLS", {"kafka_ssl_ca_file": None}),
        ("MUTUAL", {}),
        ("PASSWORD", {"kafka_sasl_password": "wrong"}),
        ("PASSWORD", {"kafka_sasl_mechanism": "SCRAM-SHA-256", "kafka_sasl_password": "wrong"}),
        ("BOTH", {"kafka_security_protocol": "PLAINTEXT"}),
    ],
    ids=["unknown authority", "no certificate", "plain", "scram", "no security"],
)
async def test_the_wrong_settings_do_not(
    broker: KafkaBroker, files: Path, listener: str, fields: dict[str, Any]
) -> None:
    async with TopicReader(through(broker, files, listener, **fields)) as log:
        with pytest.raises(BrokerUnavailable) as raised:
            await log.cluster_id()

    assert "wrong" not in str(raised.value)


async def test_check_tells_a_topic_that_may_not_be_seen_from_one_that_is_not_there(
    stack: Stack,
) -> None:
    """The plain listener may do anything; a login with a password may do nothing."""
    login = f'{LOGIN}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
    async with KafkaBroker(
        stack.folder / "kafka-rights",
        await kafka_jars(print),
        properties={
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "listener.name.password.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.password.plain.sasl.jaas.config": login,
        },
        listeners={"PASSWORD": "SASL_PLAINTEXT"},
    ) as broker:
        anybody = Settings(
            kafka_bootstrap_servers=(broker.bootstrap_servers,),
            kafka_topics=("hidden", "none"),
            database_url="postgresql://u:p@127.0.0.1:1/none",
        )
        nobody = msgspec.structs.replace(
            anybody,
            kafka_bootstrap_servers=(broker.address_of("PASSWORD"),),
            kafka_security_protocol="SASL_PLAINTEXT",
            kafka_sasl_mechanism="PLAIN",
            kafka_sasl_username=USER,
            kafka_sasl_password=PASSWORD,
        )
        async with TopicReader(anybody) as log:
            await log.create_topic("hidden", partitions=1)

        said = [await said_of_topics(settings) for settings in (anybody, nobody)]

    assert said[0]["none"] == "there is none"
    assert "1 partitions" in said[0]["hidden"]
    assert all("no right to describe it" in one for one in said[1].values())


async def said_of_topics(settings: Settings) -> dict[str, str]:
    """The first finding about each topic."""
    found: dict[str, str] = {}
    async with TopicReader(settings) as log:
        async for finding in check(settings, log):
            subject, _, name = finding.about.partition(" ")
            if subject == "topic":
                found.setdefault(name, finding.message)
    return found
