"""Reads the settings from environment variables, and reports all mistakes at once.

    settings = load_settings(os.environ, needs=("database_url",))

A message names the variable and what was expected. It never shows the value of a secret.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo

from normalizer.config.passwords import (
    DATABASE_URL_HINT,
    URL_MASK,
    is_database_url,
    mask_url_passwords,
)
from normalizer.config.settings import (
    SETTING_FIELDS,
    Settings,
    environment_variable,
    field_meta,
    is_secret_field,
)
from normalizer.config.tls_files import kafka_ssl_context
from normalizer.errors import ConfigurationError

_HOST_PORT: Final = re.compile(r"(?:\[[^\s\[\]]+\]|[^\s\[\]:;/@]+):([0-9]{1,5})")
_LAST_PORT: Final = 65_535
_SHOWN: Final = 60
PROJECTOR_VARIABLES: Final = (
    "PROJECTOR_ALLOW_ORIGINS",
    "PROJECTOR_ARCHIVE",
    "PROJECTOR_CONNECTIONS",
    "PROJECTOR_DOCS",
    "PROJECTOR_GRAFANA",
    "PROJECTOR_HOST",
    "PROJECTOR_KEEP_EVENTS",
    "PROJECTOR_KEEP_GAPS",
    "PROJECTOR_KEEP_HOURS",
    "PROJECTOR_KEEP_JOBS",
    "PROJECTOR_KEEP_MARGIN",
    "PROJECTOR_KEEP_QUARANTINE",
    "PROJECTOR_KEEP_RAW",
    "PROJECTOR_PORT",
    "PROJECTOR_THRESHOLDS",
    "PROJECTOR_TIMEOUT_S",
    "PROJECTOR_TOKEN",
)
"""The variables that options of `projector` read."""
_VARIABLES: Final = (
    *(environment_variable(field.name) for field in SETTING_FIELDS),
    *PROJECTOR_VARIABLES,
)
_PREFIXES: Final = {
    "NORMALIZER_": "`normalizer config`",
    "PROJECTOR_": "the `--help` of `projector serve` or `maintain`",
    # Variables of other programs begin with KAFKA_ too.
    "KAFKA_": "",
}
"""Where to find the list of each prefix's variables."""
_TOPIC: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")
_HTTP_URL: Final = re.compile(r"https?://[^\s/@?#]+(/[^\s@#]*)?")
_EXTENSION: Final = re.compile(r"(?!auth=)[A-Za-z]+=[\x21-\x7e]+")
"""An extension as in RFC 7628, section 3.1. `auth` is excluded, because it's the token itself."""
_NEEDED_BY: Final = {
    "OAUTHBEARER": (
        "kafka_sasl_oauthbearer_token_endpoint_url",
        "kafka_sasl_oauthbearer_client_id",
        "kafka_sasl_oauthbearer_client_secret",
    ),
    "AWS_MSK_IAM": ("kafka_sasl_aws_region",),
}
_SERVICE_LINK: Final = re.compile(
    r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)


class IgnoredVariable(msgspec.Struct, frozen=True):
    """A variable that nothing reads, and the one that was probably meant."""

    name: str
    advice: str

    def __str__(self) -> str:
        return f"{self.name} is not known; {self.advice}"


def load_settings(environ: Mapping[str, str], *, needs: tuple[str, ...] = ()) -> Settings:
    """Read the settings from an environment. `needs` names the fields that must be set.

    Raises ConfigurationError with one line for each wrong variable.
    """
    values: dict[str, Any] = {}
    mistakes: list[str] = []
    for field in SETTING_FIELDS:
        text = environ.get(environment_variable(field.name), "").strip()
        if not text:
            continue
        try:
            values[field.name] = _converted(field, text)
        except ValueError as error:
            mistakes.append(f"{environment_variable(field.name)}: {error}")
    if not mistakes:
        settings = Settings(**values)
        mistakes += _contradictions(settings)
    mistakes += [
        f"{environment_variable(name)}: not set; {field_meta(_field(name)).description}"
        for name in needs
        if not environ.get(environment_variable(name), "").strip()
    ]
    if mistakes:
        raise ConfigurationError("\n".join(mistakes))
    return Settings(**values)


