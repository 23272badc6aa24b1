"""The index of the API: every path with the question that it answers."""

from collections.abc import Mapping
from typing import Any

import msgspec

from projector.api.endpoints import API_PATH


class IndexedPath(msgspec.Struct, frozen=True):
    """A path of the API, the question that it answers, and what it is about."""

    path: str
    question: str
    tag: str


def build_index(described: Mapping[str, Any]) -> list[IndexedPath]:
    """Return every path of the OpenAPI document except the index itself."""
    return [
        IndexedPath(path, one["get"]["summary"], one["get"]["tags"][0])
        for path, one in described["paths"].items()
        if path != API_PATH
    ]
