"""The exit codes of both programs. Scripts and supervisors decide by them whether to restart."""

from typing import Final

from normalizer.errors import ConfigurationError, NormalizerError, RestartNeededError

PROBLEM_FOUND: Final = 1
"""The command found a problem. For example, a check failed, --strict found a rejected record, a
record is lost, rows differ, a source was truncated, a dry run was stopped, a record isn't in the
views yet, or `up` couldn't start."""
MISUSED: Final = 2
"""Wrong usage or settings. A restart doesn't help."""
FAILED: Final = 3
"""No response, a rejected sign-in, or another error that retries can't fix. A restart doesn't help.
"""
RESTART_NEEDED: Final = 4
"""The client hangs, or we have a bug. Restart the process."""
INTERRUPTED: Final = 130
"""A signal ended the process at once."""


def exit_code_for(error: NormalizerError) -> int:
    """Return the exit code of a command that ends with this error."""
    match error:
        case ConfigurationError():
            return MISUSED
        case RestartNeededError():
            return RESTART_NEEDED
        case _:
            return FAILED