def unknown_variables(environ: Mapping[str, str]) -> list[IgnoredVariable]:
    """Find environment variables that look like ours but that nothing reads, for example typos.

    Each is returned with the name that was probably meant. Other programs use the prefix KAFKA_
    too, so a variable with this prefix is reported only if it resembles one of ours. The variables
    that Kubernetes adds for every service, such as NORMALIZER_PORT or KAFKA_SERVICE_HOST, are never
    reported.
    """
    found = []
    for name in sorted(set(environ) - set(_VARIABLES)):
        prefix = next((one for one in _PREFIXES if name.startswith(one)), None)
        if prefix is None or _is_of_others(name, environ[name]):
            continue
        meant = difflib.get_close_matches(name, _VARIABLES, n=1, cutoff=0.9)
        if meant:
            found.append(IgnoredVariable(name, f"did you mean {meant[0]}?"))
        elif where := _PREFIXES[prefix]:
            found.append(IgnoredVariable(name, f"{where} lists all known ones"))
    return found


def unused_security_variables(settings: Settings) -> list[IgnoredVariable]:
    """Find variables that are set, but that KAFKA_SECURITY_PROTOCOL doesn't use."""
    protocol = settings.kafka_security_protocol
    unused = {
        "kafka_sasl_": "" if protocol.startswith("SASL") else "SASL_SSL or SASL_PLAINTEXT",
        "kafka_ssl_": "" if protocol.endswith("SSL") else "SSL or SASL_SSL",
    }
    return [
        IgnoredVariable(
            environment_variable(field.name), f"set KAFKA_SECURITY_PROTOCOL to {needed}"
        )
        for prefix, needed in unused.items()
        for field in SETTING_FIELDS
        if needed
        and field.name.startswith(prefix)
        and getattr(settings, field.name) != field.default
    ]


def format_settings_as_env_file(settings: Settings) -> str:
    """Return every variable with its description, unit, default, and value, as an env file.

    Variables at their default are commented out. Secrets are masked.
    """
    parts = []
    for field in SETTING_FIELDS:
        meta = field_meta(field)
        unit = f" Unit: {meta.extra['unit']}." if meta.extra and meta.extra["unit"] else ""
        default = _as_text(field.default) or "none"
        value = getattr(settings, field.name)
        default_text = (
            URL_MASK if is_secret_field(field) and value else mask_url_passwords(_as_text(value))
        )
        hidden = "# " if value == field.default else ""
        parts.append(
            f"# {meta.description}{unit} Default: {default}.\n"
            f"{hidden}{environment_variable(field.name)}={default_text}\n"
        )
    return "\n".join(parts)


def is_utf8_encodable(text: str) -> bool:
    """Return whether the bytes that the operating system passed were UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_of_others(name: str, value: str) -> bool:
    return (
        # `. .noetl/env` sets these in your shell
        name in {"NORMALIZER_URL", "PROJECTOR_URL"}
        or _SERVICE_LINK.fullmatch(name) is not None
        or (name.endswith("_PORT") and "://" in value)
    )


def _field(name: str) -> FieldInfo:
    return next(field for field in SETTING_FIELDS if field.name == name)


def _converted(field: FieldInfo, text: str) -> Any:
    """Convert the value of one variable. Raises ValueError, whose message never has a secret."""
    if not is_utf8_encodable(text):
        raise ValueError("expected UTF-8, but got other bytes")
    if len(text) > 1 and text[0] == text[-1] in "\"'" and not is_secret_field(field):
        # A password may begin and end with a quote.
        raise ValueError(
            "the value is in quotes. No shell removes them here, so they'd become part of the "
            "value. Remove the quotes"
        )
    kind = get_args(field.type)[0]
    if get_origin(kind) is tuple:
        if parts := tuple(part.strip() for part in text.split(",") if part.strip()):
            return parts
        raise ValueError(f"expected at least one name; got {text!r}")
    if get_origin(kind) is Literal:
        words = {word.upper(): word for word in get_args(kind)}
        if text.upper() not in words:
            raise ValueError(f"expected one of {', '.join(words.values())}; got {text!r}")
        return words[text.upper()]
    try:
        return msgspec.convert(text, field.type, strict=False)
    except msgspec.ValidationError as error:
        sentence = str(error).replace("`", "").partition(", got")[0]
        raise ValueError(f"{sentence[0].lower()}{sentence[1:]}; got {text!r}") from error


def _contradictions(settings: Settings) -> Iterator[str]:
    """Find variables that contradict each other, and files that don't exist."""
    if settings.database_url and not is_database_url(settings.database_url):
        yield f"DATABASE_URL: {DATABASE_URL_HINT}"
    for server in settings.kafka_bootstrap_servers:
        address = _HOST_PORT.fullmatch(server)
        # If a port is too large, a resolver silently takes it modulo 65,536.
        if address is None or not 1 <= int(address[1]) <= _LAST_PORT:
            yield f"KAFKA_BOOTSTRAP_SERVERS: expected host:port; got {server!r}"
    yield from _topic_contradictions(settings)
    if settings.process_name.startswith("operator:"):
        yield "NORMALIZER_INSTANCE: must not begin with operator:, which marks a moved position"
    yield from _security_contradictions(settings)


