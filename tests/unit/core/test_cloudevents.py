"""CloudEvents: what the export writes is one by the official schema, and is read as the event."""

import json
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest

from normalizer.core.cloudevents import to_cloudevent
from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Envelope, to_canonical
from tests.contract import lines
from tests.support.doc_pages import blocks

SCHEMA: Final[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "specs/cloudevents-1.0.json").read_text()
)
VALIDATOR: Final = jsonschema.Draft7Validator(SCHEMA)
LINES: Final = [line.encode() for line in lines()]

_normalize: Final = Normalizer().normalize


def _event(value: bytes) -> Envelope:
    (event,) = _normalize(RawRecord(value=value, topic="t", offset=7, recorded_ms=1783674120000))
    assert isinstance(event, Envelope), event
    return event


def test_every_event_is_a_cloudevent_by_the_official_schema() -> None:
    written = [json.loads(to_cloudevent(_event(line))) for line in LINES]

    assert [one for one in written if not VALIDATOR.is_valid(one)] == []
    assert not VALIDATOR.is_valid(written[0] | {"id": ""})
    assert not VALIDATOR.is_valid({"specversion": "1.0"})


def test_a_cloudevent_is_read_as_the_event_that_it_was_made_of() -> None:
    for line in LINES:
        event = _event(line)

        again = _event(to_cloudevent(event))

        assert to_canonical(again) == to_canonical(event)
        said = json.loads(again.extra or b"{}").keys() - json.loads(event.extra or b"{}").keys()
        assert said <= {"source", "subject", "partitionkey"}


def test_the_page_shows_the_cloudevent_of_its_line() -> None:
    (line,) = blocks("cloudevents.md", "json line")
    (shown,) = blocks("cloudevents.md", "json cloudevent")

    assert to_cloudevent(_event(line.text.strip().encode())).decode() == shown.text.strip()


@pytest.mark.parametrize("mode", ["structured", "binary"])
def test_the_page_shows_what_a_cloudevent_becomes(mode: str) -> None:
    (record,) = blocks("cloudevents.md", f"json {mode}")
    (shown,) = blocks("cloudevents.md", f"json {mode}-event")
    headers = [block.text.splitlines() for block in blocks("cloudevents.md", f"{mode}-headers")]

    sent = (line.split(": ", 1) for line in (headers[0] if headers else []))
    (event,) = _normalize(
        RawRecord(
            value=record.text.strip().encode(),
            headers=tuple((name, text.encode()) for name, text in sent),
        )
    )

    assert isinstance(event, Envelope)
    assert to_canonical(event).decode() == shown.text.strip()


def test_an_event_without_step_and_time_has_no_attribute_of_them() -> None:
    written = json.loads(
        to_cloudevent(Envelope(event_id=5, execution_id=7, event_type="a", status="RUNNING"))
    )

    assert VALIDATOR.is_valid(written)
    assert not {"subject", "time"} & written.keys()
