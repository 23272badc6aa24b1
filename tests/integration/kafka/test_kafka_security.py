"""A broker with TLS, passwords, tokens and rights: the right settings get in.

With wrong ones it is said which step failed, why, and what to set. One broker has a port for each
case. The plain port may do everything, alice too; carol may read the topic and join no group; dave
may write to another topic and read this one, in transactions of his group; bob may do nothing.
"""

import asyncio
import gc
import logging
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest

from normalizer.cli.check import run_checks
from normalizer.config.settings import Settings
from normalizer.embedded import KafkaBroker, ensure_kafka_jars
from normalizer.errors import BrokerSignInError, BrokerUnavailableError, FatalError
from normalizer.kafka import (
    CommittedOffset,
    GrouplessClient,
    GroupReader,
    KafkaPartition,
    OutputRecord,
    TransactionalProducer,
    access_tokens,
    wall_clock_ms,
)
from normalizer.kafka.transactional_producer import MAX_PRODUCER_BATCH_BYTES
from normalizer.monitoring import lag
from tests.support.certificates import make_certificates
from tests.support.service_runs import process
from tests.support.stack import Database, Stack
from tests.support.token_endpoint import AUDIENCE, CLIENT, SECRET, TokenEndpoint, token_endpoint
from tests.support.waiting import moment