def _topic_contradictions(settings: Settings) -> Iterator[str]:
    outputs = ("kafka_canonical_topic", "kafka_rejected_topic")
    topics = [("kafka_topics", topic) for topic in settings.kafka_topics]
    for name, topic in [*topics, *((name, getattr(settings, name)) for name in outputs)]:
        if not _TOPIC.fullmatch(topic):
            yield (
                f"{environment_variable(name)}: expected 1 to 249 letters, digits, dots, _ and -, "
                f"as Kafka allows; got {topic[:_SHOWN]!r}"
            )
    for name in outputs:
        if getattr(settings, name) in settings.kafka_topics:
            yield (
                f"{environment_variable(name)}: must not be one of KAFKA_TOPICS, or the relay "
                "would read its own output"
            )
    if settings.kafka_rejected_topic == settings.kafka_canonical_topic:
        yield "KAFKA_REJECTED_TOPIC: must not be KAFKA_CANONICAL_TOPIC, whose readers expect events"


def _security_contradictions(settings: Settings) -> Iterator[str]:
    if settings.kafka_security_protocol.startswith("SASL"):
        yield from _missing_of_sasl(settings)
    token_url = settings.kafka_sasl_oauthbearer_token_endpoint_url
    if token_url and not _HTTP_URL.fullmatch(token_url):
        name = "kafka_sasl_oauthbearer_token_endpoint_url"
        yield f"{environment_variable(name)}: expected https://host/path, without user and password"
    for extension in settings.kafka_sasl_oauthbearer_extensions:
        if not _EXTENSION.fullmatch(extension):
            name = "kafka_sasl_oauthbearer_extensions"
            yield (
                f"{environment_variable(name)}: expected name=value, with only letters in the "
                f"name; got {extension!r}"
            )
    files = {
        name: path
        for name in ("kafka_ssl_ca_file", "kafka_ssl_cert_file", "kafka_ssl_key_file")
        if (path := getattr(settings, name))
    }
    missing = {name: path for name, path in files.items() if not Path(path).is_file()}
    for name, path in missing.items():
        yield f"{environment_variable(name)}: no such file: {path}"
    if settings.kafka_security_protocol.endswith("SSL") and not missing:
        try:
            kafka_ssl_context(settings)
        except ConfigurationError as error:
            yield str(error)
    if settings.kafka_ssl_key_file and not settings.kafka_ssl_cert_file:
        yield "KAFKA_SSL_CERT_FILE: needed with KAFKA_SSL_KEY_FILE"


def _missing_of_sasl(settings: Settings) -> Iterator[str]:
    mechanism = settings.kafka_sasl_mechanism
    for name in _NEEDED_BY.get(mechanism, ("kafka_sasl_username", "kafka_sasl_password")):
        if not getattr(settings, name):
            yield (
                f"{environment_variable(name)}: needed with {settings.kafka_security_protocol}, "
                f"{mechanism}"
            )
    if mechanism == "AWS_MSK_IAM" and find_spec("aws_msk_iam_sasl_signer") is None:
        yield (
            "KAFKA_SASL_MECHANISM: AWS_MSK_IAM needs the extra msk; run pip install '.[msk]' in "
            "the checkout"
        )


def _as_text(value: object) -> str:
    match value:
        case None:
            return ""
        case tuple():
            return ",".join(value)
        case _:
            return str(value)
