"""Finds JSON objects and lists inside other text, such as log lines."""

import json
import re
from collections.abc import Iterator
from typing import Final

_BEGIN: Final = re.compile(r"""[\[{]\s{0,4}["\[{]""")
_MOST_BROKEN: Final = 16
"""How many times to try text that looks like the beginning of JSON but isn't. Each try may read to
the end of the text, so more would take long."""
_decoder: Final = json.JSONDecoder()


def json_spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield where JSON objects and lists begin and end in the text, from left to right."""
    at = broken = 0
    while broken < _MOST_BROKEN and (begin := _BEGIN.search(text, at)):
        try:
            _, at = _decoder.raw_decode(text, begin.start())
        except (ValueError, RecursionError):
            at = begin.start() + 1
            broken += 1
        else:
            yield begin.start(), at
