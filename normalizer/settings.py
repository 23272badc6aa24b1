"""Reads the settings from environment variables, and reports every mistake in them at once."""

import difflib
import os
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin
from urllib.parse import unquote

import msgspec
from msgspec import Meta

from normalizer.errors import ConfigurationError

MASK: Final = "***"


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
    """Everything that an operator can set; each field has its description.

    A field is the variable of the same name in capitals where it begins with KAFKA_ or is
    DATABASE_URL, else with NORMALIZER_ before it. Empty means not set.
    """

    database_url: Annotated[
        str | None,
        _about("PostgreSQL to write to, as postgresql://user:password@host:port/name."),
    ] = None

    kafka_bootstrap_servers: Annotated[
        tuple[str, ...], _about("Brokers to ask first, host:port, separated by commas.")
    ] = ()
    kafka_topics: Annotated[tuple[str, ...], _about("Topics to read, separated by commas.")] = (
        "noetl.events",
    )
    kafka_group_id: Annotated[
        str, _about("Consumer group; processes of one group share the partitions.")
    ] = "normalizer"
    kafka_client_id: Annotated[str, _about("Name that brokers log for this process.")] = (
        "normalizer"
    )
    kafka_security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
        _about("How to speak to the brokers: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."),
    ] = "PLAINTEXT"
    kafka_sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"],
        _about(
            "With SASL: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512. GSSAPI (Kerberos) and OAUTHBEARER "
            "are not supported."
        ),
    ] = "PLAIN"
    kafka_sasl_username: Annotated[str | None, _about("With SASL: the user.")] = None
    kafka_sasl_password: Annotated[
        str | None, _about("With SASL: the user's password.", secret=True)
    ] = None
    kafka_ssl_ca_file: Annotated[
        str | None, _about("With SSL: PEM file of the authority; unset: the system's.")
    ] = None
    kafka_ssl_cert_file: Annotated[
        str | None, _about("With SSL: PEM file of our own certificate, if brokers ask for one.")
    ] = None
    kafka_ssl_key_file: Annotated[
        str | None, _about("With SSL: PEM file of our key, unless the certificate's file has it.")
    ] = None
    kafka_ssl_key_password: Annotated[
        str | None, _about("With SSL: the password of our key.", secret=True)
    ] = None
    kafka_ssl_check_hostname: Annotated[
        bool, _about("With SSL: refuse a broker whose certificate names another host.")
    ] = True
    kafka_session_timeout_ms: Annotated[
        int,
        _about(
            "Silence after which the group gives this process's partitions to another.",
            unit="ms",
            ge=1_000,
            le=1_800_000,
        ),
    ] = 45_000
    kafka_rebalance_timeout_ms: Annotated[
        int,
        _about(
            "How long a rebalance waits for a process that has not joined yet.",
            unit="ms",
            ge=1_000,
            le=1_800_000,
        ),
    ] = 30_000
    kafka_fetch_max_bytes: Annotated[
        int,
        _about("Bytes a broker sends in one answer.", unit="bytes", ge=65_536, le=1_073_741_824),
    ] = 52_428_800
    kafka_max_partition_fetch_bytes: Annotated[
        int,
        _about(
            "Bytes of one partition in one answer; memory holds one such part per partition.",
            unit="bytes",
            ge=65_536,
            le=1_073_741_824,
        ),
    ] = 4_194_304

    batch_rows: Annotated[
        int, _about("Rows of one transaction at most.", unit="rows", ge=1, le=100_000)
    ] = 5_000
    batch_bytes: Annotated[
        int,
        _about(
            "Record bytes after which a batch is written.",
            unit="bytes",
            ge=65_536,
            le=1_073_741_824,
        ),
    ] = 16_777_216
    batch_age_ms: Annotated[
        int,
        _about(
            "How long a record waits at most for its batch to fill. A batch is due sooner where "
            "writes are fast: after three times its writer's last write. A backlog fills it whole.",
            unit="ms",
            ge=0,
            le=60_000,
        ),
    ] = 200
    writers: Annotated[
        int,
        _about(
            "Connections that write at once, each for partitions of its own.",
            unit="connections",
            ge=1,
            le=16,
        ),
    ] = 2
    redact_keys: Annotated[
        tuple[str, ...],
        _about("Further words whose presence in a key makes its value a secret, by commas."),
    ] = ()
    instance: Annotated[
        str | None, _about("Name of this process in positions and logs; unset: host and pid.")
    ] = None
    stop_timeout_s: Annotated[
        int,
        _about(
            "Time a batch in flight has to finish after SIGTERM; below the pod's grace period.",
            unit="s",
            ge=1,
            le=600,
        ),
    ] = 20
    progress_timeout_s: Annotated[
        int,
        _about(
            "Without progress for this long while records wait, rejoin the group, then exit.",
            unit="s",
            ge=5,
            le=3_600,
        ),
    ] = 120
    core: Annotated[
        Literal["auto", "python"],
        _about(
            "Which build of the rules to run; auto: the compiled one where it was built from "
            "these sources; python: never. Both give the same rows."
        ),
    ] = "auto"
    http_host: Annotated[
        str, _about("Address to answer /metrics, /livez and /readyz on; 0.0.0.0: on every one.")
    ] = "127.0.0.1"
    http_port: Annotated[
        int,
        _about("Port for them; 0: a free one, which the log names.", ge=0, le=65_535),
    ] = 9464
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        _about("Least level that is logged: debug, info, warning or error."),
    ] = "info"
    log_format: Annotated[
        Literal["auto", "json", "pretty"],
        _about("Log lines: json, pretty, or auto: pretty on a terminal."),
    ] = "auto"

    @property
    def owner(self) -> str:
        """The name of this process in `source_positions.owner`."""
        return self.instance or f"{socket.gethostname()}:{os.getpid()}"

    def secrets(self) -> tuple[str, ...]:
        """Every secret among the values, in each spelling a library may print."""
        in_url = [*_PASSWORD_OF_URL.findall(self.database_url or "")]
        in_url += [unquote(text) for text in in_url]
        plain = [getattr(self, field.name) for field in _fields() if _is_secret(field)]
        return tuple(dict.fromkeys(text for text in [*in_url, *plain] if text))