USER, PASSWORD = "alice", "wonderland-7"
TOPIC = "secured"
LOGIN = "org.apache.kafka.common.security"
PROTOCOLS = {
    "PLAINTEXT": "PLAINTEXT",
    "TLS": "SSL",
    "MUTUAL": "SSL",
    "PASSWORD": "SASL_PLAINTEXT",
    "BOTH": "SASL_SSL",
    "TOKEN": "SASL_PLAINTEXT",
}
WRITTEN, WRITERS = "written", "writers"
ACLS = [
    (2, TOPIC, 3, "User:carol", "*", 3, 3),
    (2, TOPIC, 3, "User:dave", "*", 3, 3),
    (2, WRITTEN, 3, "User:dave", "*", 4, 3),
    (3, WRITERS, 3, "User:dave", "*", 3, 3),
    (5, WRITERS, 4, "User:dave", "*", 4, 3),
]
"""By Kafka's numbers: what is named (a topic, a group, a transactional id), whether by its whole
name or its beginning, and what may be done with it from every host: 3 is Read, 4 is Write."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def other_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("other-tls"))


@pytest.fixture(scope="module")
def endpoint() -> Iterator[TokenEndpoint]:
    with token_endpoint() as started:
        yield started


@pytest.fixture(autouse=True)
def _tokens_as_they_were(endpoint: TokenEndpoint) -> None:
    endpoint.lifetime_s, endpoint.expires_in = 300.0, None


@pytest.fixture(scope="module")
async def broker(stack: Stack, files: Path, endpoint: TokenEndpoint) -> AsyncIterator[KafkaBroker]:
    async with KafkaBroker(
        stack.folder / "kafka-secure",
        await ensure_kafka_jars(print),
        properties={**rights(), **certificates(files), **passwords(), **tokens(endpoint)},
        listeners={name: protocol for name, protocol in PROTOCOLS.items() if name != "PLAINTEXT"},
        format_arguments=[
            part
            for bits in (256, 512)
            for part in ("--add-scram", f"SCRAM-SHA-{bits}=[name={USER},password={PASSWORD}]")
        ],
        java_options=[f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={endpoint.jwks_url}"],
    ) as started:
        async with GrouplessClient(through(started, files, endpoint, "PLAINTEXT")) as log:
            for topic in (TOPIC, WRITTEN):
                await log.create_topic(topic, partitions=1)
        admin = AIOKafkaAdminClient(bootstrap_servers=started.bootstrap_servers)
        await admin.start()
        for acl in ACLS:
            answer = await admin._send_request(CreateAclsRequest(*acl))
            assert [code for code, _ in answer.creation_responses] == [0]
        await admin.close()
        yield started


def rights() -> dict[str, str]:
    return {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:ANONYMOUS;User:{USER};User:CN=server",
    }


def certificates(files: Path) -> dict[str, str]:
    return {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(files / "both.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(files / "ca.pem"),
        "listener.name.mutual.ssl.client.auth": "required",
    }


def passwords() -> dict[str, str]:
    scram = f"{LOGIN}.scram.ScramLoginModule required;"
    users = " ".join(f'user_{name}="{PASSWORD}"' for name in (USER, "bob", "carol", "dave"))
    settings = {
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "plain.sasl.jaas.config": f"{LOGIN}.plain.PlainLoginModule required {users};",
        "scram-sha-256.sasl.jaas.config": scram,
        "scram-sha-512.sasl.jaas.config": scram,
    }
    return {
        f"listener.name.{listener}.{name}": value
        for listener in ("password", "both")
        for name, value in settings.items()
    }


def tokens(endpoint: TokenEndpoint) -> dict[str, str]:
    """The broker ends a session with its token, and allows clocks no difference."""
    oauth = "listener.name.token.oauthbearer"
    return {
        "listener.name.token.sasl.enabled.mechanisms": "OAUTHBEARER",
        f"{oauth}.sasl.jaas.config": f"{LOGIN}.oauthbearer.OAuthBearerLoginModule required;",
        f"{oauth}.sasl.server.callback.handler.class": (
            f"{LOGIN}.oauthbearer.OAuthBearerValidatorCallbackHandler"
        ),
        f"{oauth}.sasl.oauthbearer.jwks.endpoint.url": endpoint.jwks_url,
        f"{oauth}.sasl.oauthbearer.expected.issuer": endpoint.issuer,
        f"{oauth}.sasl.oauthbearer.expected.audience": AUDIENCE,
        f"{oauth}.sasl.oauthbearer.clock.skew.seconds": "0",
        f"{oauth}.connections.max.reauth.ms": "3600000",
    }


def through(
    broker: KafkaBroker, files: Path, endpoint: TokenEndpoint, listener: str, **fields: Any
) -> Settings:
    """Settings that get in at this port; another `at` is the port that is called."""
    values: dict[str, Any] = {
        "kafka_bootstrap_servers": (broker.listener_address(fields.pop("at", listener)),),
        "kafka_topics": (TOPIC,),
        "kafka_group_id": f"group.{listener}.{fields.get('kafka_sasl_mechanism', '')}",
        "kafka_security_protocol": PROTOCOLS[listener],
        "kafka_sasl_username": USER,
        "kafka_sasl_password": PASSWORD,
        "kafka_ssl_ca_file": str(files / "ca.pem"),
        "kafka_sasl_oauthbearer_token_endpoint_url": endpoint.url,
        "kafka_sasl_oauthbearer_client_id": CLIENT,
        "kafka_sasl_oauthbearer_client_secret": SECRET,
        "progress_timeout_s": 20,
        "http_port": 0,
    }
    if listener == "TOKEN":
        values["kafka_sasl_mechanism"] = "OAUTHBEARER"
    return Settings(**(values | fields))


WAYS_IN = [
    ("TLS", {}),
    ("PASSWORD", {"kafka_sasl_mechanism": "PLAIN"}),
    ("PASSWORD", {"kafka_sasl_mechanism": "SCRAM-SHA-256"}),
    ("PASSWORD", {"kafka_sasl_mechanism": "SCRAM-SHA-512"}),
    ("BOTH", {"kafka_sasl_mechanism": "PLAIN"}),
    ("BOTH", {"kafka_sasl_mechanism": "SCRAM-SHA-512"}),
    ("TOKEN", {"kafka_sasl_oauthbearer_extensions": ("cluster=one",)}),
    ("PLAINTEXT", {"kafka_client_rack": "zone-a"}),
]


@pytest.mark.parametrize(("listener", "fields"), WAYS_IN)
async def test_the_right_settings_get_in(
    broker: KafkaBroker,
    files: Path,
    endpoint: TokenEndpoint,
    listener: str,
    fields: dict[str, Any],
) -> None:
    settings = through(broker, files, endpoint, listener, **fields)

    async with GrouplessClient(settings) as log:
        assert await log.partitions(TOPIC) == {KafkaPartition(TOPIC, 0)}
    reader = GroupReader(settings)
    await reader.join_group()
    assert reader.assigned == {KafkaPartition(TOPIC, 0)}
    assert await reader.leave_group(timeout_s=10)


async def test_a_broker_that_asks_for_our_certificate_gets_it(
    broker: KafkaBroker, files: Path, endpoint: TokenEndpoint
) -> None:
    settings = through(
        broker,
        files,
        endpoint,
        "MUTUAL",
        kafka_ssl_cert_file=str(files / "cert.pem"),
        kafka_ssl_key_file=str(files / "key.pem"),
    )

    async with GrouplessClient(settings) as log:
        assert await log.partitions(TOPIC)


INVALID = "Authentication failed"
SEE_PASSWORD = "see KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME, and KAFKA_SASL_PASSWORD"
SEE_TLS = "see KAFKA_SSL_CA_FILE, KAFKA_SSL_CERT_FILE, and KAFKA_SECURITY_PROTOCOL"
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "plain password": (
        "PASSWORD",
        {"kafka_sasl_password": "hunter2"},
        rf"SASL: PLAIN: {INVALID}.*: {SEE_PASSWORD}",
    ),
    "scram password": (
        "BOTH",
        {"kafka_sasl_mechanism": "SCRAM-SHA-256", "kafka_sasl_password": "hunter2"},
        rf"SASL: SCRAM-SHA-256: {INVALID}.*: {SEE_PASSWORD}",
    ),
    "mechanism": (
        "PASSWORD",
        {"kafka_sasl_mechanism": "OAUTHBEARER"},
        r"SASL: OAUTHBEARER: The broker does not support the requested SASL mechanism",
    ),
    "system's authority": (
        "TLS",
        {"kafka_ssl_ca_file": None},
        f"TLS: .*certificate.*: {SEE_TLS}",
    ),
    "no certificate of ours": ("MUTUAL", {}, f"TLS: .*alert.*certificate.*: {SEE_TLS}"),
    "a sign-in where there is none": (
        "BOTH",
        {"at": "TLS"},
        f"SASL: PLAIN: Request is not valid given the current SASL state.*: {SEE_PASSWORD}",
    ),
    "client secret": (
        "TOKEN",
        {"kafka_sasl_oauthbearer_client_secret": "hunter2"},
        r"token: http://.*/token: HTTP 401 \(invalid_client\): see KAFKA_SASL_OAUTHBEARER_",
    ),
}


async def failure(settings: Settings) -> BrokerUnavailableError:
    async with GrouplessClient(settings) as log:
        with pytest.raises(BrokerUnavailableError) as raised:
            await log.cluster_id()
    for secret in ("hunter2", PASSWORD, SECRET):
        assert secret not in str(raised.value)
    return raised.value


@pytest.mark.parametrize(("listener", "fields", "sentence"), REFUSED.values(), ids=REFUSED)
async def test_a_wrong_setting_is_named_by_its_step_and_what_to_set(
    broker: KafkaBroker,
    files: Path,
    endpoint: TokenEndpoint,
    listener: str,
    fields: dict[str, Any],
    sentence: str,
) -> None:
    error = await failure(through(broker, files, endpoint, listener, **dict(fields)))

    assert re.search(sentence, str(error)), error
    assert isinstance(error, BrokerSignInError)


async def test_a_certificate_of_another_authority_or_host_is_named(
    broker: KafkaBroker, files: Path, other_files: Path, endpoint: TokenEndpoint
) -> None:
    settings = through(broker, files, endpoint, "TLS")
    _, port = settings.kafka_bootstrap_servers[0].split(":")

    authority = await failure(
        msgspec.structs.replace(settings, kafka_ssl_ca_file=str(other_files / "ca.pem"))
    )
    host = await failure(
        msgspec.structs.replace(settings, kafka_bootstrap_servers=(f"localhost:{port}",))
    )

    assert "TLS: certificate signature failure: see KAFKA_SSL_CA_FILE" in str(authority)
    assert "TLS: Hostname mismatch, certificate is not valid for 'localhost'" in str(host)
    assert isinstance(authority, BrokerSignInError)
    assert isinstance(host, BrokerSignInError)


async def test_an_expired_token_is_named_with_its_time(
    broker: KafkaBroker, files: Path, endpoint: TokenEndpoint
) -> None:
    endpoint.lifetime_s, endpoint.expires_in = -60, 300

    settings = through(broker, files, endpoint, "TOKEN", kafka_sasl_oauthbearer_scope="expired")
    error = await failure(settings)

    assert "SASL: OAUTHBEARER: " in str(error)
    assert "invalid_token" in str(error)
    assert f"issuer {endpoint.issuer}, audience {AUDIENCE}, subject {USER}, expired at " in str(
        error
    )
    assert "eyJ" not in str(error)
    assert isinstance(error, BrokerSignInError)


async def test_temporary_errors_are_not_refused_sign_ins(
    broker: KafkaBroker, files: Path, endpoint: TokenEndpoint
) -> None:
    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    closing = await asyncio.start_server(close, "127.0.0.1", 0)
    port = closing.sockets[0].getsockname()[1]
    plain = through(broker, files, endpoint, "PLAINTEXT")

    errors = [
        await failure(settings)
        for settings in (
            msgspec.structs.replace(plain, kafka_bootstrap_servers=("127.0.0.1:1",)),
            msgspec.structs.replace(
                plain, kafka_bootstrap_servers=(f"127.0.0.1:{port}", "127.0.0.1:1")
            ),
            through(broker, files, endpoint, "PLAINTEXT", at="TLS"),
            through(broker, files, endpoint, "PLAINTEXT", at="PASSWORD"),
            through(broker, files, endpoint, "TLS", at="PLAINTEXT"),
        )
    ]
    closing.close()

    assert not any(isinstance(error, BrokerSignInError) for error in errors)
    assert all("does KAFKA_SECURITY_PROTOCOL fit this port" in str(error) for error in errors[1:])
    assert "127.0.0.1:1: TCP: Connection refused: is the broker running" in str(errors[0])
    assert f"127.0.0.1:{port}: API versions: the connection was closed" in str(errors[1])


@pytest.mark.parametrize("user", ["bob", "carol"])
async def test_a_missing_right_is_named_with_what_gives_it(
    broker: KafkaBroker, files: Path, endpoint: TokenEndpoint, user: str
) -> None:
    settings = through(
        broker, files, endpoint, "PASSWORD", kafka_sasl_username=user, kafka_group_id="closed"
    )
    grant = "kafka-acls.sh --add --allow-principal User:NAME --operation Read"

    found = await findings(settings)
    reader = GroupReader(settings)
    async with GrouplessClient(settings) as log:
        if user == "bob":
            with pytest.raises(FatalError) as raised:
                await log.partitions(TOPIC)
        else:
            with pytest.raises(FatalError) as raised:
                await reader.join_group()

    missing = f"--topic {TOPIC}" if user == "bob" else "--group closed"
    assert f"authorization: no right to this {missing[2:7]}: {grant} {missing}" in str(raised.value)
    assert f"{grant} {missing}" in [remedy for _, _, remedy in found]


@pytest.mark.parametrize(
    ("topic", "operation", "values"),
    [(WRITTEN, "Read", 1), (TOPIC, "Write", 1), (TOPIC, "Write", 10)],
    ids=["read for its offset", "write", "write more than one batch"],
)
async def test_a_right_that_a_transaction_lacks_is_named_with_what_gives_it(
    broker: KafkaBroker,
    files: Path,
    endpoint: TokenEndpoint,
    topic: str,
    operation: str,
    values: int,
) -> None:
    settings = through(broker, files, endpoint, "PASSWORD", kafka_sasl_username="dave")
    producer = TransactionalProducer(settings, WRITERS, KafkaPartition(topic, 0))
    records = [OutputRecord(topic, b"1", bytes(MAX_PRODUCER_BATCH_BYTES // 2), [])] * values
    await producer.start()

    with pytest.raises(FatalError) as raised:
        await producer.write_and_commit(records, CommittedOffset(1))
    await producer.stop()

    assert f"--operation {operation} --topic {topic}" in str(raised.value)


async def test_hidden_settings_of_a_topic_are_reported_with_what_shows_them(
    broker: KafkaBroker,
    files: Path,
    endpoint: TokenEndpoint,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without them nobody knows when Kafka deletes unread records."""
    settings = through(
        broker, files, endpoint, "PASSWORD", kafka_sasl_username="carol", database_url="postgresql:"
    )
    shown = (
        "kafka-acls.sh --add --allow-principal User:NAME "
        f"--operation DescribeConfigs --topic {TOPIC}"
    )
    monkeypatch.setattr(lag, "RETENTION_READ_INTERVAL_S", 0.0)

    found = await findings(settings)
    lag_monitor = lag.LagMonitor(settings)
    for _ in range(2):
        await lag_monitor.poll_broker()
    await lag_monitor.close()

    said = [
        line for line in capsys.readouterr().out.splitlines() if "lag.retention_unknown" in line
    ]
    hidden = "its settings are hidden, so the alert NormalizerRecordsExpire can't fire"
    assert (f"topic {TOPIC}", hidden, shown) in found
    assert lag_monitor.broker_up
    assert len(said) == 1
    assert shown in said[0]


