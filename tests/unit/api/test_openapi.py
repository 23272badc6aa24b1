"""The OpenAPI document says of each operation what it takes and answers, with true examples."""

from collections import defaultdict
from typing import Any, Final

import jsonschema
import msgspec
import pytest

from projector.api import openapi
from projector.api.api_reference import api_reference_as_html, example_curl_command
from projector.api.endpoints import ENDPOINTS
from projector.api.openapi import RecordedRequest, build_document

DOCUMENT: Final = msgspec.json.decode(msgspec.json.encode(build_document(ENDPOINTS, token=False)))
OPERATIONS: Final = {
    one["get"]["operationId"]: (path, one["get"]) for path, one in DOCUMENT["paths"].items()
}


def check(value: Any, schema: dict[str, Any]) -> None:
    """Raises if the schema, which may name others of the document, does not allow the value."""
    whole = {**schema, "components": DOCUMENT["components"]}
    jsonschema.validate(
        value,
        whole,
        cls=jsonschema.Draft202012Validator,
        format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
    )


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_described_and_its_examples_are_valid(name: str) -> None:
    _, operation = OPERATIONS[name]

    assert operation["summary"].endswith((".", "?"))
    assert set(operation["tags"]) <= {tag["name"] for tag in DOCUMENT["tags"]}
    for parameter in operation["parameters"]:
        assert parameter["description"], parameter["name"]
        if "example" in parameter:
            check(parameter["example"], parameter["schema"])
        else:
            assert parameter["in"] == "query", parameter["name"]
    for content in operation["responses"]["200"]["content"].values():
        example = content["examples"]["answer"]["value"]
        assert example
        check(example, content["schema"])


def test_every_schema_is_described() -> None:
    schemas = DOCUMENT["components"]["schemas"]

    assert [name for name, schema in schemas.items() if not schema.get("description")] == []


def test_a_stale_example_keeps_nobody_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    stale: defaultdict[str, RecordedRequest] = defaultdict(
        lambda: RecordedRequest(answer={"rows": [{"former": 1}]})
    )
    monkeypatch.setattr(openapi, "read_examples", lambda: stale)

    assert (
        openapi.build_document(ENDPOINTS, token=False)["paths"].keys() == DOCUMENT["paths"].keys()
    )


def test_the_page_shows_each_operation_with_its_request_and_its_answer() -> None:
    page = api_reference_as_html(DOCUMENT).decode()

    for path, operation in OPERATIONS.values():
        command = example_curl_command(path, operation)
        assert "{" not in command
        assert command.replace("&", "&amp;").replace("'", "&#x27;") in page
    answers = sum(len(one["responses"]["200"]["content"]) for _, one in OPERATIONS.values())
    assert page.count("<summary>Answer as ") == page.count("<p>An example. ") == answers
