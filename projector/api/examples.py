"""The example answers in the OpenAPI document, one per operation.

They're real answers from a database with three hours of history. `python -m
tests.support.api_examples` generates them and stores them in examples.json.
"""

from collections import defaultdict
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

import msgspec

EXAMPLES_FILE: Final = "examples.json"


class RecordedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An example request and its answer, for the OpenAPI document.

    `path` has a value for each parameter in the endpoint's path, such as the id of an execution.
    `answer` is the body: JSON, or text for a download. `csv` is the same answer as CSV. To keep the
    document short, a row is left out if earlier rows already show a value of the same type in each
    of its fields.
    """

    path: dict[str, str] = {}
    answer: Any = None
    csv: str = ""


def read_examples() -> Mapping[str, RecordedRequest]:
    """Return the example of each operation by operationId, or an empty one for a new operation."""
    content = files("projector.api").joinpath(EXAMPLES_FILE).read_bytes()
    return defaultdict(
        RecordedRequest, msgspec.json.decode(content, type=dict[str, RecordedRequest])
    )
