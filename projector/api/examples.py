"""Example answers of the API's paths: a PostgreSQL with three hours of history gave them."""

from collections import defaultdict
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

import msgspec

FILE: Final = "examples.json"


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """An example request and what it is answered.

    path: the values of the names in the path. answer: the body; a download's is text. csv: the rows
    of the answer as CSV. Of its rows only those are kept that show a field, or a type of a field,
    that no row before them shows.
    """

    path: dict[str, str] = {}
    answer: Any = None
    csv: str = ""


def examples() -> Mapping[str, Example]:
    """The example of each operation, by its operationId; an empty one for a new operation."""
    content = files("projector.api").joinpath(FILE).read_bytes()
    return defaultdict(Example, msgspec.json.decode(content, type=dict[str, Example]))
