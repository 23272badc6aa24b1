"""Checks variables that aren't settings: unknown ones, and those of tracing."""

from collections.abc import Iterator, Mapping

from normalizer.cli.check_result import CheckResult
from normalizer.config.environment import unknown_variables
from normalizer.observability.tracing import leads_to_grpc, why_untraced


def check_environment(environ: Mapping[str, str]) -> Iterator[CheckResult]:
    """Check that something reads each variable, and that spans can be sent if tracing is on."""
    for unknown in unknown_variables(environ):
        yield CheckResult(
            f"variable {unknown.name}",
            "unknown, so nothing reads it",
            f"{unknown.advice}, or unset it",
        )
    if mistake := why_untraced(environ) or leads_to_grpc(environ):
        # Only a warning, because the service works without spans.
        yield CheckResult("tracing", mistake.what, mistake.remedy, warns=True)
