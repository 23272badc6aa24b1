"""What the exit code of a command says to a script: one table for both programs."""

from typing import Final

from normalizer.errors import ConfigurationError, NormalizerError

FOUND: Final = 1
MISUSED: Final = 2
FAILED: Final = 3
STOPPED_AT_ONCE: Final = 130

EXIT_CODES: Final = {
    0: "done, or stopped by a signal",
    FOUND: "something was found",
    MISUSED: "wrong usage or settings",
    FAILED: "no answer, a refused sign-in, or trying again cannot help",
    STOPPED_AT_ONCE: "ended at once by a signal",
}
"""What was found: a check failed, a record was refused under --strict, a record is lost, rows
differ, a source was truncated, a record is not in the views yet, `up` could not start. A restart
cures neither 2 nor 3."""


def exit_code_of(error: NormalizerError) -> int:
    """The exit code of a command that this error ends."""
    return MISUSED if isinstance(error, ConfigurationError) else FAILED
