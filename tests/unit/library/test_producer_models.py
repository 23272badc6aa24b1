"""The Python server's requests as models: from JSON or Python to canonical bytes."""

import json
from copy import deepcopy
from typing import Any

import pytest
from pydantic import Field

from normalizer import Envelope, Normalizer, RawRecord, to_canonical
from normalizer.cli.conformance import ConformanceCase, ExpectedRejection, read_cases
from normalizer.producer_models import EventEmitRequest, EventRequest, ProducerModel

MODELS = [EventEmitRequest, EventRequest]
both = pytest.mark.parametrize("model", MODELS)
EVENT = {"execution_id": 7, "event_type": "step.enter", "step": "fetch"}


@both
def test_every_canonical_line_and_every_shape_gives_the_bytes_of_the_contract(
    model: type[ProducerModel],
) -> None:
    differing = [
        (case.id, given)
        for case in read_cases("shapes")[:: 1 if model is EventEmitRequest else 5]
        if (given := _line_or_rejected(model, case.given)) != _expected(case)
    ]

    assert differing == []


def _expected(case: ConformanceCase) -> str:
    """Return the line, or only that it's rejected, because a model may reject before the rules."""
    (line,) = case.expected
    return "rejected" if isinstance(line, ExpectedRejection) else line


def _line_or_rejected(model: type[ProducerModel], body: bytes) -> str:
    try:
        return model.model_validate_json(body).to_canonical().decode()
    except ValueError:
        return "rejected"


@both
@pytest.mark.parametrize(
    "change",
    [
        {"step": "", "node_name": "fetch"},
        {"step": "unknown", "node_name": "fetch"},
        {"step": [], "node_name": "fetch"},
        {"step": "fetch", "node_name": "other"},
        {"worker_id": 7},
        {"status": 5},
        {"meta": []},
        {"event_id": -5},
        {"parent_event_id": -1},
        {"node_id": {"a": 1}},
        {"error": {"message": "x"}},
        {"actionable": "perhaps"},
    ],
    ids=json.dumps,
)
def test_the_models_accept_what_the_rules_accept(
    model: type[ProducerModel], change: dict[str, object]
) -> None:
    sent = json.dumps(EVENT | change).encode()
    (event,) = Normalizer().normalize(RawRecord(value=sent))
    assert isinstance(event, Envelope)

    assert model.model_validate_json(sent).to_canonical() == to_canonical(event)
    assert event.step == "fetch"


def test_digits_that_no_double_holds_are_kept_and_are_floats_in_python() -> None:
    body = b'{"execution_id":7,"name":"a","payload":{"n":1.50,"m":0.12345678901234567890}}'

    request = deepcopy(EventRequest.model_validate_json(body))

    assert request.payload["n"] + 1 == 2.5
    assert b'"context":{"m":0.12345678901234567890,"n":1.50}' in request.to_canonical()


def test_a_server_takes_a_model_over_as_its_own() -> None:
    class ServerRequest(EventRequest):
        payload: dict[str, Any] = Field(default_factory=dict)
        tenant: str = "none"

    request = ServerRequest.model_validate({"execution_id": 7, "name": "a", "context": {"k": 1}})

    assert (request.execution_id, request.name, request.step) == ("7", "a", "")
    assert request.payload == {"k": 1}
    assert json.loads(request.to_canonical())["context"] == {"k": 1}


@both
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"execution_id": "0"}, "missing_execution_id: "),
        ({"context": {"n": float("nan")}}, "invalid_json: "),
        ({"step": "s" * 1001}, "too_large: "),
        ({"execution_id": -1}, "execution_id"),
        ({"execution_id": 5.4e17}, "execution_id"),
        ({"event_type": 5}, "valid string"),
    ],
    ids=str,
)
def test_a_record_without_an_event_raises_a_value_error_with_the_reason(
    model: type[ProducerModel], change: dict[str, object], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        model.model_validate(EVENT | change).to_canonical()


@both
@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[" * 100_000, "too_deep"),
        (b"{", "Expecting"),
        (b"\xff", "decode"),
        (b"[]", "dictionary"),
        (b"NaN", "dictionary"),
    ],
    ids=["deep", "cut off", "no UTF-8", "list", "number"],
)
def test_a_body_that_is_no_object_is_a_value_error(
    model: type[ProducerModel], body: bytes, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        model.model_validate_json(body)


@both
@pytest.mark.parametrize("levels", [127, 400, 500, 900, 3_000])
def test_however_deep_a_body_is_it_is_too_deep(model: type[ProducerModel], levels: int) -> None:
    body = b'{"execution_id":7,"name":"x","context":%b%b}' % (b"[" * levels, b"]" * levels)
    made: object = 1
    for _ in range(levels):
        made = {"a": made}

    with pytest.raises(ValueError, match="too_deep"):
        model.model_validate_json(body).to_canonical()
    with pytest.raises(ValueError, match="too_deep"):
        model.model_validate(EVENT | {"context": made}).to_canonical()


def test_no_error_holds_what_was_sent() -> None:
    with pytest.raises(ValueError, match="name") as raised:
        EventRequest.model_validate(EVENT | {"event_type": ["s3cret"]})

    assert "s3cret" not in str(raised.value)


def test_secrets_are_cut_out_by_the_words_of_the_subclass_too() -> None:
    class Bank(EventRequest):
        normalizer = Normalizer(redact_keys=["iban"])

    line = Bank.model_validate(EVENT | {"context": {"iban": "x", "password": "y"}}).to_canonical()

    assert b'"context":{"iban":"[REDACTED]","password":"[REDACTED]"}' in line