async def findings(settings: Settings) -> list[tuple[str, str, str]]:
    """What `check` finds at the brokers; no database answers."""
    nowhere = msgspec.structs.replace(settings, database_url="postgresql://u:p@127.0.0.1:1/none")
    async with GrouplessClient(nowhere) as log:
        return [
            (finding.about, finding.message, finding.remedy)
            async for finding in run_checks(nowhere, log)
        ]


async def test_a_token_is_renewed_before_it_expires_and_nothing_notices(
    broker: KafkaBroker,
    files: Path,
    endpoint: TokenEndpoint,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The broker closes a connection at the first request after its token has expired."""
    monkeypatch.setattr(access_tokens, "_RENEWED_AFTER_SHARE", 0.4)  # room for a busy machine
    endpoint.lifetime_s = 6
    endpoint.requests.clear()
    settings = through(broker, files, endpoint, "TOKEN", kafka_sasl_oauthbearer_scope="renewed")
    partition = KafkaPartition(TOPIC, 0)
    read: list[bytes | None] = []
    reader = GroupReader(settings)
    await reader.join_group()
    reader.start_reading(partition, incarnation=0, offset=0)
    assignments = reader.group_changes
    gc.collect()  # what earlier tests left behind warns now
    caplog.clear()

    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
        while len(endpoint.requests) < 5:  # the first token has expired by then
            await producer.send_and_wait(TOPIC, str(len(endpoint.requests)).encode())
            for chunk in await reader.fetch([partition], max_records=100, timeout_s=0.3):
                read += [record.value for record in chunk.records]
            for log in reader.unverified_partitions():
                reader.mark_verified(log, compared_ms=wall_clock_ms())
            for _ in range(20):
                await moment()
    assert await reader.leave_group(timeout_s=10)

    assert {b"1", b"2", b"3"} <= {*read}
    assert reader.group_changes == assignments + 1  # its own stop
    assert [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING] == []


async def test_a_refused_sign_in_ends_the_service_by_3_after_a_few_tries(
    broker: KafkaBroker, files: Path, endpoint: TokenEndpoint, database: Database
) -> None:
    fine = through(broker, files, endpoint, "PASSWORD", database_url=database.url)
    replaced = msgspec.structs.replace
    wrong = {
        "SASL: PLAIN": replaced(fine, kafka_sasl_password="hunter2"),
        "authorization: no right to this topic": replaced(fine, kafka_sasl_username="bob"),
        "database: sign-in: password authentication failed": replaced(
            fine, database_url=database.url.replace("@", "hunter2@", 1), kafka_group_id="wrong"
        ),
    }

    async with AsyncExitStack() as running:
        children = [await running.enter_async_context(process(one)) for one in wrong.values()]
        said = [(await child.communicate())[0].decode() for child in children]

    for sentence, child, lines in zip(wrong, children, said, strict=True):
        last = msgspec.json.decode(lines.splitlines()[-1])
        assert child.returncode == 3
        assert last["event"] == "process.ended"
        assert sentence in last["why"]
        assert ("rejected 5 times in a row" in last["why"]) is not ("authorization" in sentence)
        assert not any(secret in lines for secret in ("hunter2", PASSWORD, SECRET, "eyJ"))
