"""The examples of the OpenAPI document are what the API answers."""

from typing import Any

import pytest

from projector.api.endpoints import ENDPOINTS
from projector.api.examples import examples
from tests.support.api_client import api_client
from tests.support.api_examples import (
    differences,
    insert_example_history,
    request_examples,
    shape_of,
    shortened,
)
from tests.support.stack import Database


async def test_each_example_has_the_shape_of_the_answer(database: Database) -> None:
    await insert_example_history(database)
    async with api_client(database.url) as client:
        answers = await request_examples(client)

    known = examples()

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
        for one in differences(shape_of([example.answer]), shape_of([answers[name].answer]))
    ]
    assert found == []
    assert {name: shortened(name, one) for name, one in known.items()} == known


@pytest.mark.parametrize(
    ("example", "answer", "where"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, ["$.b: in one only"]),
        ({"rows": [{"a": "1"}]}, {"rows": [{"a": 1}]}, ["$.rows[].a: ['text'] and ['number']"]),
        ({"rows": [{"a": [{"b": 1}]}]}, {"rows": [{"a": [{"c": 1}]}, {"a": None}]},
         ["$.rows[].a[].b: in one only", "$.rows[].a[].c: in one only"]),
        ({"a": None, "b": [], "c": 1}, {"a": 1, "b": [2], "c": 1.5}, []),
    ],
)  # fmt: skip
def test_another_shape_is_noticed(
    example: dict[str, Any], answer: dict[str, Any], where: list[str]
) -> None:
    assert list(differences(shape_of([example]), shape_of([answer]))) == where