def load(environ: Mapping[str, str], *, needs: tuple[str, ...] = ()) -> Settings:
    """Read the settings of an environment; `needs` names fields that must be set.

    Raises ConfigurationError with one line for every variable that is wrong.
    """
    values: dict[str, Any] = {}
    mistakes: list[str] = []
    for field in _fields():
        text = environ.get(variable(field.name), "").strip()
        if not text:
            continue
        try:
            values[field.name] = _converted(field, text)
        except ValueError as error:
            mistakes.append(f"{variable(field.name)}: {error}")
    if not mistakes:
        settings = Settings(**values)
        mistakes += _contradictions(settings)
    mistakes += [
        f"{variable(name)}: not set; {_meta_of(_field(name)).description}"
        for name in needs
        if not environ.get(variable(name), "").strip()
    ]
    if mistakes:
        raise ConfigurationError("\n".join(mistakes))
    return Settings(**values)


def variable(name: str) -> str:
    """The environment variable of a field."""
    if name == "database_url" or name.startswith("kafka_"):
        return name.upper()
    return f"NORMALIZER_{name.upper()}"


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Describe variables that look like ours and are not, with the likely intended one.

    Variables with KAFKA_ are reported only if they resemble ours, because other programs use the
    prefix too. Kubernetes adds the address of every service (NORMALIZER_PORT, KAFKA_SERVICE_HOST).
    """
    known = [variable(field.name) for field in _fields()]
    found = []
    for name in sorted(set(environ) - set(known)):
        if not name.startswith(("NORMALIZER_", "KAFKA_")) or _is_of_others(name, environ[name]):
            continue
        meant = difflib.get_close_matches(name, known, n=1, cutoff=0.9)
        if meant:
            found.append(f"{name} is not known; did you mean {meant[0]}?")
        elif name.startswith("NORMALIZER_"):
            found.append(f"{name} is not known; `normalizer config` names all that are")
    return found


def _is_of_others(name: str, value: str) -> bool:
    return (
        name == "NORMALIZER_URL"  # `. .noetl/env` sets it for a person's shell
        or _SERVICE_LINK.fullmatch(name) is not None
        or (name.endswith("_PORT") and "://" in value)
    )


def documented(settings: Settings) -> str:
    """Every variable with its description, unit, default and current value, as an env file.

    A variable with its default value is commented out. Secrets are masked.
    """
    parts = []
    for field in _fields():
        meta = _meta_of(field)
        unit = f" Unit: {meta.extra['unit']}." if meta.extra and meta.extra["unit"] else ""
        default = _as_text(field.default) or "none"
        value = getattr(settings, field.name)
        default_text = MASK if _is_secret(field) and value else masked_url(_as_text(value))
        hidden = "# " if value == field.default else ""
        parts.append(
            f"# {meta.description}{unit} Default: {default}.\n"
            f"{hidden}{variable(field.name)}={default_text}\n"
        )
    return "\n".join(parts)


def masked_url(text: str) -> str:
    """The text with the password of every URL in it masked."""
    masked = _URL_PASSWORD.sub(rf"\1{MASK}@", text)
    return _QUERY_PASSWORD.sub(rf"\1{MASK}", masked)


_URL_START: Final = re.compile(r"postgres(ql)?://[^\s?]", re.IGNORECASE)
_HOST_PORT: Final = re.compile(r"\S+:[0-9]{1,5}$")
_SERVICE_LINK: Final = re.compile(
    r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_URL_PASSWORD: Final = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)\S*@", re.IGNORECASE)
_PASSWORD_OF_URL: Final = re.compile(r"(?<=:)(?<!:/)[^\s:/]\S*(?=@)|(?<=password=)[^&\s]+")
_QUERY_PASSWORD: Final = re.compile(r"([?&](?:ssl)?password=)[^&\s]*", re.IGNORECASE)


def _fields() -> Iterator[msgspec.structs.FieldInfo]:
    yield from msgspec.structs.fields(Settings)


def _field(name: str) -> msgspec.structs.FieldInfo:
    return next(field for field in _fields() if field.name == name)


def _meta_of(field: msgspec.structs.FieldInfo) -> Meta:
    meta = get_args(field.type)[1]
    assert isinstance(meta, Meta)
    return meta


def _is_secret(field: msgspec.structs.FieldInfo) -> bool:
    return bool((_meta_of(field).extra or {})["secret"])


def _converted(field: msgspec.structs.FieldInfo, text: str) -> Any:
    """Convert the value of one variable. Raises ValueError; its message holds no secret."""
    kind = get_args(field.type)[0]
    if get_origin(kind) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if get_origin(kind) is Literal:
        words = {word.upper(): word for word in get_args(kind)}
        if text.upper() not in words:
            raise ValueError(f"expected one of {', '.join(words.values())}; got {text!r}")
        return words[text.upper()]
    if kind is bool:
        text = text.lower()
    try:
        return msgspec.convert(text, field.type, strict=False)
    except msgspec.ValidationError as error:
        sentence = str(error).replace("`", "").partition(", got")[0]
        raise ValueError(f"{sentence[0].lower()}{sentence[1:]}; got {text!r}") from error


def _contradictions(settings: Settings) -> Iterator[str]:
    """Mistakes in the combination of variables, or in the files that they name."""
    if settings.database_url and not _URL_START.match(settings.database_url):
        yield "DATABASE_URL: expected postgresql://user:password@host:port/name"
    for server in settings.kafka_bootstrap_servers:
        if not _HOST_PORT.match(server):
            yield f"KAFKA_BOOTSTRAP_SERVERS: expected host:port; got {server!r}"
    if settings.kafka_max_partition_fetch_bytes > settings.kafka_fetch_max_bytes:
        yield "KAFKA_MAX_PARTITION_FETCH_BYTES: expected at most KAFKA_FETCH_MAX_BYTES"
    if settings.owner.startswith("operator:"):
        yield "NORMALIZER_INSTANCE: must not begin with operator:, which marks a moved position"
    yield from _security_contradictions(settings)


def _security_contradictions(settings: Settings) -> Iterator[str]:
    if settings.kafka_security_protocol.startswith("SASL"):
        for name in ("kafka_sasl_username", "kafka_sasl_password"):
            if not getattr(settings, name):
                yield f"{variable(name)}: needed with {settings.kafka_security_protocol}"
    for name in ("kafka_ssl_ca_file", "kafka_ssl_cert_file", "kafka_ssl_key_file"):
        path = getattr(settings, name)
        if path and not Path(path).is_file():
            yield f"{variable(name)}: no such file: {path}"
    if settings.kafka_ssl_key_file and not settings.kafka_ssl_cert_file:
        yield "KAFKA_SSL_CERT_FILE: needed with KAFKA_SSL_KEY_FILE"


def _as_text(value: object) -> str:
    match value:
        case None:
            return ""
        case tuple():
            return ",".join(value)
        case bool():
            return str(value).lower()
        case _:
            return str(value)
