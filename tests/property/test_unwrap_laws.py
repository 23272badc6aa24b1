"""The laws of envelopes of others: what is within becomes what it would become alone."""

import base64
from collections.abc import Callable
from typing import Any, Final

import msgspec
from hypothesis import given, strategies as st

from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.core.rebuild_record import rebuild_record
from normalizer.envelope import Envelope, Ignored, Normalized, Rejected
from tests.property.raw_events import as_json, events, records, trees
from tests.property.test_core_laws import envelopes
from tests.support.merging import as_stored

normalizer: Final = Normalizer()

BOM: Final = b"\xef\xbb\xbf"


def _object(**members: bytes) -> bytes:
    return b"{" + b",".join(b'"%b":%b' % (k.encode(), v) for k, v in members.items()) + b"}"


ENVELOPES: Final[dict[str, Callable[[bytes], bytes]]] = {
    "frame": lambda value: b"\0\0\0\0\x07" + value,
    "CloudEvent": lambda value: _object(specversion=b'"1.0"', data=value),
    "CloudEvent in base64": lambda value: _object(
        data_base64=b'"' + base64.b64encode(value) + b'"', specversion=b'"1.0"'
    ),
    "Connect": lambda value: _object(schema=b'{"type":"struct"}', payload=value),
    "frame around a CloudEvent": lambda value: (
        b"\0\0\0\0\x07" + _object(specversion=b'"1.0"', data=value)
    ),
    "CloudEvent around Connect": lambda value: _object(
        specversion=b'"1.0"', data=_object(schema=b"null", payload=value)
    ),
}


def _outcome(outcome: Normalized) -> object:
    """All of an outcome but where in the bytes a rejection found its reason."""
    match outcome:
        case Envelope():
            return as_stored(outcome)
        case Rejected(reason=reason, shape=shape, index=index):
            return reason, shape, index
        case Ignored(why=why):
            return why


@given(records(), st.sampled_from(sorted(ENVELOPES)))
def test_an_unwrapped_event_is_normalized_as_if_it_were_alone(record: RawRecord, kind: str) -> None:
    assert record.value is not None
    # A byte order mark stands at the beginning of a record, not in the middle of JSON.
    alone = msgspec.structs.replace(record, value=record.value.removeprefix(BOM))
    assert alone.value is not None

    wrapped = msgspec.structs.replace(alone, value=ENVELOPES[kind](alone.value))

    assert [*map(_outcome, normalizer.normalize(wrapped))] == [
        *map(_outcome, normalizer.normalize(alone))
    ]


@given(st.lists(st.one_of(events(), trees), max_size=3))
def test_a_bare_list_is_the_batch_of_its_items(items: list[Any]) -> None:
    bare = as_json(items)
    batch = b'{"events":%b}' % bare

    outcomes = [normalizer.normalize(RawRecord(value=value)) for value in (bare, batch)]

    assert [*map(_outcome, outcomes[0])] == [*map(_outcome, outcomes[1])]


attributes: Final = st.dictionaries(
    st.sampled_from(
        [
            *("id", "type", "time", "source", "subject", "specversion", "event_id", "payload"),
            *("events", "global_sequence", "created_at", "execution_id", "token", "step", "a\0"),
        ]
    ),
    trees,
    max_size=5,
)


@st.composite
def enveloped(draw: st.DrawFn) -> RawRecord:
    """A record in an envelope that says anything besides."""
    record = draw(records())
    assert record.value is not None
    said: dict[str, Any] = draw(attributes)
    members = {"specversion": "1.0", **said}
    if draw(st.booleans()):
        data = {"data_base64": base64.b64encode(record.value).decode()}
        value = as_json(members | data)
    else:
        within = record.value.removeprefix(BOM)
        value = as_json(members)[:-1] + b',"data":' + within + b"}"
    return msgspec.structs.replace(record, value=value)


@given(enveloped())
def test_a_row_of_an_enveloped_event_normalises_to_itself(record: RawRecord) -> None:
    for event in envelopes(record):
        again = envelopes(rebuild_record(as_stored(event)))

        assert [as_stored(each) for each in again] == [as_stored(event)]


@given(
    records(), st.lists(st.tuples(st.sampled_from(["ce_id", "ce_type", "ce_time"]), st.binary()))
)
def test_a_row_with_attributes_in_headers_normalises_to_itself(
    record: RawRecord, said: list[tuple[str, bytes]]
) -> None:
    headers = (*record.headers, ("ce_specversion", b"1.0"), *said)

    for event in envelopes(msgspec.structs.replace(record, headers=headers)):
        again = envelopes(rebuild_record(as_stored(event)))

        assert [as_stored(each) for each in again] == [as_stored(event)]


@given(enveloped())
def test_an_escape_in_a_key_changes_nothing(record: RawRecord) -> None:
    """An escape is reason to take a record apart, and says nothing else."""
    assert record.value is not None
    escaped = record.value.replace(b'"specversion"', rb'"\u0073pecversion"', 1)

    again = normalizer.normalize(msgspec.structs.replace(record, value=escaped))

    assert [*map(_outcome, again)] == [*map(_outcome, normalizer.normalize(record))]


@given(enveloped())
def test_a_secret_in_an_envelope_reaches_no_row(record: RawRecord) -> None:
    assert record.value is not None
    within = record.value.replace(b"{", b'{"password":"hunter2hunter2",')

    outcomes = normalizer.normalize(msgspec.structs.replace(record, value=within))

    assert "hunter2" not in repr(outcomes)
