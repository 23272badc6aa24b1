"""Checks the variables that no setting is made of: unknown ones, and those of tracing."""

from collections.abc import Iterator, Mapping

from normalizer.cli.check_result import CheckResult
from normalizer.environment import unknown_variables
from normalizer.service.tracing import leads_to_grpc, why_untraced


def check_environment(environ: Mapping[str, str]) -> Iterator[CheckResult]:
    """Check that somebody reads each variable, and that spans can be sent where they are wanted."""
    for unknown in unknown_variables(environ):
        yield CheckResult(
            f"variable {unknown.name}",
            "not known, so nothing reads it",
            f"{unknown.advice}, or unset it",
        )
    if mistake := why_untraced(environ) or leads_to_grpc(environ):
        # The service works all the same, without spans.
        yield CheckResult("tracing", mistake.what, mistake.remedy, warns=True)
