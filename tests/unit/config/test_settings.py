"""Settings: one object, every mistake at once, no secret shown."""

import msgspec
import pytest
from click.testing import CliRunner

from normalizer.config.environment import (
    PROJECTOR_VARIABLES,
    format_settings_as_env_file,
    load_settings,
    unknown_variables,
)
from normalizer.config.passwords import mask_url_passwords
from normalizer.config.settings import Settings, environment_variable
from normalizer.errors import ConfigurationError
from projector.cli import main as projector
from tests.support.command_tree import subcommands

DSN = "postgresql://writer:s3cr%40t@db:5432/events"


def test_each_field_is_read_from_its_own_variable() -> None:
    loaded = load_settings(
        {
            "DATABASE_URL": DSN,
            "KAFKA_BOOTSTRAP_SERVERS": "a:9092, [::1]:9093",
            "KAFKA_TOPICS": "one,two,",
            "KAFKA_SECURITY_PROTOCOL": "ssl",
            "KAFKA_SASL_PASSWORD": "'quoted'",
            "NORMALIZER_BATCH_ROWS": "17",
            "NORMALIZER_REDACT_KEYS": "ssn, iban",
        }
    )

    assert loaded == Settings(
        database_url=DSN,
        kafka_bootstrap_servers=("a:9092", "[::1]:9093"),
        kafka_topics=("one", "two"),
        kafka_security_protocol="SSL",
        kafka_sasl_password="'quoted'",
        batch_rows=17,
        redact_keys=("ssn", "iban"),
    )


