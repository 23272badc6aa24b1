"""A stored row without its secrets: what is hidden goes, all else stays, and once is enough."""

from typing import Any

import msgspec
import pytest

from normalizer.core.redaction.redact_stored import (
    may_need_redaction,
    redact_row,
    redact_stored_text,
)
from normalizer.core.redaction.sanitize import Sanitizer
from normalizer.envelope import Envelope
from tests.support.factories import envelope, raw_event, raw_record
from tests.support.job_runs import NORMALIZE

TOKEN = "eyJ" + "hbGciOiJIUzI1NiJ9" * 3 + ".eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
SANITIZER = Sanitizer()


def document(value: Any) -> bytes:
    return msgspec.json.encode(value)


@pytest.mark.parametrize(
    ("name", "stored", "kept"),
    [
        ("context", document({"password": "p", "n": 1}), {"password": "[REDACTED]", "n": 1}),
        ("result", document({"rows": [{"token": "p"}]}), {"rows": [{"token": "[REDACTED]"}]}),
        ("meta", document({"attempts": 0, "a": TOKEN}), {"attempts": 0, "a": "[REDACTED]"}),
        (
            "extra",
            document({"token": "p", "records": ["x"]}),
            {"token": "[REDACTED]", "records": ["x"]},
        ),
        (
            "extra",
            document({"events": [{"password": "p"}]}),
            {"events": [{"password": "[REDACTED]"}]},
        ),
        (
            "extra",
            document({"payload": TOKEN, "transaction_id": 1}),
            {"payload": "[REDACTED]", "transaction_id": 1},
        ),
        (
            "extra",
            document({"event_type": "inner", "password": "p"}),
            {"event_type": "inner", "password": "[REDACTED]"},
        ),
        ("headers", document({"authorization": "p"}), {"authorization": "[REDACTED]"}),
        (
            "coercions",
            document([{"rule": "status_unmapped", "field": "status", "from": TOKEN}]),
            [{"rule": "status_unmapped", "field": "status", "from": "[REDACTED]"}],
        ),
    ],
)
def test_secrets_of_todays_rules_go_from_every_document(
    name: str, stored: bytes, kept: Any
) -> None:
    row = envelope(0, **{name: stored})

    made = redact_row(row, SANITIZER)

    assert may_need_redaction(row, SANITIZER)
    assert msgspec.json.decode(getattr(made, name)) == kept
    assert msgspec.structs.replace(made, **{name: stored}) == row
    assert redact_row(made, SANITIZER) is made


@pytest.mark.parametrize("name", ["error", "step", "worker_id", "command_id", "node_type"])
def test_and_from_every_text(name: str) -> None:
    row = envelope(0, **{name: f"see {TOKEN}"})

    assert may_need_redaction(row, SANITIZER)
    assert getattr(redact_row(row, SANITIZER), name) == "see [REDACTED]"


def test_a_row_without_secrets_is_itself() -> None:
    row = envelope(0, context=document({"author": "a", "name": "b"}), extra=document({"a": 1}))

    assert redact_row(row, SANITIZER) is row


def test_rows_of_todays_rules_stay_as_they_are() -> None:
    """Also where it says so: a stored row is read as the record that made it was."""
    sent = raw_event(
        context={"password": "p", "note": f"bearer {TOKEN}"},
        error=f"url postgres://u:{TOKEN}@h/d",
        api_token="t",
        headers={"cookie": TOKEN},
    )
    (row,) = NORMALIZE(raw_record(0, sent, headers=(("authorization", b"Basic YTpi"),)))

    assert isinstance(row, Envelope)
    assert redact_row(row, SANITIZER) is row


def test_a_sentence_loses_its_secret_only() -> None:
    assert redact_stored_text(f"got {TOKEN}", SANITIZER) == "got [REDACTED]"
    assert redact_stored_text("execution_id: expected digits", SANITIZER) == (
        "execution_id: expected digits"
    )
