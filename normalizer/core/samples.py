"""Takes a sample of a refused value that is safe to show, or none."""

import codecs
import re
from typing import Final

from normalizer.core.sanitize import Sanitizer

SAMPLE_BYTES: Final = 2_048
_LOOKED_AT_BYTES: Final = 4_096
ENCODED: Final = b"data_base64"
"""The key of a CloudEvent under which nothing can be seen. Source: docs/spec/wire-shapes.md#w7."""
_BINARY: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def sample_of(value: bytes, sanitizer: Sanitizer) -> str | None:
    """The first 2 kB as text; None where they are no text, or may hold a secret.

    Secrets are not cut out: a refused value is often no JSON, and the end of a secret is unknown.
    """
    text = _as_text(value, SAMPLE_BYTES)
    beginning = value[:_LOOKED_AT_BYTES]
    if text is None or ENCODED in beginning or sanitizer.suspects(beginning):
        return None
    return text


def _as_text(value: bytes, size: int) -> str | None:
    """The first `size` bytes without a cut character; None for binary and for invalid UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(value[:size], final=len(value) <= size)
    except UnicodeDecodeError:
        return None
    return None if _BINARY.search(text) else text
