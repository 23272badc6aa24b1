"""Errors of the embedded servers."""

from pathlib import Path

from normalizer.errors import NormalizerError


class EmbeddedError(NormalizerError):
    """A server of the embedded stack did not start; the message ends with the end of its log."""


class KafkaMissing(EmbeddedError):  # noqa: N818 - a state, not a mistake
    """Java, Maven or the download is missing; the message is one line that tells how to get it."""


def last_words(log: Path, lines: int = 8) -> str:
    """Return the end of a log, indented."""
    try:
        lines_read = log.read_text(errors="replace").splitlines()
    except OSError:
        return "    (no log)"
    return "\n".join(f"    {line}" for line in lines_read[-lines:])
