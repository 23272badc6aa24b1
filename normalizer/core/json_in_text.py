"""Finds JSON objects and lists inside other text, as log lines have them."""

import json
import re
from collections.abc import Iterator
from typing import Final

_BEGIN: Final = re.compile(r"""[\[{]\s{0,4}["\[{]""")
_MOST_TRIES: Final = 16
"""Of one text. Each try takes time proportional to what it reads, so more would take long."""
_decoder: Final = json.JSONDecoder()


def json_spans(text: str) -> Iterator[tuple[int, int]]:
    """Give where objects and lists of JSON begin and end in the text, from left to right."""
    at = 0
    for _ in range(_MOST_TRIES):
        begin = _BEGIN.search(text, at)
        if begin is None:
            return
        try:
            _, at = _decoder.raw_decode(text, begin.start())
        except (ValueError, RecursionError):
            at = begin.start() + 1
        else:
            yield begin.start(), at
