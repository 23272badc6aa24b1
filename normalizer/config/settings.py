"""Declares every setting: its default, bounds, unit, and description.

To add a setting, add it here and nowhere else. `environment` reads its value, and `normalizer
config`, the docs site, and the tests of the chart are generated from its description.
"""

import os
import socket
from typing import Annotated, Final, Literal, get_args

import msgspec
from msgspec import Meta
from msgspec.structs import FieldInfo

from normalizer.config.passwords import find_url_passwords
from normalizer.errors import ConfigurationError


def _about(
    description: str,
    *,
    unit: str = "",
    secret: bool = False,
    ge: int | None = None,
    le: int | None = None,
) -> Meta:
    return Meta(description=description, extra={"unit": unit, "secret": secret}, ge=ge, le=le)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that an operator can set, with a description for each field.

    Each field is read from an environment variable. Its name is the field's name in capitals, with
    NORMALIZER_ before it, except for DATABASE_URL and names that begin with KAFKA_. For example,
    `batch_rows` is NORMALIZER_BATCH_ROWS. An empty variable counts as not set.
    """

    database_url: Annotated[
        str | None,
        _about(
            "PostgreSQL to write to, as postgresql://user:password@host:port/name. Separate "
            "several host:port with commas."
        ),
    ] = None

    kafka_bootstrap_servers: Annotated[
        tuple[str, ...], _about("Brokers to ask first, as comma-separated host:port.")
    ] = ()
    kafka_topics: Annotated[tuple[str, ...], _about("Topics to read, comma-separated.")] = (
        "noetl.events",
    )
    kafka_group_id: Annotated[
        str, _about("Consumer group. The processes of one group share the partitions.")
    ] = "normalizer"
    kafka_canonical_topic: Annotated[
        str, _about("Topic that `normalizer relay` writes canonical events to.")
    ] = "noetl.events.canonical"
    kafka_rejected_topic: Annotated[
        str, _about("Topic that `normalizer relay` writes rejections to: reasons, never the bytes.")
    ] = "noetl.events.rejected"
    kafka_security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
        _about("Protocol of the brokers: PLAINTEXT, SSL, SASL_PLAINTEXT, or SASL_SSL."),
    ] = "PLAINTEXT"
    kafka_sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM"],
        _about(
            "With SASL: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER (client credentials), or "
            "AWS_MSK_IAM. The last signs its tokens with the AWS credentials of the environment, "
            "and needs the extra msk. GSSAPI (Kerberos) isn't supported."
        ),
    ] = "PLAIN"
    kafka_sasl_username: Annotated[str | None, _about("With SASL PLAIN and SCRAM: the user.")] = (
        None
    )
    kafka_sasl_password: Annotated[
        str | None, _about("With SASL PLAIN and SCRAM: the user's password.", secret=True)
    ] = None
    kafka_sasl_oauthbearer_token_endpoint_url: Annotated[
        str | None,
        _about(
            "With OAUTHBEARER: the token endpoint of the authorization server, for example "
            "https://login.example/oauth2/token."
        ),
    ] = None
    kafka_sasl_oauthbearer_client_id: Annotated[
        str | None, _about("With OAUTHBEARER: the client's id at the authorization server.")
    ] = None
    kafka_sasl_oauthbearer_client_secret: Annotated[
        str | None, _about("With OAUTHBEARER: the client's secret.", secret=True)
    ] = None
    kafka_sasl_oauthbearer_scope: Annotated[
        str | None,
        _about("With OAUTHBEARER: scopes to request, separated by spaces. By default none."),
    ] = None
    kafka_sasl_oauthbearer_extensions: Annotated[
        tuple[str, ...],
        _about("With OAUTHBEARER: extensions for the brokers, as comma-separated name=value."),
    ] = ()
    kafka_sasl_aws_region: Annotated[
        str | None, _about("With AWS_MSK_IAM: the region of the cluster, such as eu-central-1.")
    ] = None
    kafka_ssl_ca_file: Annotated[
        str | None,
        _about("With SSL: PEM file of the trusted authorities. By default the system's are used."),
    ] = None
    kafka_ssl_cert_file: Annotated[
        str | None, _about("With SSL: PEM file of the client certificate, if brokers ask for one.")
    ] = None
    kafka_ssl_key_file: Annotated[
        str | None,
        _about(
            "With SSL: PEM file of the client's key, without a password. Not needed if the file of "
            "the certificate contains the key."
        ),
    ] = None
    kafka_client_rack: Annotated[
        str | None,
        _about(
            "Rack or availability zone of this process. Brokers that select replicas by rack let "
            "it read from a replica nearby."
        ),
    ] = None
    kafka_session_timeout_ms: Annotated[
        int,
        _about(
            "After this long without a heartbeat from a process, the group gives its partitions to "
            "other processes.",
            unit="ms",
            ge=1_000,
            le=1_800_000,
        ),
    ] = 45_000

    batch_rows: Annotated[
        int, _about("Maximum number of rows in a transaction.", unit="rows", ge=1, le=100_000)
    ] = 5_000
    batch_age_ms: Annotated[
        int,
        _about(
            "Longest time that a record waits for its batch to fill. After a fast write it's "
            "shorter: twice the time that the write took. With a backlog, batches are full.",
            unit="ms",
            ge=0,
            le=60_000,
        ),
    ] = 200
    redact_keys: Annotated[
        tuple[str, ...],
        _about(
            "More words that mark a key as secret, comma-separated. The value of a key that has "
            "one is redacted."
        ),
    ] = ()
    shapes: Annotated[
        str | None,
        _about(
            "TOML file of more shapes and their vectors, see docs/adding-a-shape.md. By default "
            "there is none."
        ),
    ] = None
    core: Annotated[
        Literal["native", "python"],
        _about(
            "How records are normalized: python, or native. With native, the native lane reads "
            "most records, and Python the others. If the lane isn't installed, or was built for "
            "other rules, Python reads all."
        ),
    ] = "native"
    instance: Annotated[
        str | None,
        _about(
            "Name of this process in positions, in logs, and in the consumer group. A process with "
            "a name gets its partitions back as soon as it restarts. No two processes of a group "
            "may have the same name. By default, positions and logs show host and pid, and the "
            "group knows no name."
        ),
    ] = None
    stop_timeout_s: Annotated[
        int,
        _about(
            "Time for open batches to finish after SIGTERM. "
            "Make the pod's grace period 45 s longer.",
            unit="s",
            ge=1,
            le=600,
        ),
    ] = 20
    progress_timeout_s: Annotated[
        int,
        _about(
            "If records wait and nothing is stored for this long, the process rejoins the group. "
            "If that doesn't help, it exits.",
            unit="s",
            ge=5,
            le=3_600,
        ),
    ] = 120
    http_host: Annotated[
        str,
        _about("Address that serves /metrics, /livez, and /readyz. 0.0.0.0 means every address."),
    ] = "127.0.0.1"
    http_port: Annotated[
        int,
        _about(
            "Port for /metrics, /livez, and /readyz. With 0, a free port is used and logged.",
            ge=0,
            le=65_535,
        ),
    ] = 9464
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        _about("Lowest level that is logged: debug, info, warning, or error."),
    ] = "info"
    log_format: Annotated[
        Literal["auto", "json", "ecs", "pretty"],
        _about(
            "Format of log lines: json, ecs (JSON with the names of the Elastic Common Schema), "
            "pretty, or auto, which means pretty on a terminal and json elsewhere."
        ),
    ] = "auto"

    @property
    def process_name(self) -> str:
        """Return the name of this process in `source_positions.owner`."""
        return self.instance or f"{socket.gethostname()}:{os.getpid()}"

    @property
    def required_database_url(self) -> str:
        """Return `database_url`. Raises ConfigurationError if it isn't set."""
        if self.database_url is None:
            raise ConfigurationError("DATABASE_URL: not set")
        return self.database_url

    def secrets(self) -> tuple[str, ...]:
        """Return every secret among the values, in each form in which a library may print it."""
        in_url = find_url_passwords(self.database_url or "")
        plain = [getattr(self, field.name) for field in SETTING_FIELDS if is_secret_field(field)]
        return tuple(dict.fromkeys(text for text in [*in_url, *plain] if text))


SETTING_FIELDS: Final = msgspec.structs.fields(Settings)


def environment_variable(name: str) -> str:
    """Return the environment variable of a field."""
    if name == "database_url" or name.startswith("kafka_"):
        return name.upper()
    return f"NORMALIZER_{name.upper()}"


def field_meta(field: FieldInfo) -> Meta:
    """Return the bounds, the description, the unit, and whether the value is a secret."""
    meta = get_args(field.type)[1]
    assert isinstance(meta, Meta)
    return meta


def is_secret_field(field: FieldInfo) -> bool:
    """Return whether the value of a field must never be shown."""
    return bool((field_meta(field).extra or {})["secret"])
