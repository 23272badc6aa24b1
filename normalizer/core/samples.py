"""Gives the beginning of a refused value as everybody may read it, or nothing."""

import codecs
import re
from typing import Final

from normalizer.core.sanitize import Sanitizer, mend
from normalizer.jsontext import parse

SAMPLE_BYTES: Final = 2_048
_LOOKED_AT_BYTES: Final = 4_096
_PARSED_BYTES: Final = 1 << 16
_BINARY: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def sample_of(value: bytes, sanitizer: Sanitizer) -> str | None:
    """The first 2 kB as text; None where they are none, or hold what may be a secret.

    A JSON value is redacted whole; in other text a secret has no known end, so nothing is given.
    """
    text = _as_text(value, SAMPLE_BYTES)
    if text is None or not sanitizer.suspects(value[:_LOOKED_AT_BYTES]):
        return text
    if len(value) > _PARSED_BYTES:
        return None
    try:
        whole = value.decode()
        cleaned = mend(sanitizer.clean(whole, parse(whole)).text)
    except (ValueError, RecursionError):
        return None
    return _as_text(cleaned.encode(), SAMPLE_BYTES)


def _as_text(value: bytes, size: int) -> str | None:
    """So many bytes of it, without a letter that is cut; None for binary and for invalid UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(value[:size], final=len(value) <= size)
    except UnicodeDecodeError:
        return None
    return None if _BINARY.search(text) else text
