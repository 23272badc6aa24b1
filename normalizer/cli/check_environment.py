"""Checks environment variables that aren't settings, for `normalizer check`.

It finds variables that look like our settings but that nothing reads. Most of them are typos. It
also finds OpenTelemetry variables whose values would keep spans from being sent.
"""

from collections.abc import Iterator, Mapping

from normalizer.cli.check_result import CheckResult
from normalizer.config.environment import unknown_variables, unused_variables
from normalizer.config.settings import Settings
from normalizer.observability.tracing import find_grpc_port_error, find_tracing_error


def check_environment(environ: Mapping[str, str], settings: Settings) -> Iterator[CheckResult]:
    """Check that each variable has a reader, and that spans can be sent if tracing is on."""
    for unknown in unknown_variables(environ):
        yield CheckResult(
            f"variable {unknown.name}",
            "unknown, so nothing reads it",
            f"correct or unset it: {unknown.advice}",
        )
    for unused in unused_variables(settings):
        yield CheckResult(
            f"variable {unused.name}",
            f"KAFKA_SECURITY_PROTOCOL is {settings.kafka_security_protocol}, which doesn't use it",
            f"{unused.advice}, or unset it",
            warns=True,
        )
    if mistake := find_tracing_error(environ) or find_grpc_port_error(environ):
        # This is only a warning, because the service works without tracing.
        yield CheckResult("tracing", mistake.what, mistake.remedy, warns=True)
