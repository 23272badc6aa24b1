"""What the exit code of a command says to a script: one table for both programs."""

from typing import Final

from normalizer.errors import ConfigurationError, NormalizerError, ProcessStuck

FOUND: Final = 1
"""Something was found: a check failed, a record was refused under --strict, a record is lost, rows
differ, a source was truncated, a dry run was stopped, a record is not in the views yet, `up` could
not start."""
MISUSED: Final = 2
"""Wrong usage or settings; a restart does not help."""
FAILED: Final = 3
"""No answer, a refused sign-in, or trying again cannot help; a restart does not help."""
STUCK: Final = 4
"""This process cannot go on, for a locked-up client or a mistake of ours; a restart helps."""
STOPPED_AT_ONCE: Final = 130
"""Ended at once by a signal."""


def exit_code_of(error: NormalizerError) -> int:
    """The exit code of a command that this error ends."""
    match error:
        case ConfigurationError():
            return MISUSED
        case ProcessStuck():
            return STUCK
        case _:
            return FAILED
