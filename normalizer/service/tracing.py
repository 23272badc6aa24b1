"""Decides whether batches have spans: OpenTelemetry's own variables do, and the extra `otel`.

Without them nothing of OpenTelemetry is imported. docs/tracing.md says what an operator sets.
"""

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Final

from normalizer.core.batch import Batch
from normalizer.errors import ConfigurationError, RetryableError
from normalizer.settings import Settings
from normalizer.store.store import CommittedBatch
from normalizer.telemetry import describe_error, get_logger

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL: Final = "http/protobuf"

_log: Final = get_logger()


class Untraced:
    """What the service tells of its batches; here it goes nowhere, because tracing is off."""

    def begin(self) -> None:
        """A batch begins to be filled."""

    def note(self, stage: str, seconds: float) -> None:
        """That batch was just worked on for so long; `stage` is one of STAGES."""

    def batch(self, batch: Batch) -> AbstractContextManager[None]:  # noqa: ARG002 - nobody asks
        """The batch is built; inside the returned block it is written."""
        return contextlib.nullcontext()

    def failed(self, error: RetryableError) -> None:
        """Writing the batch failed, and is tried again; called inside its block."""

    def committed(self, written: CommittedBatch) -> Mapping[str, str] | None:  # noqa: ARG002 - as above
        """A transaction has committed, inside the block; the labels of an exemplar for it."""
        return None

    def close(self) -> None:
        """Send what is not sent yet, for a few seconds at most."""


@contextlib.contextmanager
def tracing(settings: Settings, environ: Mapping[str, str]) -> Iterator[Untraced]:
    """The spans of batches, as the environment says; they are sent until the end of the block.

    Whether spans can be sent decides nothing else: what is wrong with tracing is one log line.
    """
    spans = _open_spans(settings, environ)
    try:
        yield spans
    finally:
        spans.close()


def _open_spans(settings: Settings, environ: Mapping[str, str]) -> Untraced:
    if not _is_wanted(environ):
        return Untraced()
    try:
        _check(environ)
        from normalizer.service.batch_spans import open_spans  # noqa: PLC0415 - an extra

        spans = open_spans(settings)
    except ImportError:
        _log.warning("tracing_off", why="it needs pip install event-normalizer[otel]")
    except (ValueError, OSError, ConfigurationError) as error:
        _log.warning("tracing_off", why=describe_error(error))
    else:
        _log.info("tracing_on", endpoint=_first(environ, _ENDPOINTS))
        return spans
    return Untraced()


def _is_wanted(environ: Mapping[str, str]) -> bool:
    return (
        bool(_first(environ, _ENDPOINTS))
        and environ.get("OTEL_SDK_DISABLED", "").strip().lower() != "true"
        and environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() != "none"
    )


def _check(environ: Mapping[str, str]) -> None:
    """Raise ConfigurationError for a wish that this build cannot fulfil."""
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if exporter not in {"", "otlp"}:
        raise ConfigurationError(f"OTEL_TRACES_EXPORTER: expected otlp or none; got {exporter!r}")
    if (protocol := _first(environ, _PROTOCOLS)) not in {"", _PROTOCOL}:
        raise ConfigurationError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL: expected {_PROTOCOL}; got {protocol!r}"
        )


def _first(environ: Mapping[str, str], names: tuple[str, str]) -> str:
    """The variable for traces if it is set, else the one for all signals."""
    return next((text for name in names if (text := environ.get(name, "").strip())), "")


def secrets_of(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The values of the headers that go with each request: most often a key."""
    names = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
    pairs = [pair for name in names for pair in environ.get(name, "").split(",")]
    return tuple(value for pair in pairs if (value := pair.partition("=")[2].strip()))