def test_every_mistake_is_reported_at_once() -> None:
    environ = {
        "NORMALIZER_BATCH_ROWS": "0",
        "NORMALIZER_BATCH_AGE_MS": "two",
        "KAFKA_SASL_MECHANISM": "GSSAPI",
    }

    with pytest.raises(ConfigurationError) as raised:
        load_settings(environ, needs=("kafka_bootstrap_servers",))

    assert str(raised.value).splitlines() == [
        (
            "KAFKA_SASL_MECHANISM: expected one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, "
            "OAUTHBEARER, AWS_MSK_IAM; got 'GSSAPI'"
        ),
        "NORMALIZER_BATCH_ROWS: expected int >= 1; got '0'",
        "NORMALIZER_BATCH_AGE_MS: expected int; got 'two'",
        "KAFKA_BOOTSTRAP_SERVERS: not set; Brokers to ask first, as comma-separated host:port.",
    ]


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"DATABASE_URL": "mysql://u:hunter2@h/n"}, "DATABASE_URL: expected postgresql://"),
        ({"DATABASE_URL": "postgresql://u:hunter2#x@h/n"}, "DATABASE_URL: expected postgresql://"),
        ({"DATABASE_URL": "postgresql://u:hunter2/x@h/n"}, "DATABASE_URL: expected postgresql://"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "broker"}, "expected host:port; got 'broker'"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "a:0"}, "expected host:port; got 'a:0'"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "a:65536"}, "expected host:port; got 'a:65536'"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "SSL://a:9093"}, "expected host:port; got 'SSL://a:9093'"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "a:1;b:2"}, "expected host:port; got 'a:1;b:2'"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "::1:9092"}, "expected host:port; got '::1:9092'"),
        ({"DATABASE_URL": "'postgresql://u:hunter2@h/n'"}, "DATABASE_URL: the value is in quotes"),
        ({"KAFKA_GROUP_ID": '"normalizer"'}, "KAFKA_GROUP_ID: the value is in quotes"),
        ({"KAFKA_SSL_CA_FILE": '""'}, "KAFKA_SSL_CA_FILE: the value is in quotes"),
        ({"KAFKA_BOOTSTRAP_SERVERS": " , "}, "KAFKA_BOOTSTRAP_SERVERS: expected at least one name"),
        ({"KAFKA_TOPICS": ","}, "KAFKA_TOPICS: expected at least one name"),
        ({"KAFKA_TOPICS": "a,b c"}, "KAFKA_TOPICS: expected 1 to 249 letters, digits, dots"),
        ({"KAFKA_TOPICS": ".."}, "dots, _ and -, as Kafka allows; got '..'"),
        ({"KAFKA_TOPICS": "a" * 250}, f"as Kafka allows; got '{'a' * 60}'"),
        ({"KAFKA_REJECTED_TOPIC": "a/b"}, "KAFKA_REJECTED_TOPIC: expected 1 to 249 letters"),
        ({"KAFKA_GROUP_ID": "hunter2\udcff"}, "KAFKA_GROUP_ID: expected UTF-8"),
        (
            {"KAFKA_CANONICAL_TOPIC": "out", "KAFKA_REJECTED_TOPIC": "out"},
            "KAFKA_REJECTED_TOPIC: must not be KAFKA_CANONICAL_TOPIC",
        ),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "KAFKA_SASL_USERNAME: needed with SASL_SSL"),
        (
            {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_MECHANISM": "OAUTHBEARER"},
            "KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET: needed with SASL_SSL, OAUTHBEARER",
        ),
        (
            {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_MECHANISM": "AWS_MSK_IAM"},
            "KAFKA_SASL_AWS_REGION: needed with SASL_SSL, AWS_MSK_IAM",
        ),
        (
            {"KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL": "https://me:hunter2@login/token"},
            "KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL: expected https://host/path, without",
        ),
        (
            {"KAFKA_SASL_OAUTHBEARER_EXTENSIONS": "cluster=one,auth=x"},
            "KAFKA_SASL_OAUTHBEARER_EXTENSIONS: expected name=value, with only ",
        ),
        ({"KAFKA_SSL_CA_FILE": "/no/such.pem"}, "KAFKA_SSL_CA_FILE: no such file: /no/such.pem"),
    ],
)
def test_a_contradiction_names_its_variable(environ: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load_settings(environ)

    assert sentence in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_a_key_without_a_certificate_is_a_mistake(tmp_path_factory: pytest.TempPathFactory) -> None:
    key = tmp_path_factory.mktemp("tls") / "key.pem"
    key.write_text("key")

    with pytest.raises(ConfigurationError, match="KAFKA_SSL_CERT_FILE: needed"):
        load_settings({"KAFKA_SSL_KEY_FILE": str(key)})


def test_the_configuration_is_documented_without_its_secrets() -> None:
    loaded = Settings(database_url=DSN, kafka_sasl_password="hunter2", batch_rows=17)

    shown = format_settings_as_env_file(loaded)

    assert "DATABASE_URL=postgresql://writer:***@db:5432/events" in shown.splitlines()
    assert "KAFKA_SASL_PASSWORD=***" in shown.splitlines()
    assert "NORMALIZER_BATCH_ROWS=17" in shown.splitlines()
    assert "# NORMALIZER_BATCH_AGE_MS=200" in shown.splitlines()
    assert "s3cr" not in shown
    assert "hunter2" not in shown


def test_every_variable_has_a_description_and_a_default() -> None:
    shown = format_settings_as_env_file(Settings())

    for field in msgspec.structs.fields(Settings):
        paragraph = next(
            part for part in shown.split("\n\n") if f"{environment_variable(field.name)}=" in part
        )
        assert paragraph.startswith("# ")
        assert " Default: " in paragraph


def test_the_secrets_are_known_in_both_spellings() -> None:
    loaded = Settings(database_url=DSN, kafka_sasl_password="hunter2")

    assert loaded.secrets() == ("s3cr%40t", "s3cr@t", "hunter2")


def test_a_url_is_masked_wherever_its_password_stands() -> None:
    assert (
        mask_url_passwords("at postgresql://u:p@ss@h/n?password=x&sslpassword=y now")
        == "at postgresql://u:***@h/n?password=***&sslpassword=*** now"
    )


def test_a_misspelt_variable_is_named_with_the_one_that_was_meant() -> None:
    environ = {"NORMALIZER_BATCH_ROW": "1", "KAFKA_SERVICE_HOST": "10.0.0.1", "PATH": "/bin"}

    assert list(map(str, unknown_variables(environ))) == [
        "NORMALIZER_BATCH_ROW is not known; did you mean NORMALIZER_BATCH_ROWS?"
    ]


def test_any_variable_of_our_name_that_is_none_of_ours_is_named() -> None:
    links = {
        "NORMALIZER_SERVICE_HOST": "10.0.0.1",
        "NORMALIZER_SERVICE_PORT_METRICS": "9464",
        "NORMALIZER_PORT": "tcp://10.0.0.1:9464",
        "NORMALIZER_PORT_9464_TCP_ADDR": "10.0.0.1",
        "NORMALIZER_URL": "http://127.0.0.1:9464",
        "KAFKA_HEAP_OPTS": "-Xmx1g",
    }

    unknown = unknown_variables(links | {"NORMALIZER_FAST": "1", "NORMALIZER_PORT": "1"})
    assert list(map(str, unknown)) == [
        "NORMALIZER_FAST is not known; `normalizer config` lists all known ones",
        "NORMALIZER_PORT is not known; `normalizer config` lists all known ones",
    ]
    assert unknown_variables(links) == []


def test_every_variable_that_an_option_of_the_projector_reads_is_known() -> None:
    options = [option for command in subcommands(projector).values() for option in command.params]

    read = {str(option.envvar) for option in options if option.envvar} | {"PROJECTOR_TOKEN"}
    assert {name for name in read if name.startswith("PROJECTOR_")} == set(PROJECTOR_VARIABLES)


def test_the_projector_names_its_own_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROJECTOR_KEEP_EVENT", "PROJECTOR_TOKEN", "PROJECTOR_URL", "PROJECTOR_FAST"):
        monkeypatch.setenv(name, "90d")

    said = CliRunner().invoke(projector, ["maintain", "--help"]).stderr

    helps = "the `--help` of `projector serve` or `maintain`"
    assert said.splitlines() == [
        f"PROJECTOR_FAST is not known; {helps} lists all known ones",
        "PROJECTOR_KEEP_EVENT is not known; did you mean PROJECTOR_KEEP_EVENTS?",
    ]


def test_the_owner_is_the_instance_or_the_process() -> None:
    assert Settings(instance="pod-1").process_name == "pod-1"
    assert ":" in Settings().process_name
