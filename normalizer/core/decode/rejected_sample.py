"""Takes a sample of a rejected value that's safe to show, or none."""

import codecs
import re
from typing import Final

from normalizer.core.decode.record_limits import MAX_VALUE_BYTES
from normalizer.core.redaction.sanitize import Sanitizer

MAX_SAMPLE_BYTES: Final = 2_048
BASE64_DATA_KEY: Final = b"data_base64"
"""The key of a CloudEvent whose content is in base64, so that secrets in it can't be found. Source:
docs/spec/wire-shapes.md#w7."""
_BINARY: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def sample_unless_secret(value: bytes, sanitizer: Sanitizer) -> str | None:
    """Return the first 2 kB as text, or None if they aren't text or may contain a secret.

    The whole value is searched for secrets, because its end can reveal that its beginning is one,
    for example in `{"value": x, ..., "name": "DB_PASSWORD"}`. So a value that's too large to search
    has no sample.

    If the search finds something, the sample isn't just cleaned, but left out. A rejected value
    often isn't valid JSON, so we couldn't reliably tell where the secret ends.
    """
    if len(value) > MAX_VALUE_BYTES or BASE64_DATA_KEY in value or sanitizer.has_sign(value):
        return None
    return _as_text(value, MAX_SAMPLE_BYTES)


def _as_text(value: bytes, size: int) -> str | None:
    """Return the first `size` bytes without a cut character, or None if they aren't UTF-8 text."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(value[:size], final=len(value) <= size)
    except UnicodeDecodeError:
        return None
    return None if _BINARY.search(text) else text
