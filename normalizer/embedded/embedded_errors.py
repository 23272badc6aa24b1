"""The errors of an embedded server that can't start. Their messages are for the terminal."""

from pathlib import Path

from normalizer.errors import NormalizerError


class EmbeddedError(NormalizerError):
    """A server of the embedded stack didn't start.

    The message ends with the last lines of its log.
    """


class KafkaRequirementMissingError(EmbeddedError):
    """Java, Maven, or the download is missing. The message says in one line how to get it."""


def last_log_lines(log: Path, lines: int = 8) -> str:
    """Return the end of a log, indented."""
    try:
        lines_read = log.read_text(errors="replace").splitlines()
    except OSError:
        return "    (no log)"
    return "\n".join(f"    {line}" for line in lines_read[-lines:])
