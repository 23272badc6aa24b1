"""Finds JSON objects and lists inside other text, as log lines have them."""

import json
import re
from collections.abc import Iterator
from typing import Final

_BEGIN: Final = re.compile(r"""[\[{]\s{0,4}["\[{]""")
_MOST_BROKEN: Final = 16
"""Of one text. What only begins like JSON is read, maybe to its end, and then again from its next
character: more of it would take long."""
_decoder: Final = json.JSONDecoder()


def json_spans(text: str) -> Iterator[tuple[int, int]]:
    """Give where objects and lists of JSON begin and end in the text, from left to right."""
    at = broken = 0
    while broken < _MOST_BROKEN and (begin := _BEGIN.search(text, at)):
        try:
            _, at = _decoder.raw_decode(text, begin.start())
        except (ValueError, RecursionError):
            at = begin.start() + 1
            broken += 1
        else:
            yield begin.start(), at
