"""Gives the beginning of a refused value as everybody may read it, or nothing."""

import codecs
import re
from typing import Final

from normalizer.core.sanitize import Sanitizer

SAMPLE_BYTES: Final = 2_048
_LOOKED_AT_BYTES: Final = 4_096
_BINARY: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def sample_of(value: bytes, sanitizer: Sanitizer) -> str | None:
    """The first 2 kB as text; None where they are none, or where a secret may be among them.

    What was refused is often no JSON, and in other text nobody knows where a secret ends.
    """
    text = _as_text(value, SAMPLE_BYTES)
    return None if text is None or sanitizer.suspects(value[:_LOOKED_AT_BYTES]) else text


def _as_text(value: bytes, size: int) -> str | None:
    """So many bytes of it, without a letter that is cut; None for binary and for invalid UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(value[:size], final=len(value) <= size)
    except UnicodeDecodeError:
        return None
    return None if _BINARY.search(text) else text
