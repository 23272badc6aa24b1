"""Turns tracing of batches on if OpenTelemetry's environment variables ask for it.

Otherwise `open_tracing` yields a tracer that does nothing, and OpenTelemetry isn't even imported.
To install OpenTelemetry, add the extra `otel`. docs/tracing.md says which variables to set.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Final

from normalizer.config.passwords import mask_url_passwords
from normalizer.config.settings import Settings
from normalizer.errors import ConfigurationError
from normalizer.observability.tracer import NoopTracer, Tracer
from normalizer.runtime.logging_setup import describe_error_without_secrets, get_logger

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL: Final = "http/protobuf"
_HTTP_PORT: Final = "the collector's port for HTTP, which is 4318 by default"
_GRPC_PORT: Final = re.compile(r":4317(/|$)")

_log: Final = get_logger()


@contextlib.contextmanager
def open_tracing(settings: Settings, environ: Mapping[str, str]) -> Iterator[Tracer]:
    """Open the tracer that the environment configures, for the duration of the block.

    Remaining spans are sent at the end of the block. A problem with tracing never affects the
    service: it's logged in one line, and the batches are written without spans.
    """
    tracer = _open_tracer(settings, environ)
    try:
        yield tracer
    finally:
        tracer.close()


def _open_tracer(settings: Settings, environ: Mapping[str, str]) -> Tracer:
    if not _is_wanted(environ):
        return NoopTracer()
    if mistake := find_tracing_error(environ):
        _log.warning("tracing.off", why=str(mistake))
        return NoopTracer()
    try:
        from normalizer.observability.batch_spans import open_otlp_tracer  # noqa: PLC0415 - an extra

        tracer: Tracer = open_otlp_tracer(settings)
    except ImportError:
        why = "it needs the extra otel; run pip install '.[otel]' in the checkout"
        _log.warning("tracing.off", why=why)
    except (ValueError, OSError) as error:
        _log.warning("tracing.off", why=describe_error_without_secrets(error))
    else:
        _log.info("tracing.on", endpoint=_first(environ, _ENDPOINTS))
        return tracer
    return NoopTracer()


def find_tracing_error(environ: Mapping[str, str]) -> ConfigurationError | None:
    """Return why this build can't trace as the environment wants, and what to do about it."""
    if not _is_wanted(environ):
        return None
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if exporter not in {"", "otlp"}:
        return ConfigurationError(
            f"OTEL_TRACES_EXPORTER: expected otlp or none; got {exporter!r}",
            remedy="set OTEL_TRACES_EXPORTER=otlp, or none to turn tracing off",
        )
    if (protocol := _first(environ, _PROTOCOLS)) not in {"", _PROTOCOL}:
        return ConfigurationError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL: expected {_PROTOCOL}; got {protocol!r}",
            remedy=f"set OTEL_EXPORTER_OTLP_PROTOCOL={_PROTOCOL}, and in the endpoint {_HTTP_PORT}",
        )
    return None


def find_grpc_port_error(environ: Mapping[str, str]) -> ConfigurationError | None:
    """Return the error for an endpoint whose port is most likely the collector's port for gRPC."""
    endpoint = _first(environ, _ENDPOINTS)
    if not _is_wanted(environ) or not _GRPC_PORT.search(endpoint):
        return None
    return ConfigurationError(
        f"the OTLP endpoint {mask_url_passwords(endpoint)} has the port that collectors use for "
        "gRPC, but spans are sent over HTTP",
        remedy=f"use {_HTTP_PORT}",
    )


def _is_wanted(environ: Mapping[str, str]) -> bool:
    return (
        bool(_first(environ, _ENDPOINTS))
        and environ.get("OTEL_SDK_DISABLED", "").strip().lower() != "true"
        and environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() != "none"
    )


def _first(environ: Mapping[str, str], names: tuple[str, str]) -> str:
    """Return the variable for traces if it's set, otherwise the one for all signals."""
    return next((text for name in names if (text := environ.get(name, "").strip())), "")


def otel_header_secrets(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the values of the headers of each request, which are most often API keys."""
    names = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
    pairs = [pair for name in names for pair in environ.get(name, "").split(",")]
    return tuple(value for pair in pairs if (value := pair.partition("=")[2].strip()))
