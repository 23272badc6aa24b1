"""The examples of the OpenAPI document are what the API answers."""

from projector.api.endpoints import ENDPOINTS
from projector.api.openapi import read_examples
from tests.support.api_client import api_client
from tests.support.api_examples import (
    differences,
    insert_example_history,
    request_examples,
    shortened,
    value_shape,
)
from tests.support.stack import Database


async def test_each_example_has_the_shape_of_the_answer(database: Database) -> None:
    await insert_example_history(database)
    async with api_client(database.url) as client:
        answers = await request_examples(client)

    known = read_examples()

    assert known.keys() == answers.keys() >= {endpoint.name for endpoint in ENDPOINTS}
    assert [
        name for name, one in answers.items() if "rows" in one.answer and not one.answer["rows"]
    ] == []
    assert {name: one.path for name, one in known.items()} == {
        name: one.path for name, one in answers.items()
    }
    found = [
        f"{name}: {one}"
        for name, example in known.items()
        for one in differences(value_shape([example.answer]), value_shape([answers[name].answer]))
    ]
    assert found == []
    assert {name: shortened(name, one) for name, one in known.items()} == known
